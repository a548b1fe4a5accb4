"""Make the single-frame network your own: fine-tune it on your videos, with the bodies that
`flowhmr capture` finds in them as labels, and the flow between their frames."""

import json
from collections import defaultdict
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import tyro

from flowhmr.body import BodyModel
from flowhmr.capture import (
    CaptureConfig,
    TrustConfig,
    capture,
    load_motion,
    save_motion,
    trusted,
)
from flowhmr.cli.shared import (
    StepProgress,
    console,
    default_cache,
    device_of,
    lift_network,
    make_folder,
    network_and_body,
)
from flowhmr.data import open_video, own_videos, source_key
from flowhmr.distributed import first_before_others
from flowhmr.networks import LIFT, Lift
from flowhmr.records import SceneMotion
from flowhmr.training import CHECKPOINT, AdaptConfig, adapt


@dataclass(frozen=True)
class Arguments:
    """Flags of ``flowhmr adapt``."""

    source: tyro.conf.Positional[tuple[Path, ...]]
    """Your videos, or folders of images. No annotation is needed."""
    run: Path
    """Run folder. Start the same command again to go on after an interruption."""
    capture: CaptureConfig = field(default_factory=CaptureConfig)
    """How bodies are found in them; files are given one for each video, in the same order."""
    trust: TrustConfig = field(default_factory=TrustConfig)
    """Which of those bodies count as labels."""
    config: AdaptConfig = field(default_factory=AdaptConfig)
    """The run."""
    most: int = 2000
    """Frames of each video to use at most: they are kept in memory, about 0.3 MB each."""
    network: Path | None = None
    """Network to start from; the shipped one by default."""
    lift: Path | None = None
    """Network that lifts keypoints and flow; the shipped one by default."""
    cache: Path = field(default_factory=default_cache)
    """Where flow and stills are kept."""
    device: str = "auto"
    """cpu, cuda or auto."""


def run(arguments: Arguments) -> None:
    """Capture what was not captured before, train, say where the network is."""
    device = device_of(arguments.device)
    network, body = network_and_body(arguments.network)
    if not arguments.source:
        raise ValueError("got no video; expected one or more: flowhmr adapt VIDEO... --run FOLDER")
    if arguments.capture.init is not None and len(arguments.source) > 1:
        raise ValueError(
            f"--capture.init: got it for {len(arguments.source)} videos; expected one video"
        )
    lift = lift_network(arguments.lift).to(device).eval()
    make_folder(arguments.run)
    videos = tuple(arguments.source)
    with first_before_others():
        scenes = [captured(arguments, number, lift, body, device) for number in range(len(videos))]
    crop_px, most = arguments.config.pairs.flow_px, arguments.most
    people = [
        person
        for path, scene in zip(videos, scenes, strict=True)
        for person in own_videos(path, scene, body, crop_px, most)
    ]
    labelled = sum(int((person.trust > 0).sum()) for person in people)
    frames = sum(len(person.sequence) for person in people)
    console.print(f"bodies that count as labels: {labelled} of {frames}")
    path = adapt(
        arguments.config, network, body, people, arguments.run, arguments.cache, device,
        StepProgress("rendering stills"),
    )  # fmt: skip
    console.print(f"network: {path}\nlosses:  {arguments.run / 'losses.png'}")
    console.print(f"see it with: flowhmr predict {videos[0]} --network {path}")


def captured(
    arguments: Arguments, number: int, lift: Lift, body: BodyModel, device: torch.device
) -> SceneMotion:
    """The motion in one of the videos, with trust; kept in the run folder and found there again.

    Raises:
        ValueError: training has begun with what other settings found.
        VideoError: the video cannot be read.
    """
    source, folder = arguments.source[number], arguments.run / "captured"
    target = folder / f"{number:02d}-{source.stem}.npz"
    with open_video(source):
        pass  # or say what is wrong with it
    people = arguments.capture.people.of_video(number, len(arguments.source))
    config = replace(arguments.capture, people=people)
    key = _plain(
        {
            **source_key(source),
            "capture": asdict(config),
            "trust": asdict(arguments.trust),
            "lift": source_key(arguments.lift or LIFT),
        }
    )
    noted = target.with_suffix(".json")
    if target.exists() and noted.exists():
        before = json.loads(noted.read_text() or "{}")
        if before == key:
            return load_motion(target)
        if (arguments.run / CHECKPOINT).exists():
            changed = sorted(k for k in before.keys() | key.keys() if before.get(k) != key.get(k))
            raise ValueError(
                f"{target}: got bodies found with other {', '.join(changed)}, with which training "
                "has begun; expected the same to go on; use them, or another --run folder"
            )
    bars: dict[str, StepProgress] = defaultdict(lambda: StepProgress(source.name))

    def told(stage: str, done: int, total: int | None) -> None:
        if total is not None:
            bars[stage](done, total)

    work = make_folder(folder / f"{number:02d}-{source.stem}")
    found = capture(source, config, lift, body, device, told, work)
    scene = trusted(found, body, arguments.trust)
    noted.unlink(missing_ok=True)
    save_motion(target, scene, body)
    # Last: without it the motion is found again.
    noted.write_text(json.dumps(key))
    return scene


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """As it comes back from the file."""
    return json.loads(json.dumps(values, default=str))
