"""Scores on the field's data sets by a named protocol: of networks, of what other tools found."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path, PurePosixPath
from typing import Any, runtime_checkable
from typing import Protocol as Interface

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from flowhmr.body import H36M_17, BodyModel, BodyParams, Gender, JointSet, convert_joints, load_smpl
from flowhmr.data import (
    FieldError,
    FieldFrames,
    FieldSet,
    clip_of_pictures,
    field_batches,
    named_keypoints,
    read_picture,
)
from flowhmr.evaluation import (
    LIMBS_12,
    PersonScore,
    Posed,
    Protocol,
    ProtocolReport,
    frames_that_count,
    score_person,
)
from flowhmr.networks import ContextHmr, Hmr, TemporalHmr
from flowhmr.training import estimator_of

Progress = Callable[[int, int], None]


class SmplBodies:
    """SMPL's bodies of a folder (see `flowhmr.body.load_smpl`), each read when it is asked for.

    Args:
        folder: with SMPL's files and ``J_regressor_h36m.npy``.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._read: dict[Gender, BodyModel] = {}

    def __call__(self, gender: Gender) -> BodyModel:
        """The body of a gender.

        Raises:
            BodyFileError: no file of it.
        """
        if gender not in self._read:
            self._read[gender] = load_smpl(self.folder, gender)
        return self._read[gender]


@runtime_checkable
class FieldEstimator(Interface):
    """Gives bodies of the people of one video."""

    @property
    def name(self) -> str:
        """For tables."""
        ...

    @property
    def body(self) -> BodyModel:
        """Whose parameters it gives."""
        ...

    def __call__(
        self, people: list[FieldFrames], wanted: list[Bool[Tensor, "t"]]
    ) -> list[tuple[BodyParams, Bool[Tensor, "t"]]]:
        """For each person the bodies ``[t]`` and in which frames there are some.

        Args:
            people: all people of one video.
            wanted: frames that count.
        """
        ...


@dataclass(frozen=True, eq=False)
class NetworkEstimator:
    """A network, shown the crops that the set's boxes make. All of a person's frames are fed, in
    order; those that count alone where the network sees single images."""

    name: str
    """For tables."""
    network: Hmr | ContextHmr | TemporalHmr
    """Who is asked."""
    body: BodyModel
    """Whose parameters it gives."""
    images: Path
    """Folder that the set's image names are below."""
    device: torch.device
    """Where to compute."""

    def __call__(
        self, people: list[FieldFrames], wanted: list[Bool[Tensor, "t"]]
    ) -> list[tuple[BodyParams, Bool[Tensor, "t"]]]:
        """Bodies of the people of one video."""
        self.body.check_identity("network", self.network.body_id)
        return [self._person(*each) for each in zip(people, wanted)]

    def _person(
        self, person: FieldFrames, wanted: Bool[Tensor, "t"]
    ) -> tuple[BodyParams, Bool[Tensor, "t"]]:
        boxes_px = person.boxes_px
        fed = boxes_px.isfinite().all(-1) & (boxes_px[:, 2:] > 0).all(-1)
        if isinstance(self.network, Hmr):
            fed &= wanted
        params = self.body.rest_params(len(person))
        if bool(fed.any()):
            rows = fed.nonzero().flatten().tolist()
            names = tuple(person.images[row] for row in rows)
            numbers = person.frame_indices[fed]
            size_px = self.network.size_px
            clip = clip_of_pictures(self.images, names, numbers, boxes_px[fed], size_px)
            found = estimator_of(self.network, self.device)(clip).params
            params.rotmats[fed], params.betas[fed] = found.rotmats, found.betas
        return params, fed


def score_field(
    rule: Protocol,
    found: FieldSet,
    estimator: FieldEstimator,
    bodies: Callable[[Gender], BodyModel] | None = None,
    images: Path | None = None,
    on_progress: Progress = lambda done, total: None,
) -> ProtocolReport:
    """Scores by a protocol.

    Args:
        rule: the protocol.
        found: the data set, of the protocol's layout.
        estimator: to score.
        bodies: SMPL's, for the truth's meshes; None where joints were captured.
        images: folder that the set's image names are below, where the protocol asks for it.
        on_progress: told (people done, people in all).

    Raises:
        FieldError: nothing in the set counts, or it has not what the protocol asks for.
    """
    videos = _videos(found)
    total = sum(len(people) for people in videos)
    scores: list[PersonScore] = []
    for people in videos:
        counted = [_counted(rule, person, images) for person in people]
        if any(bool(c.any()) for c in counted):
            bodies_found = estimator(people, counted)
            for person, rows, (params, there) in zip(people, counted, bodies_found):
                scores.append(_score(rule, person, rows, params, there, estimator.body, bodies))
        on_progress(len(scores), total)
    if not any(len(s.pa_mpjpe) for s in scores):
        frames = sum(s.missing for s in scores)
        raise FieldError(
            f"{found.path}: got no frame that counts and has an estimate ({frames} without one); "
            f"expected some for protocol {rule.name}: {rule.frames.said()}; give the test set, and "
            "results of its videos"
        )
    on_progress(total, total)
    return ProtocolReport(
        estimator.name, rule, tuple(s for s in scores if len(s.pa_mpjpe) or s.missing)
    )


def _score(
    rule: Protocol,
    person: FieldFrames,
    counted: Bool[Tensor, "t"],
    params: BodyParams,
    there: Bool[Tensor, "t"],
    body: BodyModel,
    bodies: Callable[[Gender], BodyModel] | None,
) -> PersonScore:
    def found(rows: Int[Tensor, "n"]) -> Posed:
        mine = BodyParams(params.rotmats[rows], params.betas[rows], params.body_id)
        return posed(body, mine)

    def truth(rows: Int[Tensor, "n"]) -> Posed:
        return true_bodies(rule, person, rows, bodies)

    rows, missing = (counted & there).nonzero().flatten(), int((counted & ~there).sum())
    return score_person(rule, person.people[0], rows, missing, found, truth)


