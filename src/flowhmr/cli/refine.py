"""Refine a network with the motion in unannotated video, held by labelled stills (Eq. 4) and
by what it first said of the same frames (Eq. 8)."""

from dataclasses import dataclass, field
from pathlib import Path

from flowhmr.cli.shared import (
    StepProgress,
    console,
    default_cache,
    device_of,
    load_people,
    make_folder,
    network_and_body,
)
from flowhmr.data import PeopleConfig, field_videos, open_field
from flowhmr.records import Sequence
from flowhmr.synth import ClipConfig, ShardCache, render_clip, shard_videos
from flowhmr.training import RefineConfig, refine

FPS = 30.0
"""Of footage; refinement does not look at times."""


@dataclass(frozen=True)
class Arguments:
    """Flags of ``flowhmr refine``."""

    run: Path
    """Run folder. Start the same command again to go on after an interruption."""
    video: tuple[Path, ...] = ()
    """Videos, or folders of images, in which people move. No annotation is needed."""
    people: PeopleConfig = field(default_factory=PeopleConfig)
    """Where the people are in them."""
    footage: tuple[tuple[str, Path, Path], ...] = ()
    """Video of the field's data sets: KIND PATH IMAGES each, as `flowhmr data` takes them (3dpw
    3DPW/sequenceFiles/train 3DPW/imageFiles penn Penn/labels Penn/frames). Boxes are read, and
    nothing else."""
    shards: tuple[str, ...] = ()
    """Exports of `flowhmr synth export` to use as video: folders, or URLs of them (https://...,
    s3://..., gs://..., all that fsspec reads), whose shards are fetched into --cache. Boxes are
    read, and no labels."""
    shards_gb: float = 50.0
    """The shards of URLs take no more of --cache."""
    synthetic: int = 0
    """Clips of synthetic video to use as well (or instead); their labels are not looked at."""
    clips: ClipConfig = field(default_factory=ClipConfig)
    """What those clips are like."""
    network: Path | None = None
    """Network to start from; the shipped one by default."""
    smpl: Path | None = None
    """Folder of SMPL's files, for a network of neutral SMPL (`flowhmr import`)."""
    config: RefineConfig = field(default_factory=RefineConfig)
    """The run."""
    cache: Path = field(default_factory=default_cache)
    """Where flow and stills are kept."""
    device: str = "auto"
    """cpu, cuda or auto."""


def run(arguments: Arguments) -> None:
    """Refine and say where the network is."""
    device = device_of(arguments.device)
    network, body = network_and_body(arguments.network, arguments.smpl)
    crop_px = arguments.config.pairs.flow_px
    video: list[Sequence] = load_people(arguments.video, arguments.people, crop_px, device)
    video += [render_clip(arguments.clips, i, body) for i in range(arguments.synthetic)]
    for kind, path, images in arguments.footage:
        video += field_videos(open_field(kind, path), images, FPS)
    cached = ShardCache(arguments.cache / "shards", arguments.shards_gb)
    for place in arguments.shards:
        video += shard_videos(place, cached)
    if not video and arguments.config.train.pairs:
        raise ValueError(
            "got no video; expected --video FILE with --people..., --footage KIND PATH IMAGES, "
            "--shards FOLDER_OR_URL or --synthetic N; "
            "or --config.train.pairs 0 for supervised steps alone"
        )
    make_folder(arguments.run)
    path = refine(
        arguments.config, network, body, video, arguments.run, arguments.cache, device,
        StepProgress("rendering stills"),
    )  # fmt: skip
    console.print(f"network: {path}\nlosses:  {arguments.run / 'losses.png'}")
    console.print(f"score it with: flowhmr evaluate --network {path}")
