"""Actors: who moves how. Bodies from the capture or made up, varied, dressed, set on the ground."""

from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from flowhmr.body import SMPL_24, BodyModel, BodyParams, open_body
from flowhmr.geometry import rotmat_from_axis_angle
from flowhmr.synth.amass import amass_files, read_amass
from flowhmr.synth.bvh import load_bvh_folder
from flowhmr.synth.motion import (
    Motion,
    Split,
    load_motions,
    mirror_motion,
    sample_window,
    splice_rotmats,
)
from flowhmr.synth.moves import MOVES, sample_move
from flowhmr.synth.outfits import Outfit, sample_outfit
from flowhmr.synth.variation import perturb_within_limits, splice_time, warp_time

SLACK_M = 0.03
"""A foot of the capture that is no higher than this above its floor stands on it."""
PROXY_VERTS = 320
FPS = 30.0
"""Frames per second of all clips: the capture's."""
BLEND = 10
"""Frames in which one recording goes over into another."""
SEATED = ("moves/sit", "moves/sit_stand")
"""Motions that need something to sit on."""


@dataclass(frozen=True)
class MotionConfig:
    """How people move."""

    split: Split = "train"
    """Split of the shipped motion capture."""
    actions: tuple[str, ...] = ()
    """Only recordings of these actions; all by default."""
    made_up: float = 0.25
    """Share of procedural motions (`flowhmr.synth.moves`), which cover what the capture lacks."""
    moves: tuple[str, ...] = ()
    """Only these procedural motions; all by default."""
    lively: int = 1
    """Windows of the capture that are drawn; the one with the most motion is taken."""
    mirror: float = 0.5
    """Share of motions done with the other hand and foot."""
    bvh: Path | None = None
    """A folder of BVH files, or of AMASS's npz, to use instead of the shipped capture."""
    warp: float = 0.3
    """Strength of the time warp."""
    cut: float = 0.1
    """Share that goes over from one recording to another."""
    splice: float = 0.2
    """Share with the arms of one recording over the legs of another."""
    perturb: float = 0.5
    """Strength of the constant random turn of each joint, within joint limits."""


@dataclass(frozen=True, eq=False)
class Actor:
    """One moving person in the world (y up, the ground at 0, metres)."""

    outfit: Outfit
    """Shape and looks."""
    params: BodyParams
    """Pose and shape ``[t]``; joint 0 turns the body in the world."""
    root_world: Float[Tensor, "t 3"]
    """What is added to the body's points (the pelvis joint of the template is at the origin)."""
    verts_world: Float[Tensor, "t v 3"]
    """Vertices of the naked body."""
    joints_world: Float[Tensor, "t 24 3"]
    """Joints of the chain."""
    name: str
    """Where the motion comes from."""

    def seat(self, body: BodyModel) -> tuple[float, float, float, float] | None:
        """What the person sits on: middle (x, z), height and heading (about y); None who stands."""
        if self.name not in SEATED:
            return None
        pelvis = SMPL_24.index("pelvis")
        when = int(self.joints_world[:, pelvis, 1].argmin())
        bottom = self.verts_world[when][body.vertex_parts == pelvis]
        ahead = self.params.rotmats[when, 0, :, 2].cpu()
        heading = float(torch.atan2(ahead[0], ahead[2]))
        at = bottom.mean(0).cpu() - 0.06 * torch.tensor([np.sin(heading), 0, np.cos(heading)])
        return float(at[0]), float(at[2]), float(bottom[:, 1].amin()), heading

    def at(self, frames: Int[np.ndarray, "n"]) -> "Actor":
        """The same person in some frames, one after the other."""
        params = replace(
            self.params, rotmats=self.params.rotmats[frames], betas=self.params.betas[frames]
        )
        return replace(
            self,
            params=params,
            root_world=self.root_world[frames],
            verts_world=self.verts_world[frames],
            joints_world=self.joints_world[frames],
        )

    def moved(self, offset_m: Float[Tensor, "3"]) -> "Actor":
        """The same person elsewhere."""
        return replace(
            self,
            root_world=self.root_world + offset_m,
            verts_world=self.verts_world + offset_m,
            joints_world=self.joints_world + offset_m,
        )


