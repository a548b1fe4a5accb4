"""Where a person is in each frame: boxes from files, by hand, or from keypoints.

A box is (x, y, w, h) in pixels of the upright image: left and top edge, width and height, where
the image covers [0, W] x [0, H] (the pixel rule of `flowhmr.cameras`). It may reach beyond the
image, as a person does, but never lies wholly outside. Frames are counted from 0, as
`flowhmr.data.open_video` yields them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

# A box of COCO keypoints ends at the eyes and the ankles. On a standing adult the crown lies 6-7 %
# of the stature above the eyes, the soles 4-5 % below the ankles and finger tips 10 % beyond the
# wrists; the keypoints span 88 % of the stature.
KEYPOINT_BOX_PAD = 0.1


class BoxError(ValueError):
    """Boxes or keypoints that cannot be read, or that cannot be of this video."""


@dataclass(frozen=True, eq=False)
class PersonTrack:
    """One person through a video; frames in which nobody was found, or left the picture, miss."""

    person: int
    """Number of the person, unique within the video."""
    frame_indices: Int[Tensor, "n"]
    """Which frames, strictly increasing."""
    boxes_px: Float[Tensor, "n 4"]
    """(x, y, w, h) in pixels of the image."""
    confidence: Float[Tensor, "n"]
    """How sure the source is of the person, 0..1; 0 marks a frame that was filled in."""
    keypoints_px: Float[Tensor, "n 17 3"] | None
    """COCO's 17 keypoints: x and y in pixels of the image, confidence 0..1; (0, 0, 0) where
    missing, never NaN."""

    def __post_init__(self) -> None:
        frames = self.frame_indices
        if len(frames) == 0:
            raise BoxError(f"person {self.person}: got no frames; expected at least one box")
        if frames[0] < 0 or bool((frames.diff() <= 0).any()):
            raise BoxError(
                f"person {self.person}: got frames {brief(frames.tolist())}; expected increasing "
                "numbers from 0, each frame once"
            )
        bad = ~(torch.isfinite(self.boxes_px).all(-1) & (self.boxes_px[:, 2:] > 0).all(-1))
        if bool(bad.any()):
            row = int(bad.nonzero()[0, 0])
            raise BoxError(
                f"person {self.person}, frame {int(frames[row])}: got the box "
                f"{self.boxes_px[row].tolist()}; expected finite x, y, w, h in pixels with w > 0 "
                "and h > 0; leave frames without the person out"
            )
        for name in ("confidence", "keypoints_px"):
            values = getattr(self, name)
            if values is not None and not bool(torch.isfinite(values).all()):
                raise BoxError(
                    f"person {self.person}: got {name} with numbers that are not finite; expected "
                    "confidence 0 for what is unknown"
                )

    def __len__(self) -> int:
        return len(self.frame_indices)


def brief(values: Sequence) -> str:
    """A list for a message, not longer than a line."""
    shown = ", ".join(map(str, values[:8]))
    return f"[{shown}, ... {len(values)} in all]" if len(values) > 8 else f"[{shown}]"


def check_track(
    track: PersonTrack, size_px: tuple[int, int], frame_count: int | None = None
) -> None:
    """Refuse a track that cannot belong to a video of this size and length.

    Raises:
        BoxError: a frame beyond the video's end, or a box wholly outside the picture.
    """
    if frame_count is not None and int(track.frame_indices[-1]) >= frame_count:
        raise BoxError(
            f"person {track.person}: got a box for frame {int(track.frame_indices[-1])}; expected "
            f"frames 0..{frame_count - 1} of this video; count from 0, and check that the boxes "
            "belong to it"
        )
    outside = ~in_picture(track.boxes_px, size_px)
    if bool(outside.any()):
        row = int(outside.nonzero()[0, 0])
        raise BoxError(
            f"person {track.person}, frame {int(track.frame_indices[row])}: got the box "
            f"{track.boxes_px[row].tolist()}, outside the picture; expected x, y, w, h in pixels "
            f"that overlap {size_px[0]}x{size_px[1]}; give left, top, width, height of the upright "
            "picture"
        )


def in_picture(boxes_px: Float[Tensor, "*b 4"], size_px: tuple[int, int]) -> Bool[Tensor, "*b"]:
    """Which boxes overlap the picture ``(width, height)``; False for NaN."""
    low, high = boxes_px[..., :2], boxes_px[..., :2] + boxes_px[..., 2:]
    return ((low < boxes_px.new_tensor(size_px)) & (high > 0)).all(-1)


def boxes_by_hand(
    specs: Sequence[str], frame_count: int, size_px: tuple[int, int], person: int = 0
) -> PersonTrack:
    """A track from boxes typed in: ``x,y,w,h`` for all frames, or ``FRAME:x,y,w,h`` keyframes.

    Between keyframes the four numbers are interpolated linearly; before the first and after the
    last they stay.

    Args:
        specs: one ``x,y,w,h``, or any number of keyframes in any order.
        frame_count: number of frames of the video.
        size_px: width and height of its pictures.
        person: number of the person.

    Raises:
        BoxError: a text that does not read so, a keyframe given twice or beyond the video, a box
            without area or outside the picture.
    """
    if not specs:
        raise BoxError("got no box; expected x,y,w,h or FRAME:x,y,w,h in pixels")
    keys: dict[int, list[float]] = {}
    for spec in specs:
        frame, box = _parse_spec(spec)
        if frame is None and len(specs) > 1:
            raise BoxError(
                f"got {spec!r} among {len(specs)} boxes; expected one x,y,w,h for all frames, or "
                "keyframes FRAME:x,y,w,h only"
            )
        if frame is not None and frame in keys:
            raise BoxError(f"got {spec!r}, a second box for frame {frame}; expected one a frame")
        keys[frame or 0] = box
    frames = torch.tensor(sorted(keys))
    boxes_px = torch.tensor([keys[f] for f in sorted(keys)])
    check_track(
        PersonTrack(person, frames, boxes_px, torch.ones(len(keys)), None), size_px, frame_count
    )
    every = torch.arange(frame_count)
    return PersonTrack(
        person, every, _interpolate(every, frames, boxes_px), torch.ones(frame_count), None
    )


def _parse_spec(spec: str) -> tuple[int | None, list[float]]:
    frame, colon, text = spec.rpartition(":")
    try:
        box = [float(part) for part in text.split(",")]
        if len(box) != 4:
            raise ValueError
        return int(frame) if colon else None, box
    except ValueError:
        raise BoxError(
            f"got the box {spec!r}; expected x,y,w,h or FRAME:x,y,w,h with numbers in pixels, as "
            "in 120,40,80,200 or 30:120,40,80,200"
        ) from None


def _interpolate(
    frames: Int[Tensor, "n"], known: Int[Tensor, "k"], values: Float[Tensor, "k *c"]
) -> Float[Tensor, "n *c"]:
    """Linear between the known frames, constant outside."""
    after = torch.searchsorted(known, frames).clamp(max=len(known) - 1)
    before = torch.where(known[after] > frames, (after - 1).clamp(min=0), after)
    span = (known[after] - known[before]).clamp(min=1)
    weight = ((frames - known[before]) / span).clamp(0, 1).to(values.dtype)
    weight = weight.reshape(-1, *[1] * (values.ndim - 1))
    return values[before] * (1 - weight) + values[after] * weight


def boxes_from_keypoints(
    keypoints_px: Float[Tensor, "*b j 3"], min_confidence: float = 0.3, min_count: int = 3
) -> Float[Tensor, "*b 4"]:
    """The box around the confident keypoints, grown so that crown, feet and hands are inside.

    Each side moves outwards by `KEYPOINT_BOX_PAD` (0.1) of the longer side of the tight box: for
    a whole standing person the box is about 1.06 of the stature high.

    Returns:
        Boxes in pixels of the image; NaN where fewer than ``min_count`` keypoints have at least
        ``min_confidence``, or where they share one place.
    """
    known = keypoints_px[..., 2] >= min_confidence
    xy = keypoints_px[..., :2]
    low = torch.where(known[..., None], xy, torch.inf).amin(-2)
    high = torch.where(known[..., None], xy, -torch.inf).amax(-2)
    pad = KEYPOINT_BOX_PAD * (high - low).amax(-1, keepdim=True)
    boxes_px = torch.cat([low - pad, high - low + 2 * pad], -1)
    usable = (known.sum(-1) >= min_count) & (pad[..., 0] > 0)
    return torch.where(usable[..., None], boxes_px, torch.nan)


def track_from_keypoints(
    person: int,
    frame_indices: Int[Tensor, "n"],
    keypoints_px: Float[Tensor, "n 17 3"],
    size_px: tuple[int, int] | None = None,
) -> PersonTrack | None:
    """A track with `boxes_from_keypoints`, without the frames that the person is not in.

    A frame is left out when it has too few confident keypoints or, where ``size_px`` (width,
    height) is given, too few of them inside the picture.

    Returns:
        The track, its confidence the mean over the 17 keypoints; None when no frame remains.
    """
    keypoints_px = torch.where(keypoints_px.isfinite().all(-1, keepdim=True), keypoints_px, 0.0)
    boxes_px = boxes_from_keypoints(keypoints_px)
    present = boxes_px.isfinite().all(-1)
    if size_px is not None:
        xy = keypoints_px[..., :2]
        inside = ((xy >= 0) & (xy <= xy.new_tensor(size_px))).all(-1, keepdim=True)
        present &= boxes_from_keypoints(keypoints_px * inside).isfinite().all(-1)
    if not bool(present.any()):
        return None
    keypoints_px = keypoints_px[present]
    confidence = keypoints_px[..., 2].mean(-1).clamp(0, 1)
    return PersonTrack(person, frame_indices[present], boxes_px[present], confidence, keypoints_px)


def fill_gaps(track: PersonTrack, limit: int = 10) -> PersonTrack:
    """The track with gaps of at most ``limit`` missing frames filled by linear interpolation.

    Filled frames have confidence 0, their keypoints too. Longer gaps stay: the person was gone.
    """
    steps = track.frame_indices.diff()
    kept = [track.frame_indices]
    for row in ((steps > 1) & (steps <= limit + 1)).nonzero()[:, 0].tolist():
        start, stop = track.frame_indices[row : row + 2].tolist()
        kept.append(torch.arange(start + 1, stop, dtype=track.frame_indices.dtype))
    frames = torch.cat(kept).sort().values
    known = torch.isin(frames, track.frame_indices)
    keypoints_px = track.keypoints_px
    if keypoints_px is not None:
        keypoints_px = _interpolate(frames, track.frame_indices, keypoints_px)
        keypoints_px[..., 2] *= known[:, None]
    return PersonTrack(
        track.person,
        frames,
        _interpolate(frames, track.frame_indices, track.boxes_px),
        _interpolate(frames, track.frame_indices, track.confidence) * known,
        keypoints_px,
    )


def smooth_boxes(track: PersonTrack, window: int = 9) -> PersonTrack:
    """The track with steadier boxes, so that crops follow the person without jitter.

    A running median (removes outliers of up to half a window, keeps edges), then a Gaussian (sigma
    a sixth of the window), of the centre and of the logarithm of width and height, within each
    stretch of consecutive frames. Motion at constant velocity is unchanged, up to the ends: there
    the stretch is continued by point reflection.

    Args:
        track: any track; its keypoints stay as they are.
        window: frames, odd; 1 changes nothing.

    Raises:
        ValueError: an even window or one below 1.
    """
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window: got {window}; expected an odd number of frames from 1")
    size = track.boxes_px[:, 2:]
    values = torch.cat([track.boxes_px[:, :2] + size / 2, size.log()], -1).double()
    breaks = (track.frame_indices.diff() != 1).nonzero()[:, 0] + 1
    stretches = torch.tensor_split(values, breaks)
    smooth = torch.cat([_smooth(stretch, window) for stretch in stretches])
    size = smooth[:, 2:].exp()
    boxes_px = torch.cat([smooth[:, :2] - size / 2, size], -1).to(track.boxes_px.dtype)
    return replace(track, boxes_px=boxes_px)


def _smooth(values: Float[Tensor, "n c"], window: int) -> Float[Tensor, "n c"]:
    half = min(window // 2, len(values) - 1)
    if half == 0:
        return values
    offsets = torch.arange(-half, half + 1, dtype=values.dtype)
    weights = torch.exp(-0.5 * (offsets / (window / 6)) ** 2)
    steady = _windows(values, half).median(-1).values
    return _windows(steady, half) @ (weights / weights.sum())


def _windows(values: Float[Tensor, "n c"], half: int) -> Float[Tensor, "n c w"]:
    """Each row with its neighbours; beyond the ends the curve is reflected in its end point."""
    before = 2 * values[:1] - values[1 : half + 1].flip(0)
    after = 2 * values[-1:] - values[-half - 1 : -1].flip(0)
    return torch.cat([before, values, after]).unfold(0, 2 * half + 1, 1)
