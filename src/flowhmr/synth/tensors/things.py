"""Twin of `flowhmr.synth.things` in tensor operations: all frames of a clip at once, on any device.

Float32 throughout: rays are carried into each thing's axes in float64 on the host, once a frame
and thing, and the curved solids are met by way of the ray's point nearest to their middle, which
cancels less than the textbook discriminant.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int32, Int64
from torch import Tensor

from flowhmr.synth.places import Place
from flowhmr.synth.shots import Shot
from flowhmr.synth.tensors.fused import fusible
from flowhmr.synth.things import (
    BOX,
    CYLINDER,
    DOME,
    ELLIPSOID,
    FLOOR,
    HALF,
    KIND,
    MEDIA,
    NOWHERE,
    POSE_COLUMNS,
    WALLS,
)

_NEAREST_CORNER_M = 0.02
_NO_POSE = np.array([0.0, 0.0, 0.0, 1.0, 0.0])


@dataclass(frozen=True, eq=False)
class SceneTensors:
    """The things of a clip and the cameras that see them, on a device.

    Tables have a column for each frame and thing, at ``frame * (n + 1) + thing``; thing ``n`` is
    the world itself.
    """

    place: Place
    """What the tables were made from."""
    shot: Shot
    """The scene's camera, pixels of the images."""
    kinds: tuple[int, ...]
    """Kind of each thing, known without asking the device."""
    things: Float32[Tensor, "c n"]
    """Columns of `flowhmr.synth.things`, as rows."""
    origins: Float32[Tensor, "3 tn"]
    """The camera, in the thing's axes."""
    rays: Float32[Tensor, "9 tn"]
    """Matrices, row by row: the ray of a pixel is ``m @ (x_px, y_px, 1)``, of unit depth."""
    poses: Float32[Tensor, "5 tn"]
    """Position and turn of the things."""
    focal_px: Float32[Tensor, "t"]
    """Focal lengths."""

    def __len__(self) -> int:
        return len(self.shot)

    def column(self, frame: Int64[Tensor, "k"], thing: Int64[Tensor, "k"]) -> Int64[Tensor, "k"]:
        """Where in the tables a thing of a frame is."""
        return frame * (self.things.shape[1] + 1) + thing


@dataclass(frozen=True, eq=False)
class Seen:
    """What samples of the image show, in each frame."""

    ids: Int32[Tensor, "t h w"]
    """Face of a person, or -1 - n for thing n."""
    depth_m: Float32[Tensor, "t h w"]
    """Z in camera axes."""


def scene_tensors(place: Place, shot: Shot, device: torch.device) -> SceneTensors:
    """The tables of a place and of the camera that sees it."""
    frames = len(shot)
    world = np.broadcast_to(_NO_POSE, (frames, 1, POSE_COLUMNS))
    poses = np.concatenate([place.poses, world], 1)
    turn = turn_matrices(poses)
    origins = turn @ (shot.centres_m[:, None] - poses[..., :3])[..., None]
    rays = turn @ (np.swapaxes(shot.rotmats, 1, 2) @ unproject(shot.lens_px))[:, None]
    packed = np.concatenate(
        [origins[..., 0], rays.reshape(*rays.shape[:2], 9), poses], -1, dtype=np.float64
    )
    # One transfer for all of them.
    table = torch.from_numpy(packed.reshape(-1, 17).T.astype(np.float32)).to(device)
    return SceneTensors(
        place=place,
        shot=shot,
        kinds=tuple(place.things[:, KIND].astype(int).tolist()),
        things=torch.from_numpy(np.ascontiguousarray(place.things.T)).to(device),
        origins=table[:3],
        rays=table[3:12],
        poses=table[12:],
        focal_px=torch.from_numpy(shot.lens_px[:, 0].astype(np.float32)).to(device),
    )


