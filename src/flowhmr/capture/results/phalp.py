"""4D-Humans and PHALP: ``results/demo_*.pkl``, written by joblib with zlib."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from flowhmr.cameras import PerspectiveCamera, WeakCamera
from flowhmr.capture.results.fields import Columns, checked_rotmats, field, record, whole_number
from flowhmr.capture.results.track import ForeignTrack, ResultFileError
from flowhmr.capture.results.vibe import scaled_shift, window

_ROW = ("smpl", "size", "camera", "camera_bbox", "center", "scale", "bbox")


def is_phalp(entry: dict[Any, Any]) -> bool:
    """Whether this is a frame of such a file."""
    return {"tid", "smpl", "time"} <= set(entry)


def phalp_tracks(frames: dict[Any, Any], size_px: tuple[int, int]) -> list[ForeignTrack]:
    """People of such a file, in the frames in which they were detected.

    PHALP carries people on for a while without seeing them (``tracked_time`` above 0); those rows
    repeat the last pose and are left out.
    """
    people: dict[int, dict[int, tuple[Mapping[Any, Any], int]]] = defaultdict(dict)
    for name, entry in frames.items():
        entry = record(entry, f"frame {name!r}")
        frame = whole_number(field(entry, "time", f"frame {name!r}"), f"frame {name!r}, time")
        unseen = entry.get("tracked_time", [0] * len(entry["tid"]))
        for row, (number, missed) in enumerate(zip(entry["tid"], unseen)):
            if missed == 0:
                people[whole_number(number, f"frame {name!r}")].setdefault(frame, (entry, row))
    return [_track(number, people[number], size_px) for number in sorted(people)]


def _track(
    number: int, seen: dict[int, tuple[Mapping[Any, Any], int]], size_px: tuple[int, int]
) -> ForeignTrack:
    where, order = f"person {number}", sorted(seen)
    lists = {key: [_of_row(*seen[frame], key, where) for frame in order] for key in _ROW}
    smpl = [record(body, where) for body in lists["smpl"]]
    for key in ("global_orient", "body_pose", "betas"):
        lists[key] = [field(body, key, where) for body in smpl]
    rows = Columns(lists, where, torch.tensor(order))
    sizes = rows.numbers("size", 2)
    if not bool((sizes == torch.tensor(size_px[::-1])).all()):
        raise ResultFileError(
            f"{where}: got results for images of {sizes[0, 1]:g} x {sizes[0, 0]:g}; expected "
            f"{size_px[0]} x {size_px[1]}; give the video that the tool was run on"
        )
    turn, pose = rows.numbers("global_orient", 1, 3, 3), rows.numbers("body_pose", 23, 3, 3)
    found, translation = rows.numbers("camera_bbox", 3), rows.numbers("camera", 3)
    side_px = rows.numbers("scale", 2).amax(-1)
    return ForeignTrack(
        tool="phalp",
        person=number,
        frame_indices=rows.frame_indices,
        rotmats=checked_rotmats(torch.cat([turn, pose], 1), f"{where}, pose"),
        betas=rows.betas("betas"),
        weak_camera=WeakCamera(scaled_shift(found).float()),
        crop=window(rows.numbers("center", 2), side_px),
        translation_m=translation.float(),
        # Of the settings that it follows from (5000 px on a canvas of 256) none is in the file.
        camera=PerspectiveCamera(
            (translation[:, 2] * found[:, 0] * side_px / 2).float(),
            padded_middle(size_px).expand(len(order), 2).clone(),
        ),
        boxes_px=rows.numbers("bbox", 4).float(),
    )


def _of_row(entry: Mapping[Any, Any], row: int, key: str, where: str) -> Any:
    """A person's value in a frame's list of all people."""
    column = field(entry, key, where)
    if not isinstance(column, list) or len(column) <= row:
        raise ResultFileError(
            f"{where}, frame {entry['time']}: got another list of {key!r} than one of the "
            f"{len(entry['tid'])} people; expected one value each"
        )
    return column[row]


def padded_middle(size_px: tuple[int, int]) -> Float[Tensor, "2"]:
    """Middle of the square that the image is padded to, in the image's pixels.

    Half a pixel off the image's own where the padding is odd: tools put the smaller half first.
    """
    side = max(size_px)
    return torch.tensor([side / 2 - (side - size) // 2 for size in size_px])
