"""What Motion HMR sees of a person along a video: crops, flow, keypoints, and what is lost.

Heatmaps are drawn by the network, on its device: here a keypoint is three numbers.
"""

import zlib
from collections.abc import Sequence as Several
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float16, UInt8
from torch import Tensor

from flowhmr.body import COCO_17, SMPL_24
from flowhmr.cameras import Crop, between_crops, crop_from_box, pixel_centres_px, warp_image
from flowhmr.data.augment import recolour
from flowhmr.data.batches import Batches
from flowhmr.data.detector_model import DetectorModel, detections
from flowhmr.data.labels import labels_in_crop
from flowhmr.data.sequences import PairSource
from flowhmr.data.tracks import MIN_CONFIDENCE
from flowhmr.flow import sample_flow
from flowhmr.geometry import collate, pick
from flowhmr.records import Labels, MotionClip, MotionInput, Sequence, TrackLabels

HEATMAP_JOINTS = tuple(
    f"{side}_{joint}"
    for joint in ("ankle", "knee", "hip", "shoulder", "elbow", "wrist")
    for side in ("left", "right")
)
"""The keypoints that Motion HMR is told of."""
_CHAIN = list(SMPL_24.indices_of(HEATMAP_JOINTS))
_COCO = list(COCO_17.indices_of(HEATMAP_JOINTS))
_LEGS = torch.tensor([not name.endswith(("shoulder", "elbow", "wrist")) for name in HEATMAP_JOINTS])
_MIRROR = [i ^ 1 for i in range(len(HEATMAP_JOINTS))]
_FACE = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
_NEAREST = list(
    SMPL_24.indices_of(["head" if n in _FACE else n for n in COCO_17.names])
)  # fmt: skip
COUNTED = (*HEATMAP_JOINTS, "neck", "head")
"""The 14 joints that are counted where it matters how many are visible."""
LEAST = 7
"""A frame with fewer visible ones counts as lost and is not scored (section 4)."""


@dataclass(frozen=True)
class MotionInputConfig:
    """How clips are cut from video, and how they are varied in training."""

    frames: int = 31
    """Length of a clip."""
    margin: float = 1.5
    """Side of the crop over the longest side of the person's box: a person is about 150 px tall in
    one of 224 px."""
    legs: float = 0.5
    """Share of clips in which hidden legs are reported."""
    flips: float = 0.05
    """Share of keypoints whose state is turned round."""
    lost: float = 0.15
    """Share of clips with a run of frames, of those that are not lost anyway, in which everything
    is."""
    longest: int = 15
    """The longest such run, frames."""
    detector: DetectorModel | None = None
    """See keypoints as such a detector would give them, instead of exact ones by the rules
    above."""
    zoom: float = 0.1
    """Standard deviation of the crops' zoom, one for a clip."""
    shift: float = 0.04
    """Standard deviation of where they lie, share of their side; one for a clip."""
    flip: float = 0.5
    """Share of clips that are mirrored."""
    colour: float = 0.4
    """Per-channel factor of pictures U(1 - colour, 1 + colour), one for a clip."""

    def __post_init__(self) -> None:
        if self.frames < 2 or self.longest < 1:
            raise ValueError(
                f"clips: got {self.frames} frames, at most {self.longest} of them lost; expected "
                "at least 2 frames, and runs of at least 1"
            )


@dataclass(frozen=True, eq=False)
class MotionVideo:
    """What clips are cut from, and with what."""

    sequences: list[Sequence]
    """One person's images each."""
    size_px: int
    """Of the network's crops."""
    rgb: bool
    """Cut pictures."""
    links: PairSource | None
    """Gives the flow between neighbouring frames; None: no flow."""

    def __post_init__(self) -> None:
        if self.links is not None and self.links.config.gap != 1:
            raise ValueError(
                f"clips: got flow between frames {self.links.config.gap} apart; expected "
                "neighbours; use a PairConfig with gap 1"
            )


class MotionBatches(Batches[MotionClip]):
    """Batch number ``i`` of clips ``[batch, frames - 1]``; it follows from (seed, i) alone.

    Args:
        video: what clips are cut from.
        config: how.
        batch: clips per batch.
        seed: of the run.
        count: how many batches there are.

    Raises:
        ValueError: no video is long enough.
    """

    def __init__(
        self, video: MotionVideo, config: MotionInputConfig, batch: int, seed: int, count: int
    ):
        self.video, self.config, self.batch = video, config, batch
        self.seed, self.count = seed, count
        self._long = [s for s in video.sequences if len(s) >= config.frames]
        if not self._long:
            longest = max((len(s) for s in video.sequences), default=0)
            raise ValueError(
                f"clips: got {len(video.sequences)} sequences of at most {longest} frames; "
                f"expected some of {config.frames}; give longer video or take shorter clips"
            )

    def samples(self, number: int, rows: range) -> MotionClip:
        """Some clips of a batch."""
        drawn = []
        for row in rows:
            rng = np.random.default_rng([self.seed, 11, number * self.batch + row])
            sequence = self._long[int(rng.integers(len(self._long)))]
            start = int(rng.integers(len(sequence) - self.config.frames + 1))
            when = range(start, start + self.config.frames)
            drawn.append(cut_clip(self.video, sequence, when, self.config, rng))
        return collate(drawn)


