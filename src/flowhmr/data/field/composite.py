"""SURREAL's people before real video (Motion HMR, section 3.1 and appendix A), drawn as they are
asked for: any person may stand before any video."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from flowhmr.body import SMPL_24, BodyModel
from flowhmr.data.batches import Batches
from flowhmr.data.field.frames import FieldError, FieldFrames
from flowhmr.data.field.labels import field_labels
from flowhmr.data.field.pictures import read_picture
from flowhmr.data.field.surreal import SIZE_PX, SurrealSet, surreal_depths, surreal_people
from flowhmr.data.motion_inputs import COUNTED, MotionInputConfig, MotionVideo, cut_clip
from flowhmr.data.sequences import PairSource
from flowhmr.geometry import collate
from flowhmr.records import Labels, MotionClip, Sequence
from flowhmr.synth import BackdropFolder, choose_occluder, superpixels

BEHIND_M = 0.2
"""A joint so far behind the body's own surface is hidden."""
WIDTH, HEIGHT = SIZE_PX
_BORDER = (WIDTH - HEIGHT) // 2
"""Backgrounds are squares, of which these rows at the top and the bottom are not used."""


@dataclass(frozen=True)
class CompositeConfig:
    """What is done (the paper's table 2 leaves out one after the other)."""

    occluded: bool = True
    """A super-pixel of the background hides a part of the person, where that is a fair occluder."""
    tracked: bool = True
    """The person moves with the background's camera."""
    moving: bool = True
    """The background is a video; else one of its frames, as SURREAL's own are."""


class Composites:
    """Clips of SURREAL's people before the videos of a folder.

    Args:
        people: SURREAL's folder, with ``_info.mat``, ``_segm.mat``, ``_depth.mat`` and ``.mp4``.
        backgrounds: folder of videos, such as Kinetics'.
        body: of the labels.
        config: what is done.

    Raises:
        FieldError: as `SurrealSet`.
        ValueError: no videos.
    """

    def __init__(
        self, people: Path, backgrounds: Path, body: BodyModel, config: CompositeConfig
    ) -> None:
        self.folder, self.body, self.config = people, body, config
        self.people = SurrealSet(people).parts
        self.backgrounds = BackdropFolder(backgrounds)

    def longest(self) -> int:
        """Frames of the longest clip of a person."""
        return max(map(len, self.people))

    def sample(self, rng: np.random.Generator, frames: int) -> Sequence:
        """A clip, with labels.

        Joints are hidden (confidence 0) outside the picture, under the occluder, and `BEHIND_M`
        behind the body's surface.

        Args:
            rng: source of every choice.
            frames: how many, neighbours.

        Raises:
            FieldError: a file that misses, or is of another layout.
        """
        long = [person for person in self.people if len(person) >= frames]
        person = long[int(rng.integers(len(long)))]
        start = int(rng.integers(len(person) - frames + 1))
        seen = person.read(np.arange(start, start + frames))
        name = seen.images[0]
        stem = (self.folder / name).with_suffix("")
        drawn = surreal_people(stem.with_name(f"{stem.name}_segm.mat"), start, frames)
        depth_m = surreal_depths(stem.with_name(f"{stem.name}_depth.mat"), start, frames)
        assert seen.keypoints_px is not None
        points = seen.keypoints_px[..., :2].numpy()
        shown = _visible_in_surreal(seen, points, drawn, depth_m)
        scene = self.backgrounds.sample(rng, frames, WIDTH, static=not self.config.moving)
        drift_px = scene.drift_px if self.config.tracked else np.zeros_like(scene.drift_px)

        pictures = [self._picture(name, start + k) for k in range(frames)]
        moved = [_moved(p, d, cv2.INTER_LINEAR) for p, d in zip(pictures, drift_px)]
        masks = [_moved(d.astype(np.float32), s, cv2.INTER_LINEAR) for d, s in zip(drawn, drift_px)]
        silhouette = np.stack(masks) > 0.5
        labels = field_labels(seen, self.body)
        points = points + drift_px[:, None]
        shown &= ((points >= 0) & (points < [WIDTH, HEIGHT])).all(-1)
        if self.config.occluded:
            hidden = _occluder(scene.images, scene.drift_px, silhouette, points, shown, rng)
            if hidden is not None:
                silhouette &= ~hidden
                shown &= ~_at_pixels(hidden, points)
        behind = scene.images[:, _BORDER : _BORDER + HEIGHT]
        images = np.where(silhouette[..., None], np.stack(moved), behind)
        drift = torch.from_numpy(drift_px)
        return Sequence(
            name=f"{name}_{start} before {scene.name}",
            person=seen.people[0],
            images=list(images),
            times_s=torch.arange(frames) / 30.0,
            boxes_px=seen.boxes_px + torch.cat([drift, torch.zeros_like(drift)], -1),
            labels=Labels(
                labels.params,
                labels.joints_m,
                labels.keypoints_px + drift[:, None],
                torch.from_numpy(shown).float(),
            ),
        )

    def _picture(self, name: str, frame: int) -> UInt8[np.ndarray, "h w 3"]:
        image = read_picture(self.folder, name, name, frame)
        if image.shape != (HEIGHT, WIDTH, 3):
            raise FieldError(
                f"{self.folder / name}: got pictures of {image.shape[1]} x {image.shape[0]} px; "
                f"expected SURREAL's, {WIDTH} x {HEIGHT}"
            )
        return image


