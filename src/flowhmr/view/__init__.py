"""Pictures: bodies over images, flow in colours, contact sheets, plots, a report page."""

from flowhmr.view.layers import depth_to_rgb, draw_points, mask_to_rgb, parts_to_rgb
from flowhmr.view.overlay import bodies_in_image, draw_body, draw_box, draw_joints
from flowhmr.view.page import Figure, write_page
from flowhmr.view.plots import plot_bars, plot_curves, plot_frames, plot_histograms
from flowhmr.view.report import ReportFigure, ReportParts, Timeline, write_report
from flowhmr.view.scene import SceneOverlay
from flowhmr.view.sheet import caption, contact_sheet, flow_to_rgb

__all__ = [
    "Figure",
    "ReportFigure",
    "ReportParts",
    "SceneOverlay",
    "Timeline",
    "bodies_in_image",
    "caption",
    "contact_sheet",
    "depth_to_rgb",
    "draw_body",
    "draw_box",
    "draw_joints",
    "draw_points",
    "flow_to_rgb",
    "mask_to_rgb",
    "parts_to_rgb",
    "plot_bars",
    "plot_curves",
    "plot_frames",
    "plot_histograms",
    "write_page",
    "write_report",
]
