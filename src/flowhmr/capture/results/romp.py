"""ROMP (simple_romp): ``video_results.npz``, or the npz of one picture. BEV's are refused."""

import re
from typing import Any

import numpy as np
import torch

from flowhmr.cameras import WeakCamera
from flowhmr.capture.results.fields import columns, field, record, whole_number
from flowhmr.capture.results.phalp import padded_middle
from flowhmr.capture.results.track import ForeignTrack, ResultFileError
from flowhmr.capture.results.vibe import window

_ROW = ("cam", "smpl_thetas", "smpl_betas")


def is_romp(data: Any) -> bool:
    """Whether this is such a file."""
    return isinstance(data, dict) and isinstance(data.get("results"), dict)


def romp_tracks(data: dict[Any, Any], size_px: tuple[int, int]) -> list[ForeignTrack]:
    """People of such a file.

    ROMP tells people apart only when it tracks them. A picture's people are numbered in order; a
    video without tracks is read if there is one person in each frame.

    Raises:
        ResultFileError: a video with several people and no tracks.
    """
    tracked = data.get("sequence_results")
    if isinstance(tracked, dict) and tracked:
        people = {whole_number(k, "track"): record(v, f"track {k}") for k, v in tracked.items()}
    elif "smpl_thetas" in data["results"]:
        entry = data["results"]
        count = len(field(entry, "smpl_thetas", "results"))
        people = {
            i: {"frame_id": [0]} | {key: field(entry, key, "results")[i : i + 1] for key in _ROW}
            for i in range(count)
        }
    else:
        people = {0: _single_person(data["results"])}
    return [_track(number, people[number], size_px) for number in sorted(people)]


def _single_person(frames: dict[Any, Any]) -> dict[str, list[Any]]:
    """The one person of a video that was not tracked."""
    rows: dict[str, list[Any]] = {"frame_id": [], **{key: [] for key in _ROW}}
    for place, (name, entry) in enumerate(frames.items()):
        entry = record(entry, f"frame {name!r}")
        count = len(field(entry, "smpl_thetas", f"frame {name!r}"))
        if count > 1:
            raise ResultFileError(
                f"frame {name!r}: got {count} people and no track_ids; expected people to be "
                "tracked; run ROMP with --temporal_optimize (-t), or --show_largest"
            )
        if count == 1:
            digits = re.search(r"(\d+)(\.\w+)?$", str(name))
            rows["frame_id"].append(int(digits[1]) if digits else place)
            for key in _ROW:
                rows[key].append(field(entry, key, f"frame {name!r}")[0])
    if not rows["frame_id"]:
        raise ResultFileError("got nobody in any frame; expected the person in at least one")
    return rows


def _track(number: int, entry: Any, size_px: tuple[int, int]) -> ForeignTrack:
    rows = columns(entry, f"person {number}", "frame_id")
    shape = np.shape(rows.get("smpl_betas"))
    if shape and shape[-1] == 11:
        # Its camera is a perspective one with x and y in the other order, about the hips.
        raise ResultFileError(
            f"person {number}: got eleven betas, as BEV writes them; expected a result of ROMP; "
            "run romp in bev's place"
        )
    params = rows.numbers("cam", 3)
    side_px = torch.full((len(params),), float(max(size_px)))
    return ForeignTrack(
        tool="romp",
        person=number,
        frame_indices=rows.frame_indices,
        rotmats=rows.axis_angle("smpl_thetas"),
        betas=rows.betas("smpl_betas"),
        # ROMP looks at the whole image, padded to a square, and its (s, tx, ty) is as ours.
        weak_camera=WeakCamera(params.float()),
        crop=window(padded_middle(size_px).expand(len(params), 2).clone(), side_px),
    )
