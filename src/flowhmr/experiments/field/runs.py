"""Runs on the field's own data sets: where these are, and what is trained on them."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast, runtime_checkable
from typing import Protocol as Interface

import torch
from jaxtyping import Bool
from torch import Tensor

from flowhmr.body import BodyModel, BodyParams
from flowhmr.data import (
    CompositeConfig,
    Composites,
    FieldFrames,
    FieldSet,
    KeypointDetector,
    KeypointFiles,
    KeypointRcnn,
    convert_field,
    field_videos,
    open_field,
    video_of_frames,
    with_keypoints,
)
from flowhmr.evaluation import ProtocolReport, protocol
from flowhmr.experiments.field.scores import (
    FieldEstimator,
    NetworkEstimator,
    SmplBodies,
    score_field,
)
from flowhmr.experiments.lab import begin_task, check_task
from flowhmr.networks import MotionHmr, load_estimator, load_motion, load_network
from flowhmr.records import Sequence
from flowhmr.training import (
    MotionTrainingConfig,
    PretrainConfig,
    RealStills,
    RefineConfig,
    TemporalTrainingConfig,
    estimate_along,
    motion_video,
    pretrain,
    pretrain_motion,
    pretrain_temporal,
    refine,
)

Progress = Callable[[str], Callable[[int, int], None]]
NETWORK = "network.safetensors"


@dataclass(frozen=True)
class Place:
    """Where a data set is below the folder of all."""

    kind: str
    """Its layout, see `flowhmr.data.KINDS`."""
    path: str
    """Its file or folder."""
    images: str
    """The folder that its image names are below."""
    beside: str = ""
    """The layout's other file, where it has one."""
    fps: float = 30.0
    """Of its numbering of frames."""
    step: int = 1
    """Of its frames every so many are used."""

    @property
    def keypoints(self) -> str:
        """The folder of a detector's keypoints, where a tool has written them."""
        return f"{self.images.split('/')[0]}/keypoints"

    def open(self, root: Path) -> FieldSet:
        """The data set.

        Raises:
            FieldError: it is not there, or cannot be read.
        """
        return open_field(self.kind, root / self.path, root / self.beside if self.beside else None)


PLACES: Mapping[str, Place] = {
    "coco-eft": Place(
        "eft",
        "coco/COCO2014-All-ver01.json",
        "coco/train2014",
        "coco/annotations/person_keypoints_train2014.json",
    ),
    "3dpw-train": Place("3dpw", "3dpw/sequenceFiles/train", "3dpw/imageFiles"),
    "3dpw-test": Place("3dpw", "3dpw/sequenceFiles/test", "3dpw/imageFiles"),
    "h36m-train": Place("h36m", "h36m/train", "h36m/images", fps=50.0, step=2),
    "h36m-test": Place("h36m", "h36m/test", "h36m/images", fps=50.0),
    "penn": Place("penn", "penn/labels", "penn/frames"),
    "posetrack": Place("posetrack", "posetrack/annotations/train", "posetrack"),
    "surreal": Place("surreal", "surreal/train", "surreal/train"),
    "kinetics": Place("video", "kinetics/train", "kinetics/train"),
    "mpii3d-test": Place("mpii3d", "mpii3d/test", "mpii3d/test"),
}
"""Data sets by name. Subjects 1, 5, 6, 7, 8 of Human3.6M are in ``h36m/train``, 9 and 11 in
``h36m/test``."""
SMPL = "smpl"
"""Folder of SMPL's files."""
SPIN = "networks/spin.safetensors"
"""SPIN's weights, read by ``flowhmr import``: where TCMR and HPOF begin."""


@dataclass(frozen=True)
class Expected:
    """A number of a paper."""

    protocol: str
    """What it was scored by; data sets are found by its name's first part."""
    metric: str
    """As in `flowhmr.evaluation.ProtocolReport.means`."""
    value: float
    """mm, or mm/frame^2."""
    source: str
    """Where it stands."""