def turn_matrices(poses: Float[np.ndarray, "*b 5"]) -> Float[np.ndarray, "*b 3 3"]:
    """World to thing, for directions."""
    cos, sin = poses[..., 3], poses[..., 4]
    zero, one = np.zeros_like(cos), np.ones_like(cos)
    rows = np.stack([cos, zero, -sin, zero, one, zero, sin, zero, cos], -1)
    return rows.reshape(*cos.shape, 3, 3)


def unproject(lens_px: Float[np.ndarray, "*b 3"]) -> Float[np.ndarray, "*b 3 3"]:
    """Matrices that take (x_px, y_px, 1) to a ray of unit depth in camera axes."""
    focal, x, y = np.moveaxis(lens_px, -1, 0)
    zero, one = np.zeros_like(focal), np.ones_like(focal)
    rows = np.stack([1 / focal, zero, -x / focal, zero, 1 / focal, -y / focal, zero, zero, one], -1)
    return rows.reshape(*focal.shape, 3, 3)


_Point = list[Tensor]
_Meet = Callable[[_Point, _Point, _Point], Tensor]


def _meet_floor(origin: _Point, ray: _Point, half: _Point) -> Tensor:
    return torch.where(ray[1] < -1e-9, -origin[1] / ray[1], NOWHERE)


def _leave_walls(origin: _Point, ray: _Point, half: _Point) -> Tensor:
    x, y, z = ((torch.copysign(h, d) - o) / d for o, d, h in zip(origin, ray, half))
    far = x.minimum(y).minimum(z)
    return torch.where(far > 0, far, NOWHERE)


def _meet_box(origin: _Point, ray: _Point, half: _Point) -> Tensor:
    near = far = None
    for o, d, h in zip(origin, ray, half):
        a, b = (-h - o) / d, (h - o) / d
        enter, leave = a.minimum(b), a.maximum(b)
        near = enter if near is None else near.maximum(enter)
        far = leave if far is None else far.minimum(leave)
    assert near is not None
    assert far is not None
    return torch.where((near <= far) & (near > 0), near, NOWHERE)


def _meet_cylinder(origin: _Point, ray: _Point, half: _Point) -> Tensor:
    (ox, oy, oz), (dx, dy, dz), (radius, high, _) = origin, ray, half
    a = dx * dx + dz * dz
    middle = -(ox * dx + oz * dz) / a
    x, z = ox + middle * dx, oz + middle * dz
    room = radius * radius - (x * x + z * z)
    inside = room > 0
    side = middle - (room.clamp(min=0) / a).sqrt()
    side = torch.where(inside & (side > 0) & ((oy + side * dy).abs() <= high), side, NOWHERE)
    lid = (torch.copysign(high, oy) - oy) / dy
    x, z = ox + lid * dx, oz + lid * dz
    on_lid = inside & (lid > 0) & (lid < side) & (x * x + z * z <= radius * radius)
    return torch.where(on_lid, lid, side)


def _meet_ellipsoid(origin: _Point, ray: _Point, half: _Point, leave: bool = False) -> Tensor:
    ox, oy, oz = (o / h for o, h in zip(origin, half))
    dx, dy, dz = (d / h for d, h in zip(ray, half))
    a = dx * dx + dy * dy + dz * dz
    middle = -(ox * dx + oy * dy + oz * dz) / a
    x, y, z = ox + middle * dx, oy + middle * dy, oz + middle * dz
    room = 1 - (x * x + y * y + z * z)
    reach = (room.clamp(min=0) / a).sqrt()
    s = middle + reach if leave else middle - reach
    return torch.where((room > 0) & (s > 0), s, NOWHERE)


def _leave_ellipsoid(origin: _Point, ray: _Point, half: _Point) -> Tensor:
    return _meet_ellipsoid(origin, ray, half, leave=True)


_SURROUNDINGS: dict[int, _Meet] = {FLOOR: _meet_floor, WALLS: _leave_walls, DOME: _leave_ellipsoid}
"""What may be seen anywhere in the image."""
_SOLIDS: dict[int, _Meet] = {BOX: _meet_box, CYLINDER: _meet_cylinder, ELLIPSOID: _meet_ellipsoid}
"""What is seen within a rectangle of it."""


