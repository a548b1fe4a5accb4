"""The field's evaluation protocols, by name: what each counts, aligns and averages.

Facts are from the published evaluators of SPIN, PARE, BEDLAM, VIBE, TCMR and WHAM and from the
paper of Motion HMR (Doersch and Zisserman 2019). Numbers of two protocols are no comparison.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from flowhmr.body import H36M_14, H36M_17, JointSet, convert_joints
from flowhmr.evaluation.metrics import acceleration_error, mpjpe, pa_mpjpe, pve

CHUNK = 256
"""Frames whose meshes are made at a time."""
LIMBS_12 = JointSet("limbs-12", H36M_14.names[:12])
"""Ankles, knees, hips, wrists, elbows, shoulders: what is asked to be seen."""
FIELD_17 = JointSet("field-17", (*H36M_14.names, "pelvis", "spine", "jaw"))
"""SPIN's 17 joints of MPI-INF-3DHP: the 14, then pelvis, spine and jaw of Human3.6M."""
PELVIS, HIPS = ("pelvis",), ("left_hip", "right_hip")


@dataclass(frozen=True)
class FrameRule:
    """Which frames count."""

    valid: bool = False
    """Those only that the set itself trusts (3DPW's ``campose_valid``, MPI-INF-3DHP's
    ``valid_frame``)."""
    visible: int = 0
    """At least so many of `LIMBS_12` seen."""
    sure: float = 0.3
    """Seen: 2D keypoints with more confidence than that."""
    whole: int = 0
    """Of a person's frames that count as far as said, whole runs of so many; what is left at the
    end is dropped. 0: all."""
    step: int = 1
    """Every so many frames of the video."""
    inside: bool = False
    """All 2D keypoints in the picture."""
    people: str = ""
    """Pattern of the names of the people (a person in a video) that count."""

    def said(self) -> str:
        """For people to read."""
        parts = ["that the set trusts"] if self.valid else []
        if self.visible:
            parts.append(
                f"with at least {self.visible} of 12 limb keypoints surer than {self.sure:g}"
            )
        if self.inside:
            parts.append("with all keypoints in the picture")
        if self.step > 1:
            parts.append(f"every {self.step}th")
        if self.whole:
            parts.append(f"whole runs of {self.whole}")
        if self.people:
            parts.append(f"people {self.people}")
        return "those " + ", ".join(parts) if parts else "all"