@dataclass(frozen=True)
class Bench:
    """Where a run happens."""

    root: Path
    """Folder of the data sets, see `PLACES`."""
    runs: Path
    """Folder of the runs; each has its own below."""
    cache: Path
    """Where flow and features are kept."""
    device: torch.device
    """Where to compute."""
    told: Progress = lambda what: lambda done, total: None
    """Gives what is told (done, in all) of something that takes a while."""
    places: Mapping[str, Place] = field(default_factory=lambda: PLACES)
    """Where the data sets are."""
    keypoints: str = "keypoint-rcnn"
    """Whose 2D keypoints video has, for runs that learn from them: ``keypoint-rcnn`` (found in the
    pictures by `KeypointRcnn`; ``keypoint-rcnn:FILE`` with its weights), ``files`` (see
    `Place.keypoints`) or ``set`` (the data set's own)."""

    def __post_init__(self) -> None:
        kind, _, rest = self.keypoints.partition(":")
        if kind not in ("keypoint-rcnn", "files", "set") or (rest and kind != "keypoint-rcnn"):
            raise ValueError(
                f"keypoints: got {self.keypoints!r}; expected keypoint-rcnn, keypoint-rcnn:FILE, "
                "files or set"
            )

    @cached_property
    def bodies(self) -> SmplBodies:
        """SMPL's."""
        return SmplBodies(self.root / SMPL)

    @property
    def body(self) -> BodyModel:
        """Neutral SMPL."""
        return self.bodies("neutral")

    def place(self, name: str) -> Place:
        """Where a data set is.

        Raises:
            ValueError: nobody has said.
        """
        if name not in self.places:
            raise ValueError(f"data set: got {name!r}; expected one of {', '.join(self.places)}")
        return self.places[name]

    def videos(
        self, names: tuple[str, ...], body: BodyModel | None, bodies: bool = True
    ) -> list[Sequence]:
        """Video of some data sets; with a body, of its labels too (`field_videos`)."""
        videos: list[Sequence] = []
        for name in names:
            place = self.place(name)
            images = self.root / place.images
            found = place.open(self.root)
            fps, step = place.fps / place.step, place.step
            videos += field_videos(found, images, fps, body, step, bodies=bodies)
        return videos

    def with_keypoints(self, name: str, videos: list[Sequence]) -> list[Sequence]:
        """A data set's video with the keypoints that `keypoints` names."""
        kind, _, rest = self.keypoints.partition(":")
        if kind == "set":
            return videos
        if kind == "files":
            source = KeypointFiles(self.root / self.place(name).keypoints)
        else:
            found = KeypointRcnn(str(self.device), Path(rest) if rest else None)
            key = f"{self.keypoints} {(self.root / self.place(name).images).resolve()}"
            source = KeypointDetector(found, key, self.cache / "keypoints" / name)
        return with_keypoints(videos, source, self.told(f"keypoints of {name}"))

    def labels(self, name: str, body: BodyModel) -> RealStills:
        """A data set's bodies as labels, converted when its files are first used as they are."""
        place = self.place(name)
        state = _state(self.root / part for part in (place.path, place.beside) if part)
        path = self.cache / "labels" / f"{name}-{body.body_id[5:]}-{state}.npz"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            told = self.told(f"converting {name}")
            convert_field(place.open(self.root), place.kind, body, path, told)
        return RealStills(str(path), str(self.root / place.images))


def _state(paths: Iterable[Path]) -> str:
    """Hash of where files are, how large, and when they were changed; of folders, all in them."""
    digest = hashlib.sha256()
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            about = file.stat() if file.is_file() else None
            known = about and (about.st_size, about.st_mtime_ns)
            digest.update(f"{file.resolve()} {known}\n".encode())
    return digest.hexdigest()[:16]


@runtime_checkable
class PaperRun(Interface):
    """An experiment of a paper."""

    @property
    def paper(self) -> str:
        """Which."""
        ...

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the data sets."""
        ...

    @property
    def after(self) -> tuple[str, ...]:
        """Names of the runs whose networks it starts from."""
        ...

    @property
    def expected(self) -> tuple[Expected, ...]:
        """The paper's numbers."""
        ...

    @property
    def note(self) -> str:
        """What differs from the paper, or is not said there."""
        ...

    def train(self, bench: Bench, folder: Path) -> Path:
        """Train in a run folder; returns the network's file."""
        ...

    def estimator(self, bench: Bench, network: Path, images: Path) -> FieldEstimator:
        """The trained network, to be scored on pictures below a folder."""
        ...


@dataclass(frozen=True)
class PretrainOn:
    """Supervised training on labelled pictures (of4hmr's BL)."""

    share: float
    """Of the labels."""
    config: PretrainConfig
    """The run; its labels are set here."""
    expected: tuple[Expected, ...]
    """The paper's numbers."""
    labels: str = "coco-eft"
    """Data set with bodies."""
    paper: str = "of4hmr"
    """Which."""
    after: tuple[str, ...] = ()
    """Nothing."""
    note: str = ""
    """What differs from the paper."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The labels."""
        return (self.labels,)

    def train(self, bench: Bench, folder: Path) -> Path:
        """Train."""
        body = bench.body
        real = replace(bench.labels(self.labels, body), share=self.share)
        config = replace(self.config, real=real)
        return pretrain(config, folder, bench.cache, bench.device, body=body)

    def estimator(self, bench: Bench, network: Path, images: Path) -> FieldEstimator:
        """The network."""
        return network_of_images(bench, network, images)


