"""The readable twins: what the kernels compute, said with torch in float64, every pair tested."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from flowhmr.raster.fragments import Fragments, interpolate
from flowhmr.raster.inputs import checked_meshes
from flowhmr.raster.render import DEPTH_GAP_PX
from flowhmr.raster.visibility import DEPTH_TOLERANCE_PX

PAIRS_AT_ONCE = 100_000
"""Point-triangle pairs held in memory at a time: few enough to stay in the cache."""


def visible_vertices_reference(
    verts_px: Float[Tensor, "*b v 3"], faces: Int[Tensor, "f 3"], height: int, width: int
) -> Bool[Tensor, "*b v"]:
    """Twin of `visible_vertices`: every candidate vertex against every front face."""
    meshes = checked_meshes(verts_px, faces, height, width)
    size = torch.tensor([width, height], dtype=torch.float64)
    visible = torch.zeros(meshes.verts_px.shape[:2], dtype=torch.bool)
    for verts, shown in zip(meshes.verts_px, visible):
        front = meshes.faces.long()[_is_front(verts[meshes.faces.long()])]
        corners = verts[front]
        shown[front.flatten()] = True
        shown &= ((verts[:, :2] >= 0) & (verts[:, :2] <= size)).all(-1)
        candidates = torch.nonzero(shown)[:, 0]
        for chunk in candidates.split(max(1, PAIRS_AT_ONCE // max(1, len(front)))):
            weights = _edge_functions(corners[:, :, :2], verts[chunk, :2])
            depth = (weights * corners[:, :, 2]).sum(-1) / weights.sum(-1)
            incident = (front == chunk[:, None, None]).any(-1)
            nearer = depth < verts[chunk, 2:] - DEPTH_TOLERANCE_PX
            shown[chunk] = ~(_covers(weights) & nearer & ~incident).any(-1)
    return visible.reshape(verts_px.shape[:-1]).to(verts_px.device)


def rasterise_reference(
    verts_px: Float[Tensor, "*b v 3"], faces: Int[Tensor, "f 3"], height: int, width: int
) -> Fragments:
    """Twin of `rasterise`: every pixel centre against every front face that crosses its row."""
    meshes = checked_meshes(verts_px, faces, height, width)
    count, lead = len(meshes.verts_px), verts_px.shape[:-2]
    face_ids = torch.full((count, height, width), -1, dtype=torch.int32)
    barycentrics = torch.zeros((count, height, width, 3))
    depth = torch.full((count, height, width), torch.inf)
    x_px = torch.arange(width, dtype=torch.float64) + 0.5
    for mesh, verts in enumerate(meshes.verts_px):
        corners = verts[meshes.faces.long()]
        is_front = _is_front(corners)
        low, high = corners[:, :, 1].amin(-1), corners[:, :, 1].amax(-1)
        for row in range(height):
            y_px = row + 0.5
            crossing = torch.nonzero(is_front & (low <= y_px) & (high >= y_px))[:, 0]
            if len(crossing) == 0:
                continue
            centres_px = torch.stack([x_px, torch.full_like(x_px, y_px)], -1)
            weights = _edge_functions(corners[crossing, :, :2], centres_px)
            covered = _covers(weights)
            weights = weights / weights.sum(-1, keepdim=True)
            z = (weights * corners[crossing, :, 2]).sum(-1)
            nearest, winner = z.where(covered, torch.inf).min(1)
            hit = torch.nonzero(nearest < torch.inf)[:, 0]
            face_ids[mesh, row, hit] = crossing[winner[hit]].int()
            barycentrics[mesh, row, hit] = weights[hit, winner[hit]].float()
            depth[mesh, row, hit] = nearest[hit].float()
    return Fragments(
        face_ids=face_ids.reshape(*lead, height, width).to(verts_px.device),
        barycentrics=barycentrics.reshape(*lead, height, width, 3).to(verts_px.device),
        depth=depth.reshape(*lead, height, width).to(verts_px.device),
    )


def render_attributes_reference(
    verts_px: Float[Tensor, "*b v 3"],
    faces: Int[Tensor, "f 3"],
    attributes: Float[Tensor, "*#b v c"],
    height: int,
    width: int,
) -> Float[Tensor, "*b h w c"]:
    """Twin of `render_attributes`, with the gradient that autograd makes of moving pictures."""
    fragments = rasterise_reference(verts_px, faces, height, width)
    attributes = attributes.expand(*verts_px.shape[:-2], *attributes.shape[-2:])
    image, depth = interpolate(fragments, faces, attributes), fragments.depth
    # How far the surface at each pixel moves: nothing, with a gradient.
    moved_px = interpolate(fragments, faces, verts_px[..., :2])
    x_px, y_px = (moved_px - moved_px.detach()).to(image.dtype).unbind(-1)
    along_x = _change_along_rows(image.detach(), x_px, depth)
    along_y = _change_along_rows(image.detach().transpose(-3, -2), y_px.mT, depth.mT)
    return image + along_x + along_y.transpose(-3, -2)


def _change_along_rows(
    image: Float[Tensor, "*b h w c"],
    moved_px: Float[Tensor, "*b h w"],
    depth: Float[Tensor, "*b h w"],
) -> Float[Tensor, "*b h w c"]:
    """What an image gains when its surfaces move along its rows by far less than a pixel."""
    left, right = image[..., :-1, :], image[..., 1:, :]
    nearer = depth[..., 1:] - depth[..., :-1]  # of the left one; NaN between background
    share = torch.where(nearer.abs() > DEPTH_GAP_PX, (nearer > 0).to(image.dtype), 0.5)
    border_px = share * moved_px[..., :-1] + (1 - share) * moved_px[..., 1:]
    # The left one takes what lies between the two centres: half of it in each of the two pixels.
    gain = (left - right) * border_px[..., None] / 2
    return pad(gain, (0, 0, 0, 1)) + pad(gain, (0, 0, 1, 0))


def _is_front(corners: Float[Tensor, "f 3 3"]) -> Bool[Tensor, "f"]:
    """Counter-clockwise on the y-down image, where areas are negative."""
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0] < 0


def _edge_functions(
    corners_px: Float[Tensor, "f 3 2"], points_px: Float[Tensor, "n 2"]
) -> Float[Tensor, "n f 3"]:
    """Twice the signed area that the point spans with the edge opposite to each corner."""
    to_corners = corners_px - points_px[:, None, None]
    x, y = to_corners.unbind(-1)
    return x.roll(-1, -1) * y.roll(-2, -1) - y.roll(-1, -1) * x.roll(-2, -1)


def _covers(weights: Float[Tensor, "n f 3"]) -> Bool[Tensor, "n f"]:
    """Inside or on an edge of a front triangle, whose edge functions are negative inside."""
    return (weights <= 0).all(-1) & (weights.sum(-1) < 0)
