"""Triangles in pixels: visible vertices, the face that wins each pixel, pictures with a gradient.

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
from flowhmr.raster.reference import (
    rasterise_reference,
    render_attributes_reference,
    visible_vertices_reference,
)
from flowhmr.raster.render import render_attributes
from flowhmr.raster.visibility import visible_vertices

__all__ = [
    "Fragments",
    "interpolate",
    "rasterise",
    "rasterise_reference",
    "render_attributes",
    "render_attributes_reference",
    "vertices_of_winning_faces",
    "visible_vertices",
    "visible_vertices_reference",
]
