"""What two bodies say of the motion between two images: displacement of visible vertices."""

from flowhmr.bodyflow.displacement import (
    BodyFlow,
    VertexFlow,
    body_flow,
    swap_body_flow,
    vertex_flow,
)

__all__ = ["BodyFlow", "VertexFlow", "body_flow", "swap_body_flow", "vertex_flow"]