@dataclass(frozen=True)
class RefineOn:
    """Refinement with the flow in unannotated video (of4hmr)."""

    start: str
    """The run whose network it starts from."""
    share: float
    """Of the labels."""
    video: tuple[str, ...]
    """Data sets, of which boxes alone are read."""
    config: RefineConfig
    """The run; its labels are set here."""
    expected: tuple[Expected, ...]
    """The paper's numbers."""
    labels: str = "coco-eft"
    """Data set with bodies."""
    paper: str = "of4hmr"
    """Which."""
    note: str = ""
    """What differs from the paper."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Labels and video."""
        return (self.labels, *self.video)

    @property
    def after(self) -> tuple[str, ...]:
        """The baseline."""
        return (self.start,)

    def train(self, bench: Bench, folder: Path) -> Path:
        """Train."""
        body = bench.body
        network = load_network(bench.runs / self.start / NETWORK)
        body.check_identity("network", network.body_id)
        real = replace(bench.labels(self.labels, body), share=self.share)
        config = replace(self.config, real=real)
        video = [each for name in self.video for each in self._video(bench, name, folder)]
        return refine(config, network, body, video, folder, bench.cache, bench.device)

    def _video(self, bench: Bench, name: str, folder: Path) -> list[Sequence]:
        video = bench.videos((name,), None)
        if not self.config.train.keypoints.keypoints2d:
            return video
        require_same_keypoints(bench.keypoints, folder)
        return bench.with_keypoints(name, video)

    def estimator(self, bench: Bench, network: Path, images: Path) -> FieldEstimator:
        """The network."""
        return network_of_images(bench, network, images)


@dataclass(frozen=True)
class TrainOver:
    """A network over the features of video (TCMR, HPOF)."""

    config: TemporalTrainingConfig
    """The run; where it starts is set here."""
    video: tuple[str, ...]
    """Data sets with bodies."""
    expected: tuple[Expected, ...]
    """The paper's numbers."""
    paper: str
    """Which."""
    keypoints: tuple[str, ...] = ()
    """Data sets of video with 2D keypoints alone, drawn by the loop's ``keypoint_share``."""
    after: tuple[str, ...] = ()
    """Nothing but `SPIN`."""
    note: str = ""
    """What differs from the paper."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The video."""
        return (*self.video, *self.keypoints)

    def train(self, bench: Bench, folder: Path) -> Path:
        """Train."""
        body = bench.body
        config = replace(self.config, start=str(bench.root / SPIN))
        video = bench.videos(self.video, body)
        video += bench.videos(self.keypoints, body, bodies=False)
        return pretrain_temporal(config, folder, bench.cache, bench.device, bench.told, video, body)

    def estimator(self, bench: Bench, network: Path, images: Path) -> FieldEstimator:
        """The network."""
        return network_of_images(bench, network, images)


@dataclass(frozen=True)
class TrainMotionOn:
    """Motion HMR on synthetic people of SURREAL before real video."""

    config: MotionTrainingConfig
    """The run."""
    expected: tuple[Expected, ...]
    """The paper's numbers."""
    composite: CompositeConfig = field(default_factory=CompositeConfig)
    """How people are put before the video."""
    people: str = "surreal"
    """Data set of the people."""
    backgrounds: str = "kinetics"
    """Folder of video."""
    paper: str = "motion-hmr"
    """Which."""
    after: tuple[str, ...] = ()
    """Nothing."""
    note: str = ""
    """What differs from the paper."""

    @property
    def needs(self) -> tuple[str, ...]:
        """People and backgrounds."""
        return (self.people, self.backgrounds)

    def train(self, bench: Bench, folder: Path) -> Path:
        """Train."""
        people, behind = (
            bench.root / bench.place(name).path for name in (self.people, self.backgrounds)
        )
        body = bench.body
        clips = Composites(people, behind, body, self.composite)
        return pretrain_motion(
            self.config, folder, bench.cache, bench.device, bench.told, None, body, clips
        )

    def estimator(self, bench: Bench, network: Path, images: Path) -> FieldEstimator:
        """The network, with the set's 2D keypoints."""
        found = load_motion(network)
        return MotionEstimator(str(network), found, self.config, bench, images)


