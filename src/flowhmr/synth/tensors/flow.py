"""Twin of `flowhmr.synth.motion_kernels` in tensor operations: all pairs of frames at once."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int32, Int64
from torch import Tensor

from flowhmr.synth.motion_kernels import BODY_TOLERANCE_M, CENTRE, THING_TOLERANCE
from flowhmr.synth.places import Place
from flowhmr.synth.shots import Shot
from flowhmr.synth.tensors.fused import fusible
from flowhmr.synth.tensors.things import turn_matrices, unproject
from flowhmr.synth.things import DOME, FLOOR, KIND, MEDIA, WALLS


@dataclass(frozen=True, eq=False)
class PairTensors:
    """How things move between the frames of some pairs, and where bodies are in the other one."""

    here: Int64[Tensor, "p"]
    """The frame whose pixels are asked for..."""
    there: Int64[Tensor, "p"]
    """... and the one they move to."""
    moves: Float32[Tensor, "12 pn"]
    """For each pair and thing a matrix and a vector, row by row: a pixel p = (x_px, y_px, 1) at
    depth s goes to ``s (p + matrix @ p) + vector``, in pixels times depth."""
    drift_px: Float32[Tensor, "p 3"]
    """How far `MEDIA` moves (x, y), and whether that is known."""
    kinds: Int64[Tensor, "n"]
    """Of the things."""
    verts_px: Float32[Tensor, "p a v 3"]
    """Vertices in the axes of the other frame's camera, metres; x and y times its focal length."""
    middle_px: Float32[Tensor, "p 2"]
    """The principal point of that camera."""
    faces: Int64[Tensor, "f 3"]
    """Faces of a body."""


def pair_tensors(
    place: Place,
    scene_shot: Shot,
    shot: Shot,
    verts_cam: Float32[Tensor, "a t v 3"],
    faces: Int64[Tensor, "f 3"],
    pairs: Int64[np.ndarray, "p 2"],
    drift_px: Float[np.ndarray, "p 3"],
) -> PairTensors:
    """What `flow_between` needs to know of some pairs of frames.

    Args:
        place: the things.
        scene_shot: the camera that sees them.
        shot: the camera that sees people.
        verts_cam: vertices of the people in its axes.
        faces: of each of them.
        pairs: numbers of the frames: this one, the other one.
        drift_px: of `MEDIA`, and whether it is known.
    """
    device = verts_cam.device
    here, there = torch.from_numpy(np.ascontiguousarray(pairs.T)).to(device)
    lens = torch.from_numpy(shot.lens_px[pairs[:, 1]].astype(np.float32)).to(device)
    stretch = torch.stack([lens[:, 0], lens[:, 0], torch.ones_like(lens[:, 0])], -1)
    return PairTensors(
        here=here,
        there=there,
        moves=torch.from_numpy(_moves(place, scene_shot, *pairs.T)).to(device),
        drift_px=torch.from_numpy(drift_px.astype(np.float32)).to(device),
        kinds=torch.from_numpy(place.things[:, KIND].astype(np.int64)).to(device),
        verts_px=(verts_cam[:, there] * stretch[:, None]).transpose(0, 1).contiguous(),
        middle_px=lens[:, 1:],
        faces=faces,
    )


def _moves(
    place: Place, shot: Shot, here: np.ndarray, there: np.ndarray
) -> Float32[np.ndarray, "12 pn"]:
    """In float64 and less the identity, so that what stands still hardly moves in float32."""
    before, after = place.poses[here], place.poses[there]
    turn = np.swapaxes(turn_matrices(after), -1, -2) @ turn_matrices(before)
    to_px = (np.linalg.inv(unproject(shot.lens_px[there])) @ shot.rotmats[there])[:, None]
    from_px = np.swapaxes(shot.rotmats[here], -1, -2) @ unproject(shot.lens_px[here])
    matrix = to_px @ turn @ from_px[:, None] - np.eye(3)
    eye = (turn @ (shot.centres_m[here][:, None] - before[..., :3])[..., None])[..., 0]
    shift = eye + after[..., :3] - shot.centres_m[there][:, None]
    rows = np.concatenate(
        [matrix.reshape(*eye.shape[:2], 9), (to_px @ shift[..., None])[..., 0]], -1
    )
    return np.ascontiguousarray(rows.reshape(-1, 12).T, np.float32)


