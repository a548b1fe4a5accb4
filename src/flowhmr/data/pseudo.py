"""Bodies found in somebody's own video as labels of crops of the same frames: pseudo-labels.

The bodies are before the video's camera, the labels in the axes of a view that looks straight at
each crop (`flowhmr.cameras.view_of`): only there does a weak-perspective camera, which is what
networks of single frames speak of, explain where the joints of a person off the axis are seen.
"""

from collections.abc import Sequence as Several
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from flowhmr.body import BodyModel, BodyParams
from flowhmr.cameras import (
    Crop,
    PerspectiveCamera,
    crop_from_box,
    fit_weak_camera,
    project_weak,
    view_of,
)
from flowhmr.data.augment import AugmentConfig, vary_crop
from flowhmr.data.batches import Batches
from flowhmr.data.boxes import BoxError, PersonTrack
from flowhmr.data.labels import labels_in_crop
from flowhmr.data.people import sequences_of
from flowhmr.data.stills import CELL_PX
from flowhmr.geometry import collate, map_tensors, pick
from flowhmr.records import Clip, Labels, PersonMotion, SceneMotion, Sequence
from flowhmr.synth import rest_map

RUN = 32
"""Frames in a row that are kept where not all of a video's are."""
ON_IMAGE = 0.5
"""Least share of the joints that must lie on the image."""
CHUNK = 128
"""Frames whose meshes are in memory at a time."""


@dataclass(frozen=True, eq=False)
class OwnVideo:
    """A person along consecutive frames of a video, with the bodies that were found there."""

    sequence: Sequence
    """Images, boxes around the bodies, and the bodies as labels: pixels of the images, axes of the
    view of each frame's own crop."""
    trust: Float[Tensor, "t"]
    """How much each frame's body counts as a label; 0: not at all."""


