"""What a data set's files say of people in pictures, in this package's conventions."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from flowhmr.body import JointSet
from flowhmr.cameras import Crop, WeakCamera
from flowhmr.files import DataFileError

BOX_MARGIN = 1.2
"""Side of the field's crops over the longer side of the person's box."""


class FieldError(DataFileError):
    """A file of a data set that cannot be read, or that contradicts itself; says where."""


@dataclass(frozen=True, eq=False)
class FieldFrames:
    """Some rows of a data set: a person in a picture each.

    Camera axes: X right, Y down, Z away, metres. An image of width W covers [0, W]: what the files
    say of pixels, whose centres they put on integers, is half a pixel further here.
    """

    rows: Int[np.ndarray, "n"]
    """Which rows of the set these are."""
    images: tuple[str, ...]
    """Names of the image files, as the set has them."""
    people: tuple[str, ...]
    """Who is seen: equal in the rows of one person in one video, "" where the set does not say."""
    frame_indices: Int[Tensor, "n"]
    """The frame of the video; 0 for stills."""
    boxes_px: Float[Tensor, "n 4"]
    """(x, y, w, h); where the set gives a crop, the square that `BOX_MARGIN` makes that crop of."""
    keypoint_set: JointSet | None = None
    """What the 2D keypoints are."""
    keypoints_px: Float[Tensor, "n k 3"] | None = None
    """x, y and confidence 0..1; (0, 0, 0) where nothing was seen."""
    joint_set: JointSet | None = None
    """What the 3D joints are."""
    joints_cam: Float[Tensor, "n j 4"] | None = None
    """3D joints in camera axes, metres, and confidence 0..1; from a point that the set chooses."""
    rotmats: Float[Tensor, "n 24 3 3"] | None = None
    """SMPL's pose; joint 0 turns the body into camera axes. Not turned where there is no body."""
    betas: Float[Tensor, "n 10"] | None = None
    """SMPL's shape; together with ``rotmats``."""
    has_body: Bool[Tensor, "n"] | None = None
    """Which rows have pose and shape; together with ``rotmats``."""
    model: str = "smpl"
    """Whose betas these are: "smpl", or "smplx", whose shapes are others (poses mean the same)."""
    genders: tuple[str, ...] | None = None
    """Whose SMPL the betas are of: "male", "female" or "neutral"."""
    pelvis_m: Float[Tensor, "n 3"] | None = None
    """Where SMPL's joint 0 is in camera axes, metres."""
    intrinsics_px: Float[Tensor, "n 3 3"] | None = None
    """The camera's matrix."""
    weak_camera: WeakCamera | None = None
    """Weak perspective of ``crop``, of SMPL's points as they are (not about the pelvis)."""
    crop: Crop | None = None
    """The window of the weak camera."""
    valid: Bool[Tensor, "n"] | None = None
    """Rows that the set itself trusts; None where it does not say."""

    def __post_init__(self) -> None:
        for one, other in (
            ("keypoints_px", "keypoint_set"),
            ("joints_cam", "joint_set"),
            ("rotmats", "betas"),
            ("rotmats", "has_body"),
            ("weak_camera", "crop"),
        ):
            if (getattr(self, one) is None) != (getattr(self, other) is None):
                raise FieldError(f"got one of {one} and {other}; expected both or none")

    def __len__(self) -> int:
        return len(self.rows)


@runtime_checkable
class FieldSet(Protocol):
    """A data set that is read row by row; what is not asked for stays on the disk."""

    @property
    def path(self) -> Path:
        """The file or folder."""
        ...

    def __len__(self) -> int: ...

    def read(self, rows: Int[np.ndarray, "n"]) -> FieldFrames:
        """Some of its rows.

        Raises:
            FieldError: values that cannot be (names file, field and row).
        """
        ...
