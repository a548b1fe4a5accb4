"""Pictures: bodies over images, flow in colours, contact sheets, a report page."""

from flowhmr.view.overlay import bodies_in_image, draw_body, draw_box, draw_joints
from flowhmr.view.page import Figure, write_page
from flowhmr.view.sheet import caption, contact_sheet, flow_to_rgb

__all__ = [
    "Figure",
    "bodies_in_image",
    "caption",
    "contact_sheet",
    "draw_body",
    "draw_box",
    "draw_joints",
    "flow_to_rgb",
    "write_page",
]
