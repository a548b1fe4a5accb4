"""Named joint sets: the only way from a joint's name to its place in an array.

One naming scheme holds in all sets: ``pelvis``, ``left_knee``, ``right_big_toe``; left and right
are the person's own. The same name in two sets is the same part of the body, found by each
set's own definition: an LSP hip and an SMPL hip lie centimetres apart. ``head`` is SMPL's joint
at the base of the skull, ``head_h36m`` Human3.6M's point near its top, ``head_top`` LSP's.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class JointSet:
    """An ordered list of joints."""

    name: str
    """What `joint_set` finds it by."""
    names: tuple[str, ...]
    """Joints in order, each once."""
    edges: tuple[tuple[int, int], ...] = ()
    """Pairs of joints that a drawn skeleton connects."""
    parents: tuple[int, ...] | None = None
    """For a kinematic chain, each joint's parent; -1 for the root."""

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names):
            twice = sorted({n for n in self.names if self.names.count(n) > 1})
            raise ValueError(f"joint set {self.name}: got {twice} twice; expected each name once")

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.names)}

    @cached_property
    def mirror(self) -> tuple[int, ...]:
        """For each joint, the place of its counterpart on the other side of the body."""
        return self.indices_of([mirrored_name(name) for name in self.names])

    def index(self, name: str) -> int:
        """Where the joint stands; KeyError if the set has no such joint."""
        return self.indices_of([name])[0]

    def indices_of(self, names: Iterable[str]) -> tuple[int, ...]:
        """Where these joints stand; KeyError, naming all that are missing."""
        names = tuple(names)
        missing = [name for name in names if name not in self._places]
        if missing:
            raise KeyError(
                f"joint set {self.name}: got {', '.join(map(repr, missing))}; "
                f"expected some of {', '.join(self.names)}"
            )
        return tuple(self._places[name] for name in names)


def mirrored_name(name: str) -> str:
    """``left_knee`` for ``right_knee`` and the other way round; names without a side stay."""
    sides = {"left_": "right_", "right_": "left_"}
    return re.sub("^(op_)?(left_|right_)", lambda m: (m[1] or "") + sides[m[2]], name)


def convert_joints(
    values: Float[Tensor, "*b k c"], source: JointSet, target: JointSet
) -> Float[Tensor, "*b l c"]:
    """Values of ``source`` in the order of ``target``, matched by name.

    Raises:
        KeyError: ``target`` has joints that ``source`` has not (names them).
        ValueError: the values are not those of ``source``.
    """
    if values.shape[-2] != len(source):
        raise ValueError(
            f"got values of {values.shape[-2]} joints; expected the {len(source)} of {source.name}"
        )
    return values[..., list(source.indices_of(target.names)), :]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _edges(names: Sequence[str], *chains: str) -> tuple[tuple[int, int], ...]:
    """Pairs along chains written ``"neck left_shoulder left_elbow"``."""
    place = {name: i for i, name in enumerate(names)}
    links = [chain.split() for chain in chains]
    return tuple((place[a], place[b]) for link in links for a, b in pairwise(link))


def _sided(chain: str) -> tuple[str, str]:
    """The left and the right copy of a chain; ``*`` stands for the side."""
    return chain.replace("*", "left_"), chain.replace("*", "right_")


_SMPL_PARENTS = (
    *(-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8),
    *(9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21),
)

SMPL_24 = JointSet(
    "smpl-24",
    _words(
        """pelvis left_hip right_hip spine1 left_knee right_knee spine2 left_ankle right_ankle
        spine3 left_foot right_foot neck left_collar right_collar head left_shoulder right_shoulder
        left_elbow right_elbow left_wrist right_wrist left_hand right_hand"""
    ),
    edges=tuple((p, j) for j, p in enumerate(_SMPL_PARENTS) if p >= 0),
    parents=_SMPL_PARENTS,
)
"""The joints of SMPL's kinematic chain; parents come before their children."""

_COCO = _words(
    """nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow
    right_elbow left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle
    right_ankle"""
)
COCO_17 = JointSet(
    "coco-17",
    _COCO,
    edges=_edges(
        _COCO,
        *_sided("nose *eye *ear"),
        *_sided("*shoulder *elbow *wrist"),
        *_sided("*shoulder *hip *knee *ankle"),
        "left_shoulder right_shoulder",
        "left_hip right_hip",
    ),
)
"""The keypoints of COCO's person annotations."""

