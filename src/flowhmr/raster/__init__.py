"""Triangles in pixels: which vertices are visible, which face wins each pixel, and where in it.

Everything here looks along +z at meshes in pixel coordinates (x right, y down, z away, in the
unit of x and y): the compiled kernels, their readable float64 twins (``*_reference``), and the
maps they give.
"""

from flowhmr.raster.fragments import (
    Fragments,
    interpolate,
    rasterise,
    vertices_of_winning_faces,
)
from flowhmr.raster.reference import rasterise_reference, visible_vertices_reference
from flowhmr.raster.visibility import visible_vertices

__all__ = [
    "Fragments",
    "interpolate",
    "rasterise",
    "rasterise_reference",
    "vertices_of_winning_faces",
    "visible_vertices",
    "visible_vertices_reference",
]
