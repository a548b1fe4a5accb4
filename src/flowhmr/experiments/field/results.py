"""Other tools' result files as an estimator on the field's data sets."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from flowhmr.body import BodyModel, BodyParams
from flowhmr.capture import ForeignTrack, ResultFileError, read_results, seen_px
from flowhmr.data import FieldFrames
from flowhmr.experiments.field.scores import picture_size_px, video_of

SAME = 0.2
"""Mean overlap of boxes in the common frames from which a tool's person is one of the set's."""


@dataclass(frozen=True, eq=False)
class ResultFiles:
    """What a tool found in the videos of a data set.

    A tool's frames count from the first picture of a video, its people are those of the set whose
    boxes theirs overlap most, one to one. Frames of the set in which the tool has nobody have no
    estimate.
    """

    path: Path
    """A result file, of one video; or a folder in which the name of each video's file or folder has
    that of the video's folder of pictures in it (``downtown_walking_00.pkl``,
    ``downtown_walking_00/vibe_output.pkl``)."""
    body: BodyModel
    """Neutral SMPL, whose parameters tools give."""
    images: Path
    """Folder that the set's image names are below: cameras are of the whole picture."""

    @property
    def name(self) -> str:
        """For tables."""
        return str(self.path)

    def __call__(
        self, people: list[FieldFrames], wanted: list[Bool[Tensor, "t"]]
    ) -> list[tuple[BodyParams, Bool[Tensor, "t"]]]:
        """Bodies of the people of one video.

        Raises:
            ResultFileError: no file for the video, several, or one that cannot be read.
        """
        path = self._file(video_of(people[0]))
        tracks = read_results(path, picture_size_px(people[0], self.images))
        posed = [t for t in tracks if t.rotmats is not None]
        if not posed:
            raise ResultFileError(f"{path}: got joints only; expected SMPL's pose and betas")
        boxes = [self._boxes_px(track) for track in posed]
        overlap = np.array([[_overlap(p, t, b) for t, b in zip(posed, boxes)] for p in people])
        who = dict(zip(*linear_sum_assignment(-overlap), strict=True))
        return [
            self._bodies(person, posed[who[row]])
            if row in who and overlap[row, who[row]] >= SAME
            else self._bodies(person, None)
            for row, person in enumerate(people)
        ]

    def _file(self, video: str) -> Path:
        if self.path.is_file():
            return self.path
        name = video.replace("/", "_")
        pattern = re.compile(rf"(^|[^0-9A-Za-z]){re.escape(name)}([^0-9A-Za-z]|$)")
        found = [p for p in sorted(self.path.glob("*")) if pattern.search(p.name)]
        if len(found) == 1 and found[0].is_dir() and not (found[0] / "hps").is_dir():
            found = [p for p in sorted(found[0].rglob("*")) if p.suffix in KINDS]
        if len(found) != 1:
            raise ResultFileError(
                f"{self.path}: got {[p.name for p in found[:4]]} for video {video}; expected one "
                f"file (or folder with one) with {name!r} in its name; put one there for each video"
            )
        return found[0]

    def _boxes_px(self, track: ForeignTrack) -> Float[Tensor, "t 4"]:
        """Corners of the boxes around the 24 joints in the picture."""
        assert track.rotmats is not None
        assert track.betas is not None
        params = self.body.params(track.rotmats, track.betas[:, : self.body.num_betas])
        points = seen_px(track, self.body.joints(params)).double()
        return torch.cat([points.amin(1), points.amax(1)], -1)

    def _bodies(
        self, person: FieldFrames, track: ForeignTrack | None
    ) -> tuple[BodyParams, Bool[Tensor, "t"]]:
        params = self.body.rest_params(len(person))
        if track is None:
            return params, torch.zeros(len(person), dtype=torch.bool)
        mine, theirs, there = _common(person, track)
        assert track.rotmats is not None
        assert track.betas is not None
        params.rotmats[mine] = track.rotmats[theirs]
        params.betas[mine] = track.betas[theirs, : self.body.num_betas]
        return params, there


KINDS = (".pkl", ".npz", ".npy", ".pt", ".json")
"""Names of result files end so."""


def _common(person: FieldFrames, track: ForeignTrack) -> tuple[Tensor, Tensor, Bool[Tensor, "t"]]:
    """Rows of both of the frames that both have, and which of the person's these are."""
    rows = torch.searchsorted(track.frame_indices, person.frame_indices)
    rows = rows.clamp(max=len(track) - 1)
    there = track.frame_indices[rows] == person.frame_indices
    return there.nonzero().flatten(), rows[there], there


def _overlap(person: FieldFrames, track: ForeignTrack, corners: Float[Tensor, "t 4"]) -> float:
    """Mean intersection over union of their boxes in the common frames; 0 without such."""
    mine, theirs, _ = _common(person, track)
    low, size = person.boxes_px[mine].double().split(2, -1)
    other = corners[theirs]
    shared = (torch.minimum(low + size, other[:, 2:]) - torch.maximum(low, other[:, :2])).clamp(0)
    both, each = shared.prod(-1), size.prod(-1) + (other[:, 2:] - other[:, :2]).prod(-1)
    like = both / (each - both)
    like = like[like.isfinite()]
    return float(like.mean()) if len(like) else 0.0
