"""Keypoints of a body: rules over chain joints and landmark vertices, and regressors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flowhmr.body.joints import (
    COCO_17,
    H36M_14,
    H36M_17,
    OPENPOSE_25,
    SMPL_24,
    SPIN_24,
    SPIN_49,
    SPIN_EXTRA_9,
    JointSet,
    joint_set,
)

Terms = tuple[tuple[str, float], ...]
"""Weighted sources of one keypoint: a chain joint (``left_knee``), a landmark vertex (``@nose``)
or a joint of a regressor, named by its joint set (``h36m-17/neck``)."""


@dataclass(frozen=True)
class KeypointRule:
    """How the keypoints of a joint set are found on a posed body."""

    joints: JointSet
    """What the rule gives."""
    terms: tuple[Terms, ...]
    """The sources of each keypoint."""

    def sources(self) -> tuple[str, ...]:
        """All sources, each once."""
        return tuple(dict.fromkeys(source for terms in self.terms for source, _ in terms))

    def regressors(self) -> tuple[str, ...]:
        """Names of the joint sets whose regressors the rule needs."""
        return tuple(dict.fromkeys(s.split("/")[0] for s in self.sources() if "/" in s))


@dataclass(frozen=True, eq=False)
class KeypointTables:
    """A rule made ready for one body: one gather, one matrix."""

    landmark_ids: Int[Tensor, "l"]
    """Vertices that the rule looks at."""
    matrix: Float[Tensor, "k s"]
    """Weights of 24 chain joints, of the landmarks, then of each regressor's joints."""


def keypoint_tables(
    rule: KeypointRule, landmarks: Mapping[str, int], like: Float[Tensor, "..."]
) -> KeypointTables:
    """Tables of a rule, in the type and on the device of ``like``."""
    marks = [source for source in rule.sources() if source.startswith("@")]
    columns = [*SMPL_24.names, *marks]
    for name in rule.regressors():
        columns += [f"{name}/{joint}" for joint in joint_set(name).names]
    place = {source: i for i, source in enumerate(columns)}
    matrix = torch.zeros(len(rule.joints), len(columns), dtype=torch.float64)
    for row, terms in enumerate(rule.terms):
        for source, weight in terms:
            matrix[row, place[source]] += weight
    ids = torch.tensor([landmarks[mark[1:]] for mark in marks], dtype=torch.long)
    return KeypointTables(ids.to(like.device), matrix.to(like))


def _rule(joints: JointSet, sources: Mapping[str, str]) -> KeypointRule:
    """A rule of one source a joint: what is given for its name, or the chain joint so named."""
    return KeypointRule(joints, tuple(((sources.get(n, n), 1.0),) for n in joints.names))


def _named(joints: JointSet, terms: Mapping[str, Terms]) -> KeypointRule:
    """A rule from terms by joint name."""
    return KeypointRule(joints, tuple(terms[name] for name in joints.names))


def _landmarks(*names: str) -> dict[str, str]:
    """Landmarks of the same name, both sides of each starred one."""
    both = [n.replace("*", side) for n in names for side in ("left_", "right_")]
    return {name: f"@{name}" for name in both}


_FACE = _landmarks("nose", "*eye", "*ear")
_FEET = _landmarks("*big_toe", "*small_toe", "*heel")


def open_body_rules(stored: Mapping[str, Sequence[Terms]]) -> tuple[KeypointRule, ...]:
    """Rules of the open body, from those in its file: ``coco17``, ``openpose25``, ``h36m17``.

    COCO and OpenPose keypoints are chain joints and landmarks, OpenPose's neck and mid-hip the
    middles of shoulders and hips. Human3.6M's joints, regressed on SMPL, follow anatomy here: neck
    the chain's, spine ``spine2``, jaw halfway between nose and the base of the skull, head the top
    of the head, pelvis the middle of the hips. SPIN's are the same; its thorax (MPII) is the
    neck, its head top (LSP) the head.
    """
    coco = KeypointRule(COCO_17, tuple(stored["coco17"]))
    openpose = KeypointRule(OPENPOSE_25, tuple(stored["openpose25"]))
    h36m = KeypointRule(H36M_17, tuple(stored["h36m17"]))
    terms = dict(zip(COCO_17.names + H36M_17.names, coco.terms + h36m.terms))
    terms |= {"thorax": terms["neck"], "head_top": terms["head_h36m"]}
    spin = _named(SPIN_24, terms)
    spin_49 = KeypointRule(SPIN_49, openpose.terms + spin.terms)
    return (coco, openpose, h36m, _named(H36M_14, terms), spin, spin_49)


def smpl_rules() -> tuple[KeypointRule, ...]:
    """Rules of SMPL: the vertex joints of smplx and SPIN's table of joints (``JOINT_MAP``).

    Human3.6M's joints need ``J_regressor_h36m.npy``, SPIN's ``J_regressor_extra.npy``.
    """
    openpose = _rule(OPENPOSE_25, {**_FACE, **_FEET})
    h36m = _regressed(H36M_17)
    spin = _rule(SPIN_24, {**_FACE, **_regressed(SPIN_EXTRA_9)})
    spin_49 = KeypointRule(SPIN_49, openpose.terms + spin.terms)
    return (
        _rule(COCO_17, _FACE),
        openpose,
        _rule(H36M_17, h36m),
        _rule(H36M_14, h36m),
        spin,
        spin_49,
    )


def _regressed(joints: JointSet) -> dict[str, str]:
    """The joints of a regressor as sources, by their names."""
    return {name: f"{joints.name}/{name}" for name in joints.names}


SMPL_LANDMARKS: Mapping[str, int] = {
    "nose": 332,
    "right_eye": 6260,
    "left_eye": 2800,
    "right_ear": 4071,
    "left_ear": 583,
    "left_big_toe": 3216,
    "left_small_toe": 3226,
    "left_heel": 3387,
    "right_big_toe": 6617,
    "right_small_toe": 6624,
    "right_heel": 6787,
    "left_thumb": 2746,
    "left_index": 2319,
    "left_middle": 2445,
    "left_ring": 2556,
    "left_pinky": 2673,
    "right_thumb": 6191,
    "right_index": 5782,
    "right_middle": 5905,
    "right_ring": 6016,
    "right_pinky": 6133,
}
"""Vertices of smplx's joints 24-44; they mean nothing on a body of another topology."""

REGRESSOR_FILES: Mapping[str, str] = {
    H36M_17.name: "J_regressor_h36m.npy",
    SPIN_EXTRA_9.name: "J_regressor_extra.npy",
}
"""Which file holds the regressor of a joint set for SMPL's vertices."""