@dataclass(frozen=True)
class Protocol:
    """How bodies along videos are scored."""

    name: str
    """What `protocol` finds it by."""
    data: Literal["3dpw", "h36m", "mpii3d"]
    """Layout of the data set that it scores on."""
    truth: Literal["gendered", "neutral", "captured"]
    """SMPL's mesh of the person's gender; the neutral mesh with the betas that were fitted for a
    gender; or captured joints."""
    root: tuple[str, ...]
    """MPJPE: about the mean of these of Human3.6M's joints; empty: it has none."""
    frames: FrameRule
    """Which frames count."""
    joints: JointSet = H36M_14
    """What is compared, by Human3.6M's regressor."""
    pve: Literal["", "as is", "about the root"] = ""
    """Vertices, where the protocol has them: as SMPL gives them without translation, or rooted."""
    accel: Literal["", "sequence", "stream"] = ""
    """Of each sequence's frames that count, its ends excluded; or of the frames of all sequences
    as one, across their ends."""
    average: Literal["frames", "people"] = "frames"
    """Over all frames alike, or over each person's, then over people."""
    fps: float | None = None
    """Frames that count, a second of video; None where the set's videos differ."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """What the captured joints of these names are compared with."""
    note: str = ""
    """What else there is to know."""

    def said(self) -> dict[str, str]:
        """What stands beside every number."""
        mesh = {"gendered": "SMPL of the person's gender", "captured": "captured joints"}
        accel = {"": "not part of it", "sequence": "per sequence, ends excluded"}
        vertices = {"": "not part of it", "as is": "not aligned, no translation"}
        root = " and ".join(self.root)
        return {
            "truth": mesh.get(self.truth, "neutral SMPL with the betas fitted for the gender"),
            "joints": f"{len(self.joints)} ({self.joints.name}), Human3.6M's definitions",
            "root": f"{'middle of ' * (len(self.root) > 1)}{root} of Human3.6M" if root else "none",
            "alignment": "PA: similarity of each frame, no reflections",
            "frames": self.frames.said(),
            "PVE": vertices.get(self.pve, "about the root"),
            "acceleration": accel.get(self.accel, "one stream of all sequences, across their ends"),
            "averaging": "frames"
            if self.average == "frames"
            else "frames of a person, then people",
            "units": "mm; acceleration mm/frame^2 and m/s^2"
            + (
                f" at {self.fps:g} frames a second"
                if self.fps
                else " where the frame rate is known"
            ),
            **({"note": self.note} if self.note else {}),
        }


_TEST = "^s_(09|11)_"
_FRONTAL = f"{_TEST}.*_ca_04$"
_ONE_CAMERA = "camera 60457274 alone"
_SPIN = Protocol("3dpw-spin", "3dpw", "gendered", PELVIS, FrameRule(valid=True), fps=30.0)
_TCMR = Protocol(
    "3dpw-tcmr", "3dpw", "neutral", HIPS, FrameRule(valid=True, visible=7),
    pve="as is", accel="sequence", fps=30.0,
)  # fmt: skip
_H36M = Protocol("h36m-p1", "h36m", "captured", PELVIS, FrameRule(step=5, people=_TEST), fps=10.0)
_H36M_TCMR = Protocol(
    "h36m-tcmr", "h36m", "captured", HIPS, FrameRule(step=2, people=_TEST),
    accel="sequence", fps=25.0,
)  # fmt: skip

_ALL = (
    _SPIN,
    replace(_SPIN, name="3dpw-pare", pve="as is"),
    replace(_SPIN, name="3dpw-bedlam", pve="about the root"),
    replace(
        _TCMR,
        name="3dpw-vibe",
        frames=FrameRule(visible=7, whole=16),
        accel="stream",
        note="frames by 2D keypoints alone, whether or not the set trusts them",
    ),
    _TCMR,
    replace(
        _SPIN,
        name="3dpw-wham",
        root=HIPS,
        pve="about the root",
        accel="sequence",
        note="published accelerations are m/s^2",
    ),
    replace(
        _SPIN,
        name="3dpw-doersch",
        root=(),
        frames=FrameRule(visible=7, sure=0.0),
        average="people",
        note="all frames are fed; the paper does not state its regressor: here Human3.6M's",
    ),
    _H36M,
    replace(
        _H36M,
        name="h36m-p2",
        root=(),
        frames=FrameRule(step=5, people=_FRONTAL),
        note=_ONE_CAMERA,
    ),
    _H36M_TCMR,
    replace(
        _H36M_TCMR,
        name="h36m-tcmr-frontal",
        frames=FrameRule(step=2, people=_FRONTAL),
        note=_ONE_CAMERA,
    ),
    Protocol(
        "mpii3d",
        "mpii3d",
        "captured",
        PELVIS,
        FrameRule(valid=True, inside=True, people="imageSequence$"),
        joints=FIELD_17,
        renamed={"head_top": "head_h36m", "head_h36m": "jaw"},
        note="univ_annot3; its head top is held against Human3.6M's head, its head against the jaw",
    ),
)
PROTOCOLS: dict[str, Protocol] = {p.name: p for p in _ALL}
"""All protocols by name."""


def protocol(name: str) -> Protocol:
    """The protocol of this name.

    Raises:
        ValueError: there is none.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"protocol: got {name!r}; expected one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


@dataclass(frozen=True, eq=False)
class Posed:
    """Bodies of one person in some frames, camera axes, metres, from any origin."""

    joints_m: Float[Tensor, "t 17 3"]
    """`H36M_17`."""
    verts_m: Float[Tensor, "t v 3"] | None
    """SMPL's vertices as posed, without translation; None where there are none."""


