"""A file's skeleton under our joints' names."""

from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from flowhmr.body import SMPL_24, open_body
from flowhmr.synth.bvh.names import ancestors, plain

Source = tuple[int, int, float]
"""A rotation between those of two joints of the file: (from, to, how far)."""

SIDES = ("left", "right")
BONES = {"hip": "knee", "knee": "ankle", "shoulder": "elbow", "elbow": "wrist"}
# How far from our T-pose a reference may stand, degrees: arms may hang, or be held to the front.
STANCE_DEG = {"torso": 30, "hip": 45, "knee": 45, "shoulder": 105, "elbow": 115}
# The CMU skeleton, under cgspeed's two sets of names.
CMU_NAMES = (
    {"lhipjoint", "lowerback", "neck", "neck1", "leftfoot"},
    {"lhipjoint", "lowerback", "lowerneck", "neck", "leftankle"},
)


@cache
def our_rest_joints() -> Float[Tensor, "24 3"]:
    """Joints of the open body at rest, metres, float64."""
    body = open_body()
    return body.joints(body.rest_params()).double()


def _angle_deg(
    axes: Float[Tensor, "t 3 3"], theirs: Float[Tensor, "t 3"], ours: Float[Tensor, "3"]
) -> Float[Tensor, "t"]:
    """Between directions, theirs brought into the person's own axes."""
    turned = torch.nn.functional.normalize((axes @ theirs[..., None])[..., 0], dim=-1)
    cos = turned @ torch.nn.functional.normalize(ours, dim=0)
    return torch.rad2deg(cos.clamp(-1, 1).acos())


@dataclass(frozen=True, eq=False)
class Rig:
    """A file's skeleton, with its joints under our names."""

    names: tuple[str, ...]
    """Their names."""
    parents: tuple[int, ...]
    """Each joint's parent; -1 for the root."""
    places: dict[str, int]
    """Our name -> their joint; of the torso only those that the caller gave."""

    @property
    def is_cmu(self) -> bool:
        """Whether this is the CMU skeleton, whose peculiarities are known."""
        return any(names <= set(map(plain, self.names)) for names in CMU_NAMES)

    def torso(self, points: Float[Tensor, "*t j 3"]) -> Float[Tensor, "*t 3"]:
        """From between the hips to between the shoulders."""
        at = self.places
        hips = points[..., [at["left_hip"], at["right_hip"]], :].mean(-2)
        return points[..., [at["left_shoulder"], at["right_shoulder"]], :].mean(-2) - hips

    def axes(
        self, points: Float[Tensor, "t j 3"], up: Float[Tensor, "3"]
    ) -> Float[Tensor, "t 3 3"]:
        """Rows: the person's left, up and front; up is given, left is across the hips."""
        across = points[:, self.places["left_hip"]] - points[:, self.places["right_hip"]]
        left = across - (across @ up)[:, None] * up
        left = torch.nn.functional.normalize(left, dim=-1)
        up = up.expand_as(left)
        return torch.stack([left, up, torch.linalg.cross(left, up)], 1)

    def off_stance(
        self, points: Float[Tensor, "t j 3"], axes: Float[Tensor, "t 3 3"]
    ) -> Float[Tensor, "t"]:
        """How far poses are from our T-pose: the largest angle as a part of what a stance may."""
        rest, up = our_rest_joints(), points.new_tensor([0.0, 1.0, 0.0])
        off = [_angle_deg(axes, self.torso(points), up) / STANCE_DEG["torso"]]
        for side in SIDES:
            for start, end in BONES.items():
                names = f"{side}_{start}", f"{side}_{end}"
                ours = rest[SMPL_24.index(names[1])] - rest[SMPL_24.index(names[0])]
                theirs = points[:, self.places[names[1]]] - points[:, self.places[names[0]]]
                off.append(_angle_deg(axes, theirs, ours) / STANCE_DEG[start])
        return torch.stack(off).amax(0)

    def path(self, start: int, end: int) -> list[int]:
        """The joints from one (exclusive) to another (inclusive), without a fork on the way."""
        up, down = ancestors(self.parents, start), ancestors(self.parents, end)
        fork = self.common(start, end)
        rising = up[1 : up.index(fork)] if fork != start else []
        return rising + ([end] if fork == end != start else down[: down.index(fork)][::-1])

    def common(self, *joints: int) -> int:
        """The deepest joint above all of these."""
        chains = [ancestors(self.parents, joint) for joint in joints]
        shared = set(chains[0]).intersection(*chains)
        return next(joint for joint in chains[0] if joint in shared)

    def sources(self) -> dict[str, Source]:
        """Where the rotation of each of our joints comes from."""
        at = self.places
        pelvis = at.get("pelvis", self.common(at["left_hip"], at["right_hip"]))
        chest = at.get("spine3", self.common(at["left_shoulder"], at["right_shoulder"]))
        spine = [pelvis, *self.path(pelvis, chest)]
        neck = [chest, *self.path(chest, at["head"])]
        found = {"pelvis": (pelvis, pelvis, 0.0), "neck": _between(neck, 0.5)}
        found |= {f"spine{k}": _between(spine, k / 3) for k in (1, 2, 3)}
        for side in SIDES:
            collar = [chest, *self.path(chest, at[f"{side}_shoulder"])[:-1]][-1]
            found[f"{side}_collar"] = (collar, collar, 0.0)
            for end, of in (("foot", "ankle"), ("hand", "wrist")):
                joint = at.get(f"{side}_{end}", at[f"{side}_{of}"])
                found[f"{side}_{end}"] = (joint, joint, 0.0)
        return found | {n: (at[n], at[n], 0.0) for n in SMPL_24.names if n in at}


def _between(chain: list[int], how_far: float) -> Source:
    """A point on a chain of joints that are one step apart."""
    place = how_far * (len(chain) - 1)
    below = int(place + 1e-6)
    return chain[below], chain[min(below + 1, len(chain) - 1)], round(place - below, 6)