def trace(scene: SceneTensors, size: int, scale: int) -> Seen:
    """What samples see of a scene without people.

    Args:
        scene: things and cameras.
        size: width and height of the images.
        scale: samples along each side of a pixel.
    """
    side, device = size * scale, scene.things.device
    depth = torch.full((len(scene), side, side), NOWHERE, device=device)
    ids = torch.full(depth.shape, -1, dtype=torch.int32, device=device)
    at_px = (torch.arange(side, device=device) + 0.5) / scale
    for number, kind in enumerate(scene.kinds):
        if kind == MEDIA:
            s = torch.full_like(depth, NOWHERE / 2)
        elif kind in _SURROUNDINGS:
            of_thing = slice(number, None, len(scene.kinds) + 1)
            s = _meet_everywhere(
                _SURROUNDINGS[kind], scene.origins[:, of_thing], scene.rays[:, of_thing],
                scene.things[HALF, number], at_px,
            )  # fmt: skip
        else:
            continue
        nearer = s < depth
        depth, ids = torch.where(nearer, s, depth), torch.where(nearer, -1 - number, ids)
    # Bits of a depth, then the thing's number: the least of them is the nearest thing.
    nearest = (depth.view(torch.int32).long() << 32) + (-1 - ids.long())
    for kind, meet in _SOLIDS.items():
        if kind in scene.kinds:
            _meet_solids(scene, kind, meet, side, scale, nearest.view(-1))
    depth = (nearest >> 32).int().view(torch.float32)
    return Seen((-1 - (nearest & 0xFFFFFFFF)).int(), depth)


@fusible
def _meet_everywhere(
    meet: _Meet,
    origin: Float32[Tensor, "3 t"],
    rays: Float32[Tensor, "9 t"],
    half_m: Float32[Tensor, "3"],
    at_px: Float32[Tensor, "side"],
) -> Float32[Tensor, "t side side"]:
    """Depth at every sample of a thing that may be seen anywhere."""
    m = rays[:, :, None, None]
    x, y = at_px, at_px[:, None]
    ray = [m[k] * x + (m[k + 1] * y + m[k + 2]) for k in (0, 3, 6)]
    return meet(list(origin[:, :, None, None]), ray, list(half_m))


def _meet_solids(
    scene: SceneTensors,
    kind: int,
    meet: _Meet,
    side: int,
    scale: int,
    nearest: Int64[Tensor, "samples"],
) -> None:
    """All things of a kind into the map of nearest things, each where it may be seen."""
    device = scene.things.device
    numbers = np.flatnonzero(scene.place.things[:, KIND] == kind)
    windows = thing_windows(scene.place, scene.shot, numbers, side, scale).reshape(-1, 4)
    areas = windows[:, 2:].prod(-1)
    total = int(areas.sum())
    if total == 0:
        return
    frame, thing = np.divmod(np.arange(len(areas)), len(numbers))
    host = np.stack([areas, np.cumsum(areas) - areas, frame, numbers[thing], *windows.T])
    table = torch.from_numpy(host.astype(np.int64)).to(device)
    # The size is known here: nothing is read back from the device.
    owner = torch.arange(len(areas), device=device)
    owner = owner.repeat_interleave(table[0], output_size=total)
    sample, key = _meet_in_windows(meet, scene, table, owner, side, scale)
    nearest.scatter_reduce_(0, sample, key, "amin")