def cut_clip(
    video: MotionVideo,
    sequence: Sequence,
    rows: range,
    config: MotionInputConfig,
    rng: np.random.Generator | None,
) -> MotionClip:
    """Consecutive frames of a video as pairs, ``[len(rows) - 1]``.

    Args:
        video: says what to cut.
        sequence: of whom.
        rows: which frames, at least two.
        config: how crops are cut and varied.
        rng: source of every choice; None cuts as at test time, where nothing is varied.
    """
    crops = pair_crops(sequence.boxes_px[list(rows)], video.size_px, config.margin)
    if rng is not None:
        crops = _varied(crops, config, rng)
    keypoints_px, lost = seen_keypoints(sequence, rows, config, rng)
    firsts = rows[:-1]
    flow_px = frames = None
    if video.links is not None:
        flow_px = _flow(video.links, sequence, firsts, crops)
    if video.rgb:
        colour = 0.0 if rng is None else config.colour
        seed = 0 if rng is None else int(rng.integers(2**32))
        frames = _pictures(sequence, firsts, crops, colour, seed)
    now = after = None
    if sequence.labels is not None:
        now = _labels(sequence.labels, firsts, crops)
        after = _labels(sequence.labels, rows[1:], crops)
    seen = MotionInput(
        frames=frames,
        flow_px=flow_px,
        keypoints_px=_in_crops(keypoints_px[:-1], crops),
        occluded=lost[:-1].float(),
    )
    return MotionClip(seen, now, after)


def pair_crops(boxes_px: Float[Tensor, "t 4"], size_px: int, margin: float) -> Crop:
    """For each pair of neighbouring frames a window ``[t - 1]`` around the person in both.

    As large as the larger box asks for, not as both together: the person keeps the size that single
    frames are cut to.
    """
    low = torch.minimum(boxes_px[:-1, :2], boxes_px[1:, :2])
    ends = boxes_px[:, :2] + boxes_px[:, 2:]
    high = torch.maximum(ends[:-1], ends[1:])
    side = torch.maximum(boxes_px[:-1, 2:], boxes_px[1:, 2:]).amax(-1, keepdim=True)
    boxes = torch.cat([(low + high - side) / 2, side.expand(-1, 2)], -1)
    return crop_from_box(boxes, size_px, margin)


def enough_visible(labels: Labels) -> Bool[Tensor, "t"]:
    """Frames in which at least `LEAST` of the joints `COUNTED` are visible: those that count."""
    counted = list(SMPL_24.indices_of(COUNTED))
    return (labels.keypoint_confidence[..., counted] > 0).sum(-1) >= LEAST


def seen_keypoints(
    sequence: Sequence, rows: range, config: MotionInputConfig, rng: np.random.Generator | None
) -> tuple[Float[Tensor, "t 12 3"], Bool[Tensor, "t"]]:
    """Where `HEATMAP_JOINTS` are reported in some frames, and in which the person is lost.

    Detected keypoints are taken as they are. Without them, keypoints are the labels' and hidden by
    the paper's rules (`reported_joints`). Video without either has none.

    Args:
        sequence: whose.
        rows: which frames.
        config: rules, and how often everything is lost.
        rng: source of every choice; None hides nothing that is visible.

    Returns:
        x and y in pixels of the image and 1 where reported, else zeros; which frames are lost:
        all that the detector found too little in, at test time those with too few visible joints,
        in training those with none, and a run of others.
    """
    when = list(rows)
    labels = None if sequence.labels is None else pick(sequence.labels, torch.tensor(when))
    if sequence.detected_px is None and labels is not None and config.detector and rng is not None:
        found = _simulated(labels, sequence.boxes_px[when], config.detector, rng)[:, _COCO]
    elif sequence.detected_px is not None:
        found = sequence.detected_px[when][:, _COCO]
    else:
        found = None
    if found is not None:
        points_px, reported = found[..., :2], found[..., 2] >= MIN_CONFIDENCE
        # Half of these, as seven are of fourteen.
        lost = reported.sum(-1) < len(HEATMAP_JOINTS) // 2
    elif labels is not None:
        points_px = labels.keypoints_px[:, _CHAIN]
        reported = labels.keypoint_confidence[:, _CHAIN] > 0
        if rng is None:
            lost = ~enough_visible(labels)
        else:
            lost = (labels.keypoint_confidence <= 0).all(-1)
            height, width = sequence.images[0].shape[:2]
            size = points_px.new_tensor([width, height])
            possible = ((points_px >= 0) & (points_px < size)).all(-1)
            reported = reported_joints(reported, possible, config, rng)
    else:
        points_px = torch.zeros(len(when), len(HEATMAP_JOINTS), 2)
        reported, lost = points_px[..., 0] > 0, torch.zeros(len(when), dtype=torch.bool)
    if rng is not None and rng.random() < config.lost:
        length = int(rng.integers(1, min(config.longest, len(when) - 1) + 1))
        start = int(rng.integers(len(when) - length + 1))
        lost = lost.clone()
        lost[start : start + length] = True
    shown = (reported & ~lost[:, None])[..., None]
    points_px = torch.where(shown, points_px, torch.zeros_like(points_px))
    return torch.cat([points_px, shown.to(points_px.dtype)], -1), lost