@torch.no_grad()
def posed(body: BodyModel, params: BodyParams) -> Posed:
    """Bodies as protocols compare them; vertices where they are SMPL's."""
    mesh = body.mesh(params)
    verts = mesh.verts if body.topology == "smpl" else None
    return Posed(body.keypoints(mesh, H36M_17), verts)


def true_bodies(
    rule: Protocol,
    person: FieldFrames,
    rows: Int[Tensor, "n"],
    bodies: Callable[[Gender], BodyModel] | None,
) -> Posed:
    """The truth of some frames of a person, as the protocol has it.

    Raises:
        FieldError: the set does not have it.
    """
    if rule.truth == "captured":
        return Posed(_captured(rule, person)[rows], None)
    if person.rotmats is None or person.betas is None or bodies is None:
        raise FieldError(f"{person.people[0]}: got no bodies; expected SMPL's pose and betas")
    gender: Gender = "neutral"
    if rule.truth == "gendered":
        names = set(person.genders or ())
        if len(names) != 1 or not names <= {"male", "female"}:
            raise FieldError(f"{person.people[0]}: got genders {names}; expected male or female")
        gender = names.pop()  # pyright: ignore[reportAssignmentType]
    if person.model != "smpl":
        raise FieldError(
            f"{person.people[0]}: got betas of {person.model}; expected SMPL's, whose shapes are "
            "others; fit SMPL to these bodies first"
        )
    body = bodies(gender)
    return posed(body, body.params(person.rotmats[rows], person.betas[rows, : body.num_betas]))


def _captured(rule: Protocol, person: FieldFrames) -> Float[Tensor, "t 17 3"]:
    if person.joints_cam is None or person.joint_set is None:
        raise FieldError(f"{person.people[0]}: got no 3D joints; expected captured ones")
    given = person.joint_set
    joints = JointSet(given.name, tuple(rule.renamed.get(name, name) for name in given.names))
    return convert_joints(person.joints_cam[..., :3], joints, H36M_17)


def _counted(rule: Protocol, person: FieldFrames, images: Path | None) -> Bool[Tensor, "t"]:
    sure = inside = None
    points, joints = person.keypoints_px, person.keypoint_set
    if points is not None and joints is not None:
        sure = named_keypoints(points, joints, LIMBS_12.names)[..., 2]
        if rule.frames.inside:
            size = points.new_tensor(picture_size_px(person, images))
            inside = ((points[..., :2] >= 0) & (points[..., :2] < size)).all(-1).all(-1)
    return frames_that_count(
        rule.frames, person.people[0], person.frame_indices, person.valid, sure, inside
    )


def picture_size_px(person: FieldFrames, images: Path | None) -> tuple[int, int]:
    """Width and height of the pictures of a video, from its first.

    Raises:
        FieldError: no folder of pictures, or no picture in it.
    """
    if images is None:
        raise FieldError(
            f"{person.people[0]}: got no folder of pictures; expected one: how large they are is "
            "not in the set's files"
        )
    first = int(person.frame_indices[0])
    picture = read_picture(images, person.images[0], person.people[0], first)
    height, width = picture.shape[:2]
    return width, height


def video_of(person: FieldFrames) -> str:
    """The folder of a person's pictures, which stands for the video."""
    return str(PurePosixPath(person.images[0]).parent)


def _videos(found: FieldSet) -> list[list[FieldFrames]]:
    """People by video, each with his frames in order.

    Raises:
        FieldError: rows of nobody in particular.
    """
    parts: dict[str, list[FieldFrames]] = {}
    for frames in field_batches(found):
        for name, part in _by_person(frames):
            parts.setdefault(name, []).append(part)
    if "" in parts:
        raise FieldError(
            f"{found.path}: got rows that do not say who is seen; expected people in videos; give "
            "the set as it was published, not as stills"
        )
    videos: dict[str, list[FieldFrames]] = {}
    for each in parts.values():
        person = _joined(each)
        videos.setdefault(video_of(person), []).append(person)
    return list(videos.values())


def _by_person(frames: FieldFrames) -> Iterator[tuple[str, FieldFrames]]:
    names = np.array(frames.people)
    for name in dict.fromkeys(frames.people):
        yield name, _rows(frames, np.flatnonzero(names == name))


def _rows(frames: FieldFrames, rows: Int[np.ndarray, "n"]) -> FieldFrames:
    """Some rows; crops and weak cameras are left out."""
    taken: dict[str, Any] = {"weak_camera": None, "crop": None}
    for f in fields(frames):
        value = getattr(frames, f.name)
        if isinstance(value, Tensor | np.ndarray):
            taken[f.name] = value[rows]
        elif isinstance(value, tuple):
            taken[f.name] = tuple(value[row] for row in rows)
    return replace(frames, **taken)


def _joined(parts: list[FieldFrames]) -> FieldFrames:
    """A person's parts as one, by the number of the frame."""
    taken: dict[str, Any] = {}
    for f in fields(parts[0]):
        values = [getattr(p, f.name) for p in parts]
        if isinstance(values[0], Tensor):
            taken[f.name] = torch.cat(values)
        elif isinstance(values[0], np.ndarray):
            taken[f.name] = np.concatenate(values)
        elif isinstance(values[0], tuple):
            taken[f.name] = tuple(text for part in values for text in part)
    joined = replace(parts[0], **taken)
    order = torch.argsort(joined.frame_indices, stable=True).numpy()
    return _rows(joined, order)
