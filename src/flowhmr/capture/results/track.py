"""What another tool found of one person, in this package's conventions."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from flowhmr.body import BodyModel, BodyParams, JointSet
from flowhmr.cameras import Crop, PerspectiveCamera, WeakCamera, project_weak
from flowhmr.files import DataFileError

Tool = Literal["phalp", "vibe", "tcmr", "pare", "wham", "tram", "romp", "mediapipe"]

CROP_PX = 224
"""Size of the crops that weak cameras are given for; their numbers do not depend on it."""


class ResultFileError(DataFileError):
    """Results of another tool that cannot be read; says why."""


@dataclass(frozen=True, eq=False)
class ForeignTrack:
    """One person as another tool has him, every number as the tool gave it, axes and pixels ours.

    Camera axes: X right, Y down, Z away, metres; an image of width W covers [0, W]. Pose and shape
    are SMPL's: joint rotations mean the same on the open body (the same tree of 24 joints), betas
    mean nothing there. See `to_open_body`.
    """

    tool: Tool
    """Whose result it is, by the file's content."""
    person: int
    """The tool's number of the person, unique within the file."""
    frame_indices: Int[Tensor, "t"]
    """Which frames of the video, strictly increasing, counted from the first that the tool was
    given; frames in which the tool did not see the person miss."""
    rotmats: Float[Tensor, "t 24 3 3"] | None = None
    """Rotation of each joint relative to its parent; joint 0 turns the body into camera axes. None
    where the tool gives joints only."""
    betas: Float[Tensor, "t 10"] | None = None
    """Coefficients of SMPL's shape directions; together with ``rotmats``."""
    body: Literal["smpl"] = "smpl"
    """Whose pose and shape these are; nothing where there are only joints."""
    weak_camera: WeakCamera | None = None
    """Weak perspective ``[t]`` of the window that the tool looked at (``crop``)."""
    crop: Crop | None = None
    """The window ``[t]`` of the image; together with ``weak_camera``."""
    translation_m: Float[Tensor, "t 3"] | None = None
    """What the tool adds to SMPL's points to have them before ``camera``, metres."""
    camera: PerspectiveCamera | None = None
    """Pinhole camera ``[t]`` of the whole image; together with ``translation_m``."""
    boxes_px: Float[Tensor, "t 4"] | None = None
    """The person's box (x, y, w, h) in pixels of the image."""
    joint_set: JointSet | None = None
    """What the joints are, for a tool that gives joints only."""
    joints_cam: Float[Tensor, "t j 3"] | None = None
    """Joints in camera axes, metres, from a point in the person (MediaPipe: between the hips)."""
    joint_confidence: Float[Tensor, "t j"] | None = None
    """How sure the tool is of each joint, 0..1."""
    joints_px: Float[Tensor, "t j 2"] | None = None
    """The same joints in the image."""

    def __post_init__(self) -> None:
        who, frames = f"{self.tool}, person {self.person}", self.frame_indices
        if len(frames) == 0 or frames[0] < 0 or bool((frames.diff() <= 0).any()):
            raise ResultFileError(
                f"{who}: got frames {frames[:5].tolist()}...; expected at least one, increasing "
                "from 0, each once"
            )
        for one, other in (
            ("rotmats", "betas"),
            ("weak_camera", "crop"),
            ("translation_m", "camera"),
            ("joints_cam", "joint_set"),
        ):
            if (getattr(self, one) is None) != (getattr(self, other) is None):
                raise ResultFileError(f"{who}: got one of {one} and {other}; expected both or none")
        if self.rotmats is None and self.joints_cam is None:
            raise ResultFileError(f"{who}: got neither pose nor joints; expected one of them")

    def __len__(self) -> int:
        return len(self.frame_indices)


def to_open_body(track: ForeignTrack, body: BodyModel) -> BodyParams:
    """The track's pose on another body of SMPL's tree, in its mean shape.

    Rotations are copied. SMPL's betas are left out, and with them the person's height: what they
    mean in metres is in SMPL's own, licensed file. So limbs point where they did, but the person
    is as tall as the mean body, and keypoints lie where they did only up to that.

    Raises:
        ResultFileError: the track has joints only.
    """
    if track.rotmats is None:
        raise ResultFileError(
            f"{track.tool}, person {track.person}: got joints only; expected a pose; fit one to "
            "the joints first"
        )
    return body.params(
        track.rotmats.to(body.v_template), body.v_template.new_zeros(len(track), body.num_betas)
    )


def seen_px(track: ForeignTrack, points_m: Float[Tensor, "t n 3"]) -> Float[Tensor, "t n 2"]:
    """Where in the image the tool's camera sees points of its bodies; not finite behind it.

    Args:
        track: with a camera.
        points_m: about SMPL's own origin, turned as the body is, without translation.

    Raises:
        ResultFileError: poses without a camera.
    """
    if track.translation_m is not None and track.camera is not None:
        return track.camera.project(points_m + track.translation_m[:, None])[..., :2]
    if track.weak_camera is not None and track.crop is not None:
        seen = project_weak(points_m, track.weak_camera, track.crop.size_px)[..., :2]
        return track.crop.to_image(seen)
    raise ResultFileError(
        f"{track.tool}, person {track.person}: got poses without a camera; expected "
        "weak_camera with crop, or translation_m with camera"
    )