def reported_joints(
    visible: Bool[Tensor, "t 12"],
    possible: Bool[Tensor, "t 12"],
    config: MotionInputConfig,
    rng: np.random.Generator,
) -> Bool[Tensor, "t 12"]:
    """Which keypoints training gets to see (Motion HMR, appendix B).

    Detectors often report legs that are hidden, miss what is seen and see what is not.

    Args:
        visible: on the image, hidden by nothing, not 20 cm behind the body's own surface.
        possible: on the image; nothing else is ever reported.
        config: how often.
        rng: source of every choice.
    """
    reported = visible.clone()
    if rng.random() < config.legs:
        reported |= _LEGS
    reported ^= torch.from_numpy(rng.random(tuple(visible.shape)) < config.flips)
    return reported & possible


def with_detector(
    sequences: Several[Sequence], model: DetectorModel, seed: int = 0
) -> list[Sequence]:
    """The same videos with keypoints as a detector would give them, in place of real detections.

    Those of the face lie at the head's joint: Motion HMR does not look at them.

    Args:
        sequences: synthetic videos, with labels.
        model: of the detector.
        seed: of its errors, with the video's name.

    Raises:
        ValueError: a video without labels.
    """
    out = []
    for sequence in sequences:
        if sequence.labels is None:
            raise ValueError(
                f"{sequence.name}: got video without labels; expected synthetic video, whose "
                "detections can be simulated"
            )
        rng = np.random.default_rng([seed, 12, zlib.crc32(sequence.name.encode())])
        found = _simulated(sequence.labels, sequence.boxes_px, model, rng)
        out.append(replace(sequence, detected_px=found))
    return out


def _simulated(
    labels: Labels, boxes_px: Float[Tensor, "t 4"], model: DetectorModel, rng: np.random.Generator
) -> Float[Tensor, "t 17 3"]:
    visible = labels.keypoint_confidence[:, _NEAREST] > 0
    side_px = 1.2 * boxes_px[:, 2:].amax(-1)
    exact_px = labels.keypoints_px[:, _NEAREST]
    return detections(exact_px, visible, side_px, model, rng).keypoints_px


def _varied(crops: Crop, config: MotionInputConfig, rng: np.random.Generator) -> Crop:
    """The same change to all windows of a clip: what moves in it, moves as before."""
    zoom = float(np.clip(rng.normal(1, config.zoom), 0.75, 1.4))
    side_px = crops.side_px * zoom
    shift = torch.from_numpy(rng.normal(0, config.shift, 2)).to(side_px.dtype)
    mirrored = torch.full_like(crops.mirrored, float(rng.random() < config.flip))
    centre_px = crops.centre_px + shift * side_px[:, None]
    return replace(crops, centre_px=centre_px, side_px=side_px, mirrored=mirrored)


def _in_crops(keypoints_px: Float[Tensor, "n 12 3"], crops: Crop) -> Float[Tensor, "n 12 3"]:
    points_px, shown = crops.to_crop(keypoints_px[..., :2]), keypoints_px[..., 2:]
    found = torch.cat([points_px * shown, shown], -1)
    return torch.where(crops.mirrored[:, None, None] > 0.5, found[:, _MIRROR], found)


def _labels(labels: Labels, rows: range, crops: Crop) -> TrackLabels:
    here = labels_in_crop(pick(labels, torch.tensor(list(rows))), crops)
    return TrackLabels(here.params, here.keypoints_px * (2 / crops.size_px) - 1)


def _flow(
    source: PairSource, sequence: Sequence, rows: range, crops: Crop
) -> Float16[Tensor, "n 2 s s"]:
    """Flow from each of some frames to the next, in their crops; half precision is 0.01 px."""
    size = crops.size_px
    links = [source.link(sequence, row, size) for row in rows]
    windows = collate([link.window for link in links])
    flow = torch.stack([link.flow.forward for link in links])
    centres_px = pixel_centres_px(size, size).flatten(0, 1).expand(len(links), -1, -1)
    moved_px = sample_flow(flow, between_crops(centres_px, crops, windows))
    turn = crops.linear() @ torch.linalg.inv(windows.linear())
    moved_px = moved_px @ turn.transpose(-1, -2)
    return moved_px.transpose(1, 2).unflatten(-1, (size, size)).half()


def _pictures(
    sequence: Sequence, rows: range, crops: Crop, colour: float, seed: int
) -> UInt8[Tensor, "n 3 s s"]:
    images = []
    for number, row in enumerate(rows):
        image = warp_image(sequence.images[row], pick(crops, number))
        if colour:
            # The same stream for each frame: a clip has one light.
            image = recolour(np.random.default_rng(seed), image, colour)
        images.append(torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))))
    return torch.stack(images)