@fusible
def flow_between(
    pairs: PairTensors,
    ids: Int32[Tensor, "t h w"],
    depth_m: Float32[Tensor, "t h w"],
    weights: Float32[Tensor, "t h w 3"],
) -> tuple[Float32[Tensor, "p h w 2"], Bool[Tensor, "p h w"]]:
    """Displacement of what each pixel's centre shows, and whether it is seen in the other frame.

    Args:
        pairs: which frames, and what moves between them.
        ids, depth_m, weights: the maps of all frames.
    """
    height, width = ids.shape[1:]
    pair = torch.arange(len(pairs.here), device=ids.device)[:, None, None]
    seen, depth = ids[pairs.here], depth_m[pairs.here]
    on_body = seen >= 0
    thing = (-1 - seen).clamp(min=0)
    kind = torch.where(on_body, -1, pairs.kinds[thing])
    x = torch.arange(width, device=ids.device) + 0.5
    y = torch.arange(height, device=ids.device)[:, None] + 0.5
    # Things move by a homography and a parallax. Kept as what differs from no motion at all.
    m = pairs.moves[:, pair * len(pairs.kinds) + thing]
    nearer = m[6] * x + m[7] * y + m[8]
    z = depth * (1 + nearer) + m[11]
    dx = depth * (m[0] * x + m[1] * y + m[2] - x * nearer) + m[9] - x * m[11]
    dy = depth * (m[3] * x + m[4] * y + m[5] - y * nearer) + m[10] - y * m[11]
    # On bodies the same place of the surface is looked for.
    body = _on_body_there(pairs, pair, seen, weights[pairs.here])
    middle_x, middle_y = pairs.middle_px[:, :, None, None].unbind(1)
    z = torch.where(on_body, body[..., 2], z)
    dx = torch.where(on_body, body[..., 0] + (middle_x - x) * z, dx)
    dy = torch.where(on_body, body[..., 1] + (middle_y - y) * z, dy)
    is_media = kind == MEDIA
    # These have no depth or cannot hide themselves.
    any_depth = is_media | (kind == FLOOR) | (kind == WALLS) | (kind == DOME)
    moves = (z >= 0.01) & ~is_media
    drift_x, drift_y, is_known = pairs.drift_px[:, :, None, None].unbind(1)
    dx = torch.where(is_media, drift_x, torch.where(moves, dx / z, 0))
    dy = torch.where(is_media, drift_y, torch.where(moves, dy / z, 0))
    shown = _seen_there(pairs, (x + dx, y + dy, z), seen, any_depth, ids, depth_m)
    valid = shown & (moves | (is_media & (is_known > 0)))
    return torch.stack([dx, dy], -1), valid


def _on_body_there(
    pairs: PairTensors,
    pair: Int64[Tensor, "p 1 1"],
    seen: Int32[Tensor, "p h w"],
    weights: Float32[Tensor, "p h w 3"],
) -> Float32[Tensor, "p h w 3"]:
    """Where the places on bodies are, as `PairTensors.verts_px`."""
    people, verts = pairs.verts_px.shape[1:3]
    seen = seen.clamp(min=0)
    who = torch.div(seen, len(pairs.faces), rounding_mode="floor")
    corners = pairs.faces[seen - who * len(pairs.faces)]
    corners = corners + ((pair * people + who) * verts)[..., None]
    return (weights[..., None] * pairs.verts_px.reshape(-1, 3)[corners]).sum(-2)


def _seen_there(
    pairs: PairTensors,
    at: tuple[Tensor, Tensor, Tensor],
    seen: Int32[Tensor, "p h w"],
    any_depth: Bool[Tensor, "p h w"],
    ids: Int32[Tensor, "t h w"],
    depth_m: Float32[Tensor, "t h w"],
) -> Bool[Tensor, "p h w"]:
    """Whether the four pixels around a point show the same body or thing at its depth."""
    (x, y, z), (height, width) = at, ids.shape[1:]
    inside = (x >= 0) & (x <= width) & (y >= 0) & (y <= height)
    left, top = ((v - CENTRE).clamp(-1, max(height, width)).floor().long() for v in (x, y))
    rows = torch.stack([top, top, top + 1, top + 1]).clamp(0, height - 1)
    columns = torch.stack([left, left + 1, left, left + 1]).clamp(0, width - 1)
    # Beyond the border the pixel on it is asked, which is one of the four anyway.
    pixel = (pairs.there[:, None, None] * height + rows) * width + columns
    others, depth = ids.view(-1)[pixel], depth_m.view(-1)[pixel]
    same = _whose(pairs, others) == _whose(pairs, seen)
    on_body = (same & ((depth - z).abs() < BODY_TOLERANCE_M + 0.004 * z)).any(0)
    tolerance = THING_TOLERANCE * z + 0.02
    nearest = torch.where(same, depth, torch.inf).amin(0)
    furthest = torch.where(same, depth, -torch.inf).amax(0)
    on_thing = (nearest - tolerance < z) & (z < furthest + tolerance)
    shown = torch.where(seen >= 0, on_body, on_thing | (any_depth & same.any(0)))
    return inside & shown


def _whose(pairs: PairTensors, ids: Int32[Tensor, "*b"]) -> Int32[Tensor, "*b"]:
    """Number of the person, or the negative id of the thing."""
    who = torch.div(ids, len(pairs.faces), rounding_mode="floor")
    return torch.where(ids >= 0, who, ids)