def require_same_keypoints(keypoints: str, folder: Path) -> None:
    """Note in a run's folder whose keypoints it learns from.

    Raises:
        ValueError: it began with others.
    """
    note = folder / "keypoints.txt"
    began = note.read_text().strip() if note.is_file() else keypoints
    if began != keypoints:
        raise ValueError(
            f"{folder}: got keypoints {keypoints!r} for a run that began with {began!r}; expected "
            "the same; give them, or remove the folder to begin anew"
        )
    note.write_text(keypoints + "\n")


def network_of_images(bench: Bench, network: Path, images: Path) -> NetworkEstimator:
    """A network from crops to SMPL's bodies, as it is scored."""
    return NetworkEstimator(str(network), load_estimator(network), bench.body, images, bench.device)


@dataclass(frozen=True, eq=False)
class MotionEstimator:
    """Motion HMR, shown a person's whole video: flow and the set's 2D keypoints."""

    name: str
    """For tables."""
    network: MotionHmr
    """Who is asked."""
    config: MotionTrainingConfig
    """How clips are cut."""
    bench: Bench
    """Where to compute, and where flow is kept."""
    images: Path
    """Folder that the set's image names are below."""

    @property
    def body(self) -> BodyModel:
        """Neutral SMPL."""
        return self.bench.body

    def __call__(
        self, people: list[FieldFrames], wanted: list[Bool[Tensor, "t"]]
    ) -> list[tuple[BodyParams, Bool[Tensor, "t"]]]:
        """Bodies of the people of one video."""
        return [self._person(person) for person in people]

    def _person(self, person: FieldFrames) -> tuple[BodyParams, Bool[Tensor, "t"]]:
        sequence, rows = video_of_frames(person, self.images, fps=30.0)
        params = self.body.rest_params(len(person))
        there = torch.zeros(len(person), dtype=torch.bool)
        if len(rows) >= 2:
            size_px, cache = self.network.size_px, self.bench.cache
            device = self.bench.device
            video = motion_video(self.config, [sequence], size_px, cache, device=device)
            found, _ = estimate_along(self.network, video, sequence, self.config.inputs, device)
            params.rotmats[rows], params.betas[rows] = found.params.rotmats, found.params.betas
            there[rows] = True
        return params, there


TESTED = {"3dpw": "3dpw-test", "h36m": "h36m-test", "mpii3d": "mpii3d-test"}
"""Data set that a protocol's layout is scored on."""


def perform(name: str, run: PaperRun, bench: Bench) -> list[ProtocolReport]:
    """Train, where that is not done, and score by the protocols of the paper's numbers.

    Args:
        name: of the run, and of its folder.
        run: what to do.
        bench: where.

    Returns:
        A report for each protocol; they are in the run folder, too.

    Raises:
        ValueError: data sets or networks that are not there, or a run of other settings that is.
    """
    folder = bench.runs / name
    # What is said about a run does not change it.
    settings = replace(cast(Any, run), expected=(), note="")
    check_task(folder, name, settings)
    for before in run.after:
        if not (bench.runs / before / NETWORK).is_file():
            raise ValueError(
                f"{name}: got no network of {before} in {bench.runs}; expected it done before; run "
                f"`flowhmr reproduce {before}` first"
            )
    network = folder / NETWORK
    if not network.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        begin_task(folder, settings)
        network = run.train(bench, folder)
    reports = []
    for by in dict.fromkeys(expected.protocol for expected in run.expected):
        rule = protocol(by)
        place = bench.place(TESTED[rule.data])
        images = bench.root / place.images
        estimator = run.estimator(bench, network, images)
        told = bench.told(f"scoring by {by}")
        report = score_field(rule, place.open(bench.root), estimator, bench.bodies, images, told)
        report.write(folder, f"scores-{by}")
        reports.append(report)
    return reports


def beside_the_paper(run: PaperRun, reports: list[ProtocolReport]) -> str:
    """The paper's numbers and ours, as a table."""
    means = {report.rule.name: report.means() for report in reports}
    lines = ["| protocol | metric | paper | ours | source |", "|---|---|---|---|---|"]
    for each in run.expected:
        ours = means[each.protocol][each.metric]
        said = "-" if ours != ours else f"{ours:.1f}"
        lines.append(
            f"| {each.protocol} | {each.metric} | {each.value:.1f} | {said} | {each.source} |"
        )
    return "\n".join(lines) + "\n"
