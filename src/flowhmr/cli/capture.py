"""The motion of the people in a video, in 3D: npz, JSON, BVH, GLB, overlay and a report."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from flowhmr.body import BodyModel, open_body
from flowhmr.capture import (
    CaptureConfig,
    Captured,
    capture,
    save_bvh,
    save_glb,
    save_json,
    save_motion,
)
from flowhmr.cli.shared import (
    console,
    device_of,
    estimator_and_body,
    lift_network,
    make_folder,
)
from flowhmr.data import open_video, write_video
from flowhmr.records import PersonMotion, SceneMotion
from flowhmr.synth import write_whole
from flowhmr.view import ReportParts, SceneOverlay, Timeline, write_report


@dataclass(frozen=True)
class Arguments:
    """Flags of ``flowhmr capture``."""

    source: tyro.conf.Positional[Path]
    """Video, image, or folder of images."""
    init: Path | None = None
    """Result of another tool to refine and export (4D-Humans, VIBE, TCMR, PARE, WHAM, TRAM, ROMP,
    MediaPipe): the same as --config.init. See docs/other-tools.md."""
    model: Path | None = None
    """Network of crops to begin with, in place of the one that lifts: TCMR, VIBE, HPOF or another
    that `flowhmr train` wrote, or one of single frames. See docs/temporal.md."""
    out: Path = Path("out/capture")
    """Folder for what is found."""
    config: CaptureConfig = field(default_factory=CaptureConfig)
    """People, camera, refinement."""
    network: Path | None = None
    """Network that lifts keypoints and flow; the shipped one by default."""
    skeleton: bool = False
    """Draw joints instead of bodies."""
    device: str = "auto"
    """cpu, cuda or auto."""


def run(arguments: Arguments) -> None:
    """Capture, then write everything."""
    # Thousands of small products a second: threads would only wait for each other.
    torch.set_num_threads(1)
    device = device_of(arguments.device)
    network, body = lift_network(arguments.network), open_body()
    network = network.to(device).eval()
    config = replace(arguments.config, init=arguments.init or arguments.config.init)
    if arguments.model and config.init:
        raise ValueError(
            f"got both --model {arguments.model} and --init {config.init}; expected one of them: "
            "each says what the motion begins with; leave one out"
        )
    model = estimator_and_body(arguments.model)[0] if arguments.model else None
    work = make_folder(arguments.out / "work")
    try:
        with _Stages() as stages:
            found = capture(arguments.source, config, network, body, device, stages, work, model)
            written, seconds = _written(arguments, config, found, body, stages)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted; what was found is kept in {work}: the same command goes on from there"
        ) from None
    scene = found.scene
    frames, total = len(scene.times_s), sum(seconds.values())
    for stage, spent in seconds.items():
        console.print(f"{stage:>16}: {spent:6.1f} s, {frames / max(spent, 1e-9):6.1f} frames/s")
    console.print(f"{'all':>16}: {total:6.1f} s, {frames / max(total, 1e-9):6.1f} frames/s")
    console.print(f"people:  {', '.join(f'{p.person} ({len(p)} frames)' for p in scene.people)}")
    *motion, overlay, report = written
    console.print("motion:  " + ", ".join(str(path) for path in motion))
    console.print(f"overlay: {overlay}\nreport:  {report}")


def _written(
    arguments: Arguments, config: CaptureConfig, found: Captured, body: BodyModel, stages: "_Stages"
) -> tuple[list[Path], dict[str, float]]:
    """The motion's files, the overlay and the report; and how long each stage took."""
    scene, out, seconds = found.scene, arguments.out, dict(found.seconds)
    began = time.perf_counter()
    # Before the overlay, which takes longer: an end there leaves the motion.
    with _told(out):
        written = [
            save_motion(out / "motion.npz", scene, body),
            save_json(out / "motion.json", scene, body),
        ]
        for person in scene.people:
            written.append(save_bvh(out / f"person-{person.person}.bvh", person, scene, body))
        # Of an earlier capture, with more people.
        for other in set(out.glob("person-*.bvh")) - set(written):
            if other.stem.removeprefix("person-").isdecimal():
                other.unlink()
        written.append(save_glb(out / "motion.glb", scene, body))
    seconds["files"] = time.perf_counter() - began
    began = time.perf_counter()
    overlay, report = out / "overlay.mp4", out / "report.html"
    drawn = _drawn(arguments, scene, body, stages)
    write_video(overlay, drawn, scene.fps, times_s=scene.times_s.tolist())
    seconds["overlay"] = time.perf_counter() - began
    began = time.perf_counter()
    parts = ReportParts(
        title=f"Motion of {arguments.source.name}",
        timelines=[line for person in scene.people for line in timelines(person, found, body)],
        settings={
            "source": str(arguments.source),
            "model": str(arguments.model or ""),
            **asdict(config),
        },
        timings=dict(seconds),
        video=overlay,
    )

    def save(path: Path) -> None:
        write_report(path, scene, body, parts)

    with _told(out):
        write_whole(report, save)
    seconds["report"] = time.perf_counter() - began
    return [*written, overlay, report], seconds


@contextmanager
def _told(out: Path) -> Iterator[None]:
    """What to do about a full disk."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"{out}: got {error.strerror or error} while writing; expected a folder that can be "
            "written to, with free space; make room and start the same command again: it goes on "
            "from what was found"
        ) from error


def timelines(person: PersonMotion, found: Captured, body: BodyModel) -> list[Timeline]:
    """Curves of one person: confidence, speed, how far joints are from the keypoints."""
    joints_cam = body.joints(person.params) + person.translation_m[:, None]
    steps_m = joints_cam.diff(dim=0).norm(dim=-1).mean(-1)
    steps_s = found.scene.times_s[person.frame_indices].diff()
    follows = person.frame_indices.diff() == 1
    speed = torch.cat(
        [torch.where(follows, steps_m / steps_s, torch.nan), steps_m.new_full((1,), torch.nan)]
    )
    return [
        Timeline(person.person, "Confidence", "", person.confidence, (0.0, 1.0)),
        Timeline(person.person, "Speed", "m/s", speed),
        Timeline(
            person.person, "Off the keypoints", "px of 224",
            found.evidence[person.person].apart_px(joints_cam, found.scene.camera),
        ),
        Timeline(
            person.person, "Off the flow", "px of 224",
            found.evidence[person.person].flow_apart_px(joints_cam, found.scene.camera),
        ),
        Timeline(
            person.person, "Feet slide", "mm per frame",
            1000 * found.evidence[person.person].slide_m(joints_cam),
        ),
    ]  # fmt: skip


def _drawn(
    arguments: Arguments, scene: SceneMotion, body: BodyModel, stages: "_Stages"
) -> Iterator[np.ndarray]:
    overlay = SceneOverlay(scene, body, arguments.skeleton)
    with open_video(arguments.source) as video:
        for frame in video:
            yield overlay(frame.image, frame.index)
            stages("overlay", frame.index + 1, len(scene.times_s))


class _Stages:
    """One progress bar a stage."""

    def __enter__(self) -> "_Stages":
        self._bar = Progress(
            TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("left"), TimeRemainingColumn(), console=console,
        )  # fmt: skip
        self._tasks: dict = {}
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._bar.add_task(stage, total=total)
        self._bar.update(self._tasks[stage], completed=done, total=total)