class CompositeBatches(Batches[MotionClip]):
    """Batch number ``i`` of clips ``[batch, frames - 1]``, no two of which are alike.

    It follows from (seed, i) alone. Flow is estimated as clips are made.

    Args:
        clips: what they are cut from.
        config: how.
        size_px: of the network's crops.
        rgb: cut pictures.
        links: estimates the flow; None: no flow.
        batch: clips per batch.
        seed: of the run.
        count: how many batches there are.

    Raises:
        ValueError: nobody is seen in as many frames.
    """

    def __init__(
        self,
        clips: Composites,
        config: MotionInputConfig,
        size_px: int,
        rgb: bool,
        links: PairSource | None,
        batch: int,
        seed: int,
        count: int,
    ):
        if clips.longest() < config.frames:
            raise ValueError(
                f"clips: got people in at most {clips.longest()} frames; expected some in "
                f"{config.frames}; take shorter clips"
            )
        self.clips, self.config, self.links = clips, config, links
        self.size_px, self.rgb = size_px, rgb
        self.batch, self.seed, self.count = batch, seed, count

    def samples(self, number: int, rows: range) -> MotionClip:
        """Some clips of a batch."""
        drawn = []
        for row in rows:
            rng = np.random.default_rng([self.seed, 13, number * self.batch + row])
            sequence = self.clips.sample(rng, self.config.frames)
            video = MotionVideo([sequence], self.size_px, self.rgb, self.links)
            drawn.append(cut_clip(video, sequence, range(len(sequence)), self.config, rng))
        return collate(drawn)


def _visible_in_surreal(
    seen: FieldFrames,
    points_px: Float[np.ndarray, "t 24 2"],
    drawn: Bool[np.ndarray, "t h w"],
    depth_m: Float[np.ndarray, "t h w"],
) -> Bool[np.ndarray, "t 24"]:
    """Joints that SURREAL's picture has, and not behind the body's own surface."""
    assert seen.joints_cam is not None
    inside = ((points_px >= 0) & (points_px < [WIDTH, HEIGHT])).all(-1)
    surface_m = _at_pixels(np.where(drawn, depth_m, np.inf), points_px)
    return inside & ~(seen.joints_cam[..., 2].numpy() > surface_m + BEHIND_M)


def _occluder(
    scene: UInt8[np.ndarray, "t s s 3"],
    drift_px: Float[np.ndarray, "t 2"],
    silhouette: Bool[np.ndarray, "t h w"],
    points_px: Float[np.ndarray, "t 24 2"],
    shown: Bool[np.ndarray, "t 24"],
    rng: np.random.Generator,
) -> Bool[np.ndarray, "t h w"] | None:
    """What of the picture the occluder covers, if there is a fair one."""
    square = np.zeros(scene.shape[:3], bool)
    rows = slice(_BORDER, _BORDER + HEIGHT)
    square[:, rows] = silhouette
    joints = list(SMPL_24.indices_of(COUNTED))
    # Those that are hidden anyway are put outside.
    counted = np.where(shown[..., None], points_px + np.array([0, _BORDER]), -1)[:, joints]
    hidden = choose_occluder(
        superpixels(scene, drift_px, rng), square, counted.astype(np.float32), rng
    )
    return None if hidden is None else hidden[:, rows]


def _moved(image: np.ndarray, by_px: Float[np.ndarray, "2"], interpolation: int) -> np.ndarray:
    """An image moved to the right and down; black, or nothing, comes in."""
    matrix = np.array([[1, 0, by_px[0]], [0, 1, by_px[1]]], np.float64)
    return cv2.warpAffine(image, matrix, (WIDTH, HEIGHT), flags=interpolation)


def _at_pixels(maps: np.ndarray, points_px: Float[np.ndarray, "t k 2"]) -> np.ndarray:
    """Each frame's map ``[t h w]`` in the pixels that hold points ``[t k]``, at its edge beyond."""
    column = np.clip(points_px[..., 0], 0, WIDTH - 1).astype(int)
    row = np.clip(points_px[..., 1], 0, HEIGHT - 1).astype(int)
    return maps[np.arange(len(maps))[:, None], row, column]