def own_videos(
    path: Path, scene: SceneMotion, body: BodyModel, crop_px: int, most: int = 2000
) -> list[OwnVideo]:
    """The people of a captured video, one after another, in stretches of consecutive frames.

    Frames are left out in which a person is partly behind the camera, or has less than half of the
    joints on the image.

    Args:
        path: the video, or the folder of images, that was captured.
        scene: what was found; a person's ``confidence`` becomes the trust.
        body: of its people.
        crop_px: finest crop that will be cut; what is kept of the images is no finer.
        most: frames to keep at most, over all people: of a longer video runs of consecutive ones,
            evenly spaced. They bound the memory: about 0.3 MB each for crops of 256 px.

    Raises:
        BoxError: nobody is on the image, the video ends before the motion does, or its crops do not
            fit in memory.
        BodyIdentityError: people of another body.
        VideoError: the video cannot be read.
    """
    share = -(-sum(len(person) for person in scene.people) // most)
    found = [_placed(person, scene, body, share) for person in scene.people]
    found = [person for person in found if person is not None]
    if not found:
        raise BoxError(
            f"{path}: got a motion of which nobody is on the image; expected at least one person "
            "with half of the joints on it; capture the video again"
        )
    sequences = sequences_of(path, [person.track for person in found], crop_px)
    out: list[OwnVideo] = []
    for person in found:
        mine = [s for s in sequences if s.person == str(person.track.person)]
        if sum(map(len, mine)) < len(person.track):
            raise BoxError(
                f"{path}: got {sum(map(len, mine))} frames of person {person.track.person}; "
                f"expected the {len(person.track)} of the motion; it was captured from another "
                "video: capture it again"
            )
        start = 0
        for sequence in mine:
            rows = torch.arange(start, start + len(sequence))
            out.append(person.labelled(sequence, rows, scene.camera, body))
            start += len(sequence)
    return out


@dataclass(frozen=True, eq=False)
class _Placed:
    track: PersonTrack
    params: BodyParams
    joints_px: Float[Tensor, "t 24 2"]

    def labelled(
        self, sequence: Sequence, rows: Tensor, camera: PerspectiveCamera, body: BodyModel
    ) -> OwnVideo:
        """A stretch of frames with the bodies of its rows."""
        boxes_px, params = self.track.boxes_px[rows], pick(self.params, rows)
        # Where the camera looks is where the crop's centre is: its size is of no account.
        view = view_of(crop_from_box(boxes_px, 1), camera)
        ahead = (view.rotmats @ params.rotmats[:, 0])[:, None]
        params = replace(params, rotmats=torch.cat([ahead, params.rotmats[:, 1:]], 1))
        # The sequence's images are a part of the video's, and coarser: boxes go from one to the
        # other as joints do.
        zoom = sequence.boxes_px[:, 2:] / boxes_px[:, 2:]
        in_box_px = self.joints_px[rows] - boxes_px[:, None, :2]
        keypoints_px = in_box_px * zoom[:, None] + sequence.boxes_px[:, None, :2]
        labels = Labels(
            params, body.joints(params), keypoints_px, torch.ones_like(keypoints_px[..., 0])
        )
        return OwnVideo(replace(sequence, labels=labels), self.track.confidence[rows])


def _placed(
    person: PersonMotion, scene: SceneMotion, body: BodyModel, share: int
) -> _Placed | None:
    """Where a person is on the image; one run in ``share``. None where never on it."""
    body.check_identity("motion", person.params.body_id)
    rows = torch.nonzero(person.frame_indices // RUN % share == 0)[:, 0]
    boxes_px, joints_px = [], []
    for part in rows.split(CHUNK):
        mesh = body.mesh(pick(person.params, part))
        moved_m = person.translation_m[part, None]
        verts_px = scene.camera.project(mesh.verts + moved_m)[..., :2]
        low, high = verts_px.amin(1), verts_px.amax(1)
        boxes_px.append(torch.cat([low, high - low], -1))
        joints_px.append(scene.camera.project(mesh.joints + moved_m)[..., :2])
    if not boxes_px:
        return None
    boxes, joints = torch.cat(boxes_px), torch.cat(joints_px)
    kept = _on_image(joints, scene.size_px) & boxes.isfinite().all(-1)
    if not bool(kept.any()):
        return None
    rows = rows[kept]
    track = PersonTrack(
        person.person, person.frame_indices[rows], boxes[kept], person.confidence[rows], None
    )
    return _Placed(track, pick(person.params, rows), joints[kept])


def _on_image(joints_px: Float[Tensor, "t 24 2"], size_px: tuple[int, int]) -> Bool[Tensor, "t"]:
    inside = ((joints_px >= 0) & (joints_px <= joints_px.new_tensor(size_px))).all(-1)
    return inside.float().mean(-1) >= ON_IMAGE


class PseudoBatches(Batches[Clip]):
    """Batch number ``i`` of crops of somebody's own video, labelled with the bodies found there.

    A frame is drawn as often as it is trusted, and varied as labelled pictures are
    (``AugmentConfig.other_person`` does not apply). Sample ``i`` of a run follows from (seed, i).

    Args:
        videos: people with their bodies.
        body: that they are of.
        size_px: of the crops.
        batch: samples per batch.
        augment: how they are varied.
        seed: of the run.
        count: how many batches there are.

    Raises:
        ValueError: no frame is trusted.
    """

    def __init__(
        self,
        videos: Several[OwnVideo],
        body: BodyModel,
        size_px: int,
        batch: int,
        augment: AugmentConfig,
        seed: int,
        count: int,
    ):
        self.videos, self.body, self.size_px, self.batch = videos, body, size_px, batch
        self.augment, self.seed, self.count = augment, seed, count
        each = [
            (v, row, float(trust)) for v, own in enumerate(videos)
            for row, trust in enumerate(own.trust) if trust > 0
        ]  # fmt: skip
        if not each:
            frames = sum(len(own.sequence) for own in videos)
            raise ValueError(
                f"labels from video: got {frames} frames, none of which can be trusted; expected "
                "some whose bodies agree with keypoints and flow; look at the video with "
                "`flowhmr capture`, or ask for less (--trust)"
            )
        self._frames = [(v, row) for v, row, _ in each]
        share = np.array([trust for *_, trust in each])
        self._share = share / share.sum()

    @property
    def frames(self) -> int:
        """How many different frames count as labelled."""
        return len(self._frames)

    def samples(self, number: int, rows: range) -> Clip:
        """Clips of one frame, ``[rows, 1]``."""
        first = number * self.batch
        augment = self.augment.at(number)
        drawn = [self._draw(first + row, augment) for row in rows]
        crop = map_tensors(collate([d.crop for d in drawn]), lambda t: t[:, None])
        labels = collate([d.labels for d in drawn])
        labels = labels_in_crop(map_tensors(labels, lambda t: t[:, None]), crop)
        labels = replace(labels, surface=self._surface(labels))
        frames = torch.from_numpy(np.stack([d.image.transpose(2, 0, 1) for d in drawn]))
        return Clip(frames[:, None], crop, labels, flow=None)

    def _surface(self, labels: Labels) -> UInt8[Tensor, "b 1 h w 4"]:
        """What part of the bodies is seen where, if nothing hides it."""
        camera = fit_weak_camera(labels.joints_m, labels.keypoints_px, self.size_px)
        verts_m = self.body.mesh(labels.params).verts
        cells = self.size_px // CELL_PX
        return rest_map(project_weak(verts_m, camera, cells), self.body, cells, cells)

    def _draw(self, index: int, augment: AugmentConfig) -> "_Drawn":
        """Sample ``index`` of the run; labels in pixels of the whole picture."""
        rng = np.random.default_rng([self.seed, 13, index])
        video, row = self._frames[int(rng.choice(len(self._frames), p=self._share))]
        sequence = self.videos[video].sequence
        assert sequence.labels is not None
        box_px = sequence.boxes_px[row].numpy()
        picture = sequence.images[row]
        image, crop = vary_crop(rng, picture, box_px, self._other, augment, self.size_px)
        return _Drawn(image, crop, pick(sequence.labels, row))

    def _other(self, rng: np.random.Generator) -> np.ndarray:
        """Another labelled picture."""
        video, row = self._frames[int(rng.integers(len(self._frames)))]
        return self.videos[video].sequence.images[row]


@dataclass(frozen=True, eq=False)
class _Drawn:
    image: np.ndarray
    crop: Crop
    labels: Labels
