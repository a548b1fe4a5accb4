"""Cameras, crops and the one home of the pixel-centre rule."""

from flowhmr.cameras.crop import Crop, between_crops, crop_from_box, square_box, warp_image
from flowhmr.cameras.perspective import (
    PerspectiveCamera,
    translation_from_weak,
    weak_from_translation,
)
from flowhmr.cameras.pixels import (
    grid_from_px,
    opencv_from_px,
    pixel_centres_px,
    px_from_opencv,
    resize_px,
    sample_map,
)
from flowhmr.cameras.view import View, view_of
from flowhmr.cameras.weak import WeakCamera, fit_weak_camera, project_weak

__all__ = [
    "Crop",
    "PerspectiveCamera",
    "View",
    "WeakCamera",
    "between_crops",
    "crop_from_box",
    "fit_weak_camera",
    "grid_from_px",
    "opencv_from_px",
    "pixel_centres_px",
    "project_weak",
    "px_from_opencv",
    "resize_px",
    "sample_map",
    "square_box",
    "translation_from_weak",
    "view_of",
    "warp_image",
    "weak_from_translation",
]
