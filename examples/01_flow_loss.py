"""The optical-flow loss on the open body: what it is zero for, and what it pulls towards."""

import torch

from flowhmr.body import open_body
from flowhmr.bodyflow import body_flow
from flowhmr.cameras import WeakCamera, project_weak
from flowhmr.flow import FlowPair
from flowhmr.losses import FlowLossConfig, flow_terms

SIZE = 224

body = open_body()
# Facing the camera: joint 0 carries the body's axes (y up) into the camera's (Y down).
params = body.rest_params(1)
params.rotmats[:, 0] = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
verts_m = body.mesh(params).verts

# The image says: everything moves 3 px to the right.
flow = torch.zeros(1, SIZE, SIZE, 2)
flow[..., 0] = 3.0
valid = torch.ones(1, SIZE, SIZE, dtype=torch.bool)
image = FlowPair(forward=flow, backward=-flow, forward_valid=valid, backward_valid=valid)


def loss_of(second_camera: torch.Tensor) -> torch.Tensor:
    """The loss when the first camera is (0.9, 0, 0) and the second is given."""
    first = project_weak(verts_m, WeakCamera(torch.tensor([[0.9, 0.0, 0.0]])), SIZE)
    second = project_weak(verts_m, WeakCamera(second_camera), SIZE)
    moved = body_flow(first, second, body.faces, SIZE)
    weights = torch.ones(len(body.v_template))
    return flow_terms(moved, image, weights, FlowLossConfig()).flow.sum()


still = torch.tensor([[0.9, 0.0, 0.0]])
along = torch.tensor([[0.9, 3 * 2 / SIZE, 0.0]])  # 3 px in crop half-widths
print(f"body stands still:         {float(loss_of(still)):.4f}  (the mean flow squared, scaled)")
print(f"body moves with the image: {float(loss_of(along)):.4f}")

camera = still.clone().requires_grad_(True)
optimiser = torch.optim.Adam([camera], lr=0.003)
for _ in range(100):
    optimiser.zero_grad()
    loss_of(camera).backward()
    optimiser.step()
moved_px = float(camera.detach()[0, 1]) * SIZE / 2
print(f"after 100 steps of Adam on the second camera it moved {moved_px:.2f} px to the right")
assert abs(moved_px - 3) < 0.1