def frames_that_count(
    rule: FrameRule,
    person: str,
    frame_indices: Int[Tensor, "t"],
    valid: Bool[Tensor, "t"] | None,
    sure: Float[Tensor, "t 12"] | None,
    inside: Bool[Tensor, "t"] | None,
) -> Bool[Tensor, "t"]:
    """Which of a person's frames count.

    Args:
        rule: of the protocol.
        person: name, for ``rule.people``.
        frame_indices: numbers in the video.
        valid: which the set trusts; None where it does not say: all.
        sure: confidence of the 2D keypoints of `LIMBS_12`.
        inside: frames with all keypoints in the picture.

    Raises:
        ValueError: the rule asks for what is not given.
    """
    for needed, given in (("keypoints", sure), ("places in the picture", inside)):
        asked = rule.visible if needed == "keypoints" else rule.inside
        if asked and given is None:
            raise ValueError(f"{person}: got no 2D {needed}; expected some: the protocol asks")
    counted = torch.full(frame_indices.shape, bool(re.search(rule.people, person)))
    if rule.valid and valid is not None:
        counted &= valid
    if rule.visible and sure is not None:
        counted &= (sure > rule.sure).sum(-1) >= rule.visible
    if rule.inside and inside is not None:
        counted &= inside
    counted &= frame_indices % rule.step == 0
    if rule.whole:
        rows = counted.nonzero().flatten()
        counted[rows[len(rows) // rule.whole * rule.whole :]] = False
    return counted


@dataclass(frozen=True, eq=False)
class PersonScore:
    """One person in one video; a value a frame, empty where the protocol has none."""

    name: str
    """Who."""
    missing: int
    """Frames that count, and for which there is no estimate: left out."""
    mpjpe: Float[Tensor, "k"]
    """mm."""
    pa_mpjpe: Float[Tensor, "n"]
    """mm."""
    pve: Float[Tensor, "m"]
    """mm; empty where vertices cannot be compared."""
    found_mm: Float[Tensor, "n j 3"]
    """The estimate's joints about their root (the mid-hip, if the protocol has none)."""
    target_mm: Float[Tensor, "n j 3"]
    """The truth's."""

    @property
    def accel(self) -> Float[Tensor, "k"]:
        """Acceleration error of the inner frames of this sequence, mm/frame^2."""
        return stream_accel([self])


def stream_accel(people: list[PersonScore]) -> Float[Tensor, "k"]:
    """Acceleration error, mm/frame^2, of some sequences one after the other as if they were one."""
    found, target = (
        torch.cat([getattr(p, key) for p in people]) for key in ("found_mm", "target_mm")
    )
    # Already about their roots, and in millimetres.
    return acceleration_error(found / 1000, target / 1000, ())


def score_person(
    rule: Protocol,
    name: str,
    rows: Int[Tensor, "n"],
    missing: int,
    found: Callable[[Int[Tensor, "m"]], Posed],
    truth: Callable[[Int[Tensor, "m"]], Posed],
) -> PersonScore:
    """Scores of one person.

    Args:
        rule: the protocol.
        name: of the person, for tables.
        rows: the frames that count and have an estimate, in order.
        missing: how many count without one.
        found, truth: pose the bodies of some rows.
    """
    parts: dict[str, list[Tensor]] = {
        key: [] for key in ("mpjpe", "pa_mpjpe", "pve", "found_mm", "target_mm")
    }
    root = H36M_17.indices_of(rule.root or HIPS)
    for part in rows.split(CHUNK) if len(rows) else ():
        one, other = found(part), truth(part)
        roots = [p.joints_m[:, list(root)].mean(1, keepdim=True) for p in (one, other)]
        joints = [
            convert_joints(p.joints_m, H36M_17, rule.joints) - r
            for p, r in zip((one, other), roots)
        ]
        if rule.root:
            parts["mpjpe"].append(mpjpe(*joints, root=()))
        parts["pa_mpjpe"].append(pa_mpjpe(*joints))
        if rule.pve and one.verts_m is not None and other.verts_m is not None:
            shift = [r[:, 0] * (rule.pve == "about the root") for r in roots]
            parts["pve"].append(pve(one.verts_m, other.verts_m, *shift))
        parts["found_mm"].append(joints[0] * 1000)
        parts["target_mm"].append(joints[1] * 1000)
    empty = {"found_mm": (0, len(rule.joints), 3), "target_mm": (0, len(rule.joints), 3)}
    joined = {
        key: torch.cat(values) if values else torch.zeros(empty.get(key, (0,)))
        for key, values in parts.items()
    }
    return PersonScore(name, missing, **joined)