def sample_actor(
    config: MotionConfig, frames: int, body: BodyModel, textures: int, rng: np.random.Generator
) -> Actor:
    """A random person in random motion; the middle frame is above the origin.

    Raises:
        ValueError: no recording is as long as ``frames``, or of the actions that were asked for.
    """
    motion, floor_m = _sample_motion(config, frames, rng)
    outfit = sample_outfit(rng, body, textures)
    rotmats = perturb_within_limits(motion.rotmats, config.perturb * rng.uniform(0, 1.5), rng)
    turn = rotmat_from_axis_angle(torch.tensor([0.0, float(rng.uniform(-np.pi, np.pi)), 0.0]))
    rotmats = torch.cat([(turn @ rotmats[:, 0])[:, None], rotmats[:, 1:]], 1)
    betas = torch.from_numpy(outfit.betas).expand(frames, -1)
    device = body.v_template.device
    params = body.params(rotmats.to(device), betas.to(device))
    mesh = body.mesh(params)
    root = motion.trans_world_m @ turn.T
    root = root - root[frames // 2]
    # The body stands where the capture stands, whatever its shape and the turns of its legs.
    root[:, 1] = _clearance_m(motion, floor_m) - mesh.verts[..., 1].amin(1).cpu()
    offset = root.to(device)[:, None]
    return Actor(outfit, params, root, mesh.verts + offset, mesh.joints + offset, motion.name)


def _sample_motion(
    config: MotionConfig, frames: int, rng: np.random.Generator
) -> tuple[Motion, float | None]:
    """A motion, and the height of its floor where more than these frames tells it."""
    floor_m = None
    if rng.random() < config.made_up:
        motion = sample_move(rng, frames, FPS, str(rng.choice(config.moves or MOVES)))
    else:
        chosen = _recordings(config)
        motion, floor_m = _captured(chosen, frames, config, rng)
        if rng.random() < config.cut and frames > 2 * BLEND:
            other, _ = _captured(chosen, frames, config, rng)
            at = int(rng.integers(BLEND // 2, frames - BLEND))
            name = f"{motion.name} then {other.name}"
            motion = replace(
                _frames_of(splice_time(motion, other, at, BLEND), slice(0, frames)), name=name
            )
        if rng.random() < config.splice:
            other, at = sample_window(chosen, frames, rng)
            arms = other.rotmats[at : at + frames]
            motion = replace(motion, rotmats=splice_rotmats(motion.rotmats, arms))
    return mirror_motion(motion) if rng.random() < config.mirror else motion, floor_m


def _recordings(config: MotionConfig) -> tuple[Motion, ...]:
    """The recordings that may be used."""
    known = load_motions(config.split) if config.bvh is None else _users_motions(config.bvh)
    chosen = tuple(m for m in known if not config.actions or m.action in config.actions)
    if not chosen:
        actions = sorted({m.action for m in known})
        raise ValueError(
            f"motions: got actions {config.actions}; expected some of {actions}; correct the names"
        )
    return chosen


@cache
def _users_motions(folder: Path) -> tuple[Motion, ...]:
    if next(folder.rglob("*.npz"), None) is not None:
        return tuple(read_amass(path, fps=FPS) for path in amass_files(folder))
    return load_bvh_folder(folder, fps=FPS)


def _liveliness(motion: Motion, start: int, frames: int) -> float:
    """How much the joints turn and the body travels in a window."""
    rotmats = motion.rotmats[start : start + frames]
    travel = motion.trans_world_m[start : start + frames].diff(dim=0).norm(dim=-1).sum()
    return float(rotmats.diff(dim=0).square().sum().sqrt() + travel)


def _captured(
    chosen: tuple[Motion, ...], frames: int, config: MotionConfig, rng: np.random.Generator
) -> tuple[Motion, float]:
    """Some frames of a recording at another pace, and the height of its floor."""
    windows = [sample_window(chosen, frames, rng) for _ in range(config.lively)]
    recording, start = max(windows, key=lambda w: _liveliness(w[0], w[1], frames))
    # The warp may hurry: it is given more of the recording than is shown, where there is more.
    part = _frames_of(recording, slice(start, start + int(frames * 1.7)))
    warped = warp_time(part, rng, config.warp) if config.warp else part
    shown = warped if len(warped) >= frames else part
    return _frames_of(shown, slice(0, frames)), _floor_m(recording)


def _frames_of(motion: Motion, frames: slice) -> Motion:
    return replace(
        motion, rotmats=motion.rotmats[frames], trans_world_m=motion.trans_world_m[frames]
    )


def _clearance_m(motion: Motion, floor_m: float | None) -> Float[Tensor, "t"]:
    """How high the lowest point of the body is above the floor, in each frame, by the motion."""
    low = _lowest_m(motion)
    lowest = float(low.min())
    floor_m = lowest if floor_m is None else min(floor_m, lowest + SLACK_M)
    return (low - floor_m - SLACK_M).clamp(min=0)


def _lowest_m(motion: Motion) -> Float[Tensor, "t"]:
    body = _proxy(open_body())
    params = body.params(motion.rotmats, torch.zeros(len(motion), body.num_betas))
    return body.mesh(params).verts[..., 1].amin(1) + motion.trans_world_m[:, 1]


@lru_cache(maxsize=4096)
def _floor_m(recording: Motion) -> float:
    """Height of the floor of a recording: somebody nearly always stands on it."""
    return float(torch.quantile(_lowest_m(recording), 0.05))


@cache
def _proxy(body: BodyModel) -> BodyModel:
    """A few hundred vertices of a body with its joints: enough to find its extremes."""
    verts = body.v_template
    chosen = [int(verts[:, 1].argmin())]
    distance = (verts - verts[chosen[0]]).square().sum(-1)
    while len(chosen) < PROXY_VERTS:
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (verts - verts[chosen[-1]]).square().sum(-1))
    rows = torch.tensor(chosen)
    joints = body.joint_regressor @ verts
    joint_dirs = torch.einsum("jv,vck->jck", body.joint_regressor, body.shapedirs)
    # Joints travel as vertices of their own, so that the small body has the large one's.
    regressor = torch.zeros(len(SMPL_24), PROXY_VERTS + len(SMPL_24))
    regressor[:, PROXY_VERTS:] = torch.eye(len(SMPL_24))
    return replace(
        body,
        v_template=torch.cat([verts[rows], joints]),
        shapedirs=torch.cat([body.shapedirs[rows], joint_dirs]),
        posedirs=torch.cat([body.posedirs[:, rows], torch.zeros(207, len(SMPL_24), 3)], 1),
        joint_regressor=regressor,
        weights=torch.cat([body.weights[rows], torch.eye(len(SMPL_24))]),
        faces=body.faces[:0],
        vertex_parts=torch.cat([body.vertex_parts[rows], torch.arange(len(SMPL_24))]),
        face_parts=body.face_parts[:0],
        symmetry=None,
        landmarks={},
        regressors=(),
    )