_OPENPOSE = _words(
    """nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist pelvis
    right_hip right_knee right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear
    left_ear left_big_toe left_small_toe left_heel right_big_toe right_small_toe
    right_heel"""
)
_OPENPOSE_CHAINS = (
    "nose neck pelvis",
    *_sided("nose *eye *ear"),
    *_sided("neck *shoulder *elbow *wrist"),
    *_sided("pelvis *hip *knee *ankle *heel"),
    *_sided("*ankle *big_toe *small_toe"),
)
OPENPOSE_25 = JointSet("openpose-25", _OPENPOSE, edges=_edges(_OPENPOSE, *_OPENPOSE_CHAINS))
"""OpenPose's BODY_25; ``pelvis`` is its MidHip."""

_H36M_CHAINS = (
    "pelvis spine neck jaw head_h36m",
    *_sided("pelvis *hip *knee *ankle"),
    *_sided("neck *shoulder *elbow *wrist"),
)
_H36M = _words(
    """pelvis right_hip right_knee right_ankle left_hip left_knee left_ankle spine neck jaw
    head_h36m left_shoulder left_elbow left_wrist right_shoulder right_elbow right_wrist"""
)
H36M_17 = JointSet("h36m-17", _H36M, edges=_edges(_H36M, *_H36M_CHAINS))
"""Human3.6M's usual 17 joints in the order of the data set: the right leg before the left."""

_SPIN_H36M = _words(
    """pelvis left_hip left_knee left_ankle right_hip right_knee right_ankle spine neck jaw
    head_h36m left_shoulder left_elbow left_wrist right_shoulder right_elbow right_wrist"""
)
SPIN_H36M_17 = JointSet("spin-h36m-17", _SPIN_H36M, edges=_edges(_SPIN_H36M, *_H36M_CHAINS))
"""The same joints in the order of SPIN's files and of ``J_regressor_h36m.npy``: left leg first."""

_LSP_CHAINS = (
    *_sided("neck *shoulder *elbow *wrist"),
    *_sided("*shoulder *hip *knee *ankle"),
    "left_hip right_hip",
)
_H36M_14 = _words(
    """right_ankle right_knee right_hip left_hip left_knee left_ankle right_wrist right_elbow
    right_shoulder left_shoulder left_elbow left_wrist neck head_h36m"""
)
H36M_14 = JointSet("h36m-14", _H36M_14, edges=_edges(_H36M_14, *_LSP_CHAINS, "neck head_h36m"))
"""The 14 joints that 3DPW is scored on: LSP's order, Human3.6M's definitions."""

SPIN_EXTRA_9 = JointSet(
    "spin-extra-9",
    _words("right_hip left_hip neck head_top pelvis thorax spine jaw head_h36m"),
)
"""The rows of ``J_regressor_extra.npy``: hips, neck and head top as in LSP, pelvis and thorax as
in MPII, the rest as in Human3.6M."""

_SPIN_24 = _words(
    """right_ankle right_knee right_hip left_hip left_knee left_ankle right_wrist right_elbow
    right_shoulder left_shoulder left_elbow left_wrist neck head_top pelvis thorax spine jaw
    head_h36m nose left_eye right_eye left_ear right_ear"""
)
_SPIN_24_CHAINS = (
    "pelvis spine thorax neck head_top",
    *_sided("neck *shoulder *elbow *wrist"),
    *_sided("pelvis *hip *knee *ankle"),
    *_sided("nose *eye *ear"),
)
SPIN_24 = JointSet("spin-24", _SPIN_24, edges=_edges(_SPIN_24, *_SPIN_24_CHAINS))
"""The joints of the ``part`` and ``S`` arrays of SPIN's annotation files."""

_SPIN_49 = (*(f"op_{name}" for name in _OPENPOSE), *_SPIN_24)
SPIN_49 = JointSet("spin-49", _SPIN_49, edges=_edges(_SPIN_49, *_SPIN_24_CHAINS))
"""SPIN's 25 OpenPose joints, their names prefixed with ``op_``, then `SPIN_24`."""

JOINT_SETS = {
    joints.name: joints
    for joints in (
        SMPL_24,
        COCO_17,
        OPENPOSE_25,
        H36M_17,
        SPIN_H36M_17,
        H36M_14,
        SPIN_EXTRA_9,
        SPIN_24,
        SPIN_49,
    )
}
"""All joint sets by name."""


def joint_set(name: str) -> JointSet:
    """The joint set of this name, such as ``coco-17``; KeyError, naming all, if none has it."""
    if name not in JOINT_SETS:
        raise KeyError(f"joint set: got {name!r}; expected one of {', '.join(JOINT_SETS)}")
    return JOINT_SETS[name]
