"""What a video says of its people: bodies in metres before the video's own camera."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flowhmr.body import BodyParams
from flowhmr.cameras import PerspectiveCamera

UNEVEN = 0.25
"""How far a frame may be from its place on an even grid, in distances of frames: containers round
times to milliseconds."""


@dataclass(frozen=True, eq=False)
class PersonMotion:
    """One person along a video. Camera axes: X right, Y down, Z away, metres."""

    person: int
    """Number of the person, unique within the video."""
    frame_indices: Int[Tensor, "t"]
    """Which frames of the video, strictly increasing; frames without the person miss."""
    params: BodyParams
    """Pose and shape ``[t]``; joint 0 turns the body into camera axes. The shape is the same in all
    frames."""
    translation_m: Float[Tensor, "t 3"]
    """What is added to the body's points (``BodyModel.mesh``, ``.joints``) to have them in camera
    axes."""
    confidence: Float[Tensor, "t"]
    """How much the picture says of the person, 0..1; 0 where the motion was filled in."""

    def __post_init__(self) -> None:
        frames = self.frame_indices
        if len(frames) == 0 or frames[0] < 0 or bool((frames.diff() <= 0).any()):
            raise ValueError(
                f"motion of person {self.person}: got frames {frames[:5].tolist()}...; expected at "
                "least one, increasing from 0, each once"
            )

    def __len__(self) -> int:
        return len(self.frame_indices)


@dataclass(frozen=True, eq=False)
class SceneMotion:
    """Everybody in a video, before one camera."""

    people: tuple[PersonMotion, ...]
    """By number; of one body (``params.body_id``)."""
    camera: PerspectiveCamera
    """The video's camera, the same in all frames (no leading axes), pixels of the whole image."""
    size_px: tuple[int, int]
    """Width and height of the video's images."""
    times_s: Float[Tensor, "n"]
    """When each frame of the video was taken, people or not; from its first frame on."""

    def __post_init__(self) -> None:
        numbers = [p.person for p in self.people]
        if len(set(numbers)) != len(numbers):
            raise ValueError(f"scene: got people {numbers}; expected each number once")
        for person in self.people:
            if int(person.frame_indices[-1]) >= len(self.times_s):
                raise ValueError(
                    f"scene: got frame {int(person.frame_indices[-1])} of person {person.person}; "
                    f"expected frames of a video of {len(self.times_s)}"
                )

    @property
    def even_step_s(self) -> float | None:
        """Seconds from frame to frame, if all frames are near an even grid; else None."""
        times_s = self.times_s.detach().cpu().double()
        step_s = float(times_s[-1] - times_s[0]) / max(len(times_s) - 1, 1)
        if step_s <= 0:
            return None
        places = (times_s - times_s[0]) / step_s
        off = (places - torch.arange(len(times_s))).abs().max()
        return step_s if float(off) <= UNEVEN else None

    @property
    def fps(self) -> float:
        """Frames per second, from the median distance of frames; 30 for a single picture."""
        if len(self.times_s) < 2:
            return 30.0
        if (step_s := self.even_step_s) is not None:
            return 1 / step_s
        median = 1 / max(float(self.times_s.diff().median()), 1e-6)
        mean = (len(self.times_s) - 1) / max(float(self.times_s[-1] - self.times_s[0]), 1e-6)
        # Late in a long video single steps are rounded; where none is missing, the mean is exact.
        return mean if abs(mean - median) < 0.01 * median else median


def gaps_in(frame_indices: Int[Tensor, "t"]) -> list[Int[Tensor, "_"]]:
    """Rows of a person's frames, split where frames of the video are missing."""
    ends = (1 + (frame_indices.diff() != 1).nonzero().flatten()).tolist()
    return list(torch.arange(len(frame_indices)).tensor_split(ends))