@fusible
def _meet_in_windows(
    meet: _Meet,
    scene: SceneTensors,
    table: Int64[Tensor, "8 w"],
    owner: Int64[Tensor, "k"],
    side: int,
    scale: int,
) -> tuple[Int64[Tensor, "k"], Int64[Tensor, "k"]]:
    """Samples of some windows, and what each sees: bits of the depth, then the thing's number.

    Args:
        meet: depth at which rays meet the things.
        scene: things and cameras.
        table: of each window its area, the areas before it, its frame and thing; top, left,
            height, width.
        owner: the window of each sample.
        side: samples along each side of the image.
        scale: along each side of a pixel.
    """
    _, before, frame, number, top, left, _, width = table[:, owner]
    local = torch.arange(len(owner), device=owner.device) - before
    down = torch.div(local, width, rounding_mode="floor")
    row, column = top + down, left + local - down * width
    x_px, y_px = (column + 0.5) / scale, (row + 0.5) / scale
    at = scene.column(frame, number)
    m = scene.rays[:, at]
    ray = [m[k] * x_px + (m[k + 1] * y_px + m[k + 2]) for k in (0, 3, 6)]
    s = meet(list(scene.origins[:, at]), ray, list(scene.things[HALF][:, number]))
    return (frame * side + row) * side + column, (s.view(torch.int32).long() << 32) + number


def thing_windows(
    place: Place, shot: Shot, numbers: Int64[np.ndarray, "n"], side: int, scale: int
) -> Int64[np.ndarray, "t n 4"]:
    """Samples that may see some things: top, left, height, width; 0 high or wide without any."""
    half = place.things[numbers, HALF].astype(np.float64)
    is_round = place.things[numbers, KIND] == CYLINDER
    half[is_round, 2] = half[is_round, 0]
    signs = np.stack(np.meshgrid(*[[-1, 1]] * 3), -1).reshape(8, 3)
    poses = place.poses[:, numbers]
    corners = (signs * half[:, None]) @ turn_matrices(poses) + poses[:, :, None, :3]
    frames, count = poses.shape[:2]
    cam = shot.to_camera(corners.reshape(frames, -1, 3)).reshape(frames, count, 8, 3)
    depth = np.maximum(cam[..., 2:], _NEAREST_CORNER_M)
    lens = shot.lens_px[:, None, None] * scale
    px = lens[..., :1] * cam[..., :2] / depth + lens[..., 1:]
    low = np.clip(px.min(2) - 1, 0, side).astype(np.int64)
    high = np.floor(np.clip(px.max(2) + 1, -1, side - 1)).astype(np.int64)
    near = (cam[..., 2].min(-1) < _NEAREST_CORNER_M)[..., None]
    behind = (cam[..., 2].max(-1) <= 0)[..., None]
    low, high = np.where(near, 0, low), np.where(near, side - 1, high)
    high = np.where(behind, -1, high)
    return np.concatenate([low[..., ::-1], np.maximum(high - low + 1, 0)[..., ::-1]], -1)


@fusible
def merge_body(
    seen: Seen,
    weights: Float32[Tensor, "t h w 3"],
    face_ids: Int32[Tensor, "t h w"],
    affine: Float32[Tensor, "t h w 3"],
    inverse_depth: Float32[Tensor, "t f 3"],
    first_id: int,
    hidden: Bool[Tensor, "t h w"] | None,
) -> tuple[Seen, Float32[Tensor, "t h w 3"]]:
    """A rasterised body over what is seen, where it is nearer.

    Args:
        seen: what is seen without it.
        weights: weights of the faces' corners there, linear on the surface.
        face_ids: the body's faces.
        affine: weights of their corners, linear in the image.
        inverse_depth: 1 / Z of the corners of each face.
        first_id: id of its first face.
        hidden: samples where nobody is seen.
    """
    frames, faces = inverse_depth.shape[:2]
    first = torch.arange(frames, device=face_ids.device)[:, None, None] * faces
    corner = inverse_depth.reshape(-1, 3)[first + face_ids.clamp(min=0)]
    affine = affine * corner
    depth = 1 / affine.sum(-1)
    nearer = (face_ids >= 0) & (depth < seen.depth_m)
    if hidden is not None:
        nearer &= ~hidden
    merged = Seen(
        torch.where(nearer, first_id + face_ids, seen.ids),
        torch.where(nearer, depth, seen.depth_m),
    )
    return merged, torch.where(nearer[..., None], affine * depth[..., None], weights)
