"""Synthetic people: look at clips with their ground truth, export them, describe the benchmark."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from flowhmr.body import SMPL_24, open_body
from flowhmr.cli.shared import console, make_folder
from flowhmr.data import write_video
from flowhmr.synth import (
    ALL_LAYERS,
    SPLITS,
    ExportConfig,
    SizeName,
    SplitName,
    SynthClip,
    SynthClips,
    SynthConfig,
    export_shards,
    load_split,
    split_spec,
)
from flowhmr.view import (
    caption,
    contact_sheet,
    depth_to_rgb,
    draw_joints,
    draw_points,
    flow_to_rgb,
    mask_to_rgb,
    parts_to_rgb,
)


@dataclass(frozen=True)
class Source:
    """Which clips."""

    split: SplitName | None = None
    """A split of the SynthMotion benchmark; by default the clips of ``--source.clips``."""
    size: SizeName = "small"
    """Size of the split's images: small is 128 px, full is 224 px."""
    clips: SynthConfig = field(default_factory=SynthConfig)
    """Clips of your own; not used with a split."""

    def config(self) -> SynthConfig:
        """The configuration of the clips."""
        return self.clips if self.split is None else split_spec(self.split, self.size).clips

    def count(self, asked: int) -> int:
        """How many clips are meant: all of a split if ``asked`` is 0.

        Raises:
            ValueError: more than the split has, or no number for clips of one's own.
        """
        if self.split is None:
            if asked < 1:
                raise ValueError(f"--count: got {asked}; expected at least 1; say how many clips")
            return asked
        most = split_spec(self.split, self.size).count
        if not 0 <= asked <= most:
            raise ValueError(f"--count: got {asked}; expected 0 to {most}, what {self.split} has")
        return asked or most


@dataclass(frozen=True)
class Preview:
    """A contact sheet and a short video of clips with every layer of ground truth."""

    out: Path = Path("out/synth")
    """Folder for sheet.png, layers.png and layers.mp4."""
    source: Source = field(default_factory=Source)
    """Which clips."""
    first: int = 0
    """Number of the first clip."""
    count: int = 24
    """How many clips the contact sheet shows."""
    video: int = 3
    """How many of them are shown in motion, with all layers."""


@dataclass(frozen=True)
class Export:
    """Write clips as WebDataset shards: resumable, with checksums. Processes that torchrun started
    each make a share."""

    out: Path
    """Folder for the shards and index.json; the same command goes on after an interruption. Copied
    to object storage or a web server, it is read from there (`flowhmr refine --shards URL`)."""
    source: Source = field(default_factory=Source)
    """Which clips."""
    count: int = 0
    """How many; 0: all of the split."""
    per_shard: int = 64
    """Clips per shard."""
    layers: tuple[str, ...] = ALL_LAYERS
    """What is written of each clip."""
    workers: int = 2
    """Processes that make clips."""


@dataclass(frozen=True)
class Check:
    """Compare the benchmark's splits with the record of their version."""

    size: SizeName = "small"
    """Size of the images."""


@dataclass(frozen=True)
class Arguments:
    """Flags of ``flowhmr synth``."""

    command: tyro.conf.OmitSubcommandPrefixes[
        Annotated[Preview, tyro.conf.subcommand("preview")]
        | Annotated[Export, tyro.conf.subcommand("export")]
        | Annotated[Check, tyro.conf.subcommand("check")]
    ]


def run(arguments: Arguments) -> None:
    """Do what was asked for."""
    command = arguments.command
    if isinstance(command, Preview):
        preview(command)
    elif isinstance(command, Export):
        export(command)
    else:
        check(command)


def preview(arguments: Preview) -> None:
    """Make some clips and draw what is known of them."""
    if arguments.count < 1:
        raise ValueError(f"--count: got {arguments.count}; expected at least 1")
    folder = make_folder(arguments.out)
    config = arguments.source.config()
    clips = SynthClips(config, arguments.first + arguments.count)
    tiles, shown = [], []
    with _progress("making clips") as bar:
        for index in bar.track(range(arguments.first, arguments.first + arguments.count)):
            clip = clips[index]
            tiles.append(clip.images[len(clip) // 2].numpy())
            if len(shown) < arguments.video:
                shown.append(clip)
    rows = [tiles[i : i + 8] for i in range(0, len(tiles), 8)]
    titles = [f"clips {arguments.first + 8 * i} to {arguments.first + 8 * i + len(r) - 1}"
              for i, r in enumerate(rows)]  # fmt: skip
    sheet = folder / "sheet.png"
    Image.fromarray(contact_sheet(rows, titles, 180)).save(sheet)
    console.print(f"clips:  {sheet}")
    if shown:
        bands = [np.concatenate(layers_of(c, len(c) // 2), 1) for c in shown]
        titled = [caption(band, f"{c.name}: {c.text}") for band, c in zip(bands, shown)]
        Image.fromarray(np.concatenate(titled)).save(folder / "layers.png")
        write_video(folder / "layers.mp4", _frames(shown), shown[0].fps)
        console.print(f"layers: {folder / 'layers.png'}\nvideo:  {folder / 'layers.mp4'}")
    for clip in shown:
        residual = float(clip.weak_residual_px.mean())
        console.print(f"{clip.name}: {clip.text}; weak perspective misses by {residual:.2f} px")


def _frames(clips: list[SynthClip]) -> Iterator[np.ndarray]:
    for clip in clips:
        for t in range(len(clip)):
            yield caption(np.concatenate(layers_of(clip, t), 1), f"{clip.name}, frame {t}")


LAYERS = ("image", "flow", "seen in both", "depth", "parts", "people", "joints", "vertices")


def layers_of(clip: SynthClip, t: int) -> list[np.ndarray]:
    """Everything that is known of a frame, as pictures of 224 px and more, with their names."""
    image = clip.images[t].numpy()
    last = len(clip.flow.forward) - 1
    zoom = max(1, -(-192 // image.shape[0]))
    pictures = [image]
    if last >= 0:
        flow, valid = clip.flow.forward[min(t, last)], clip.flow.forward_valid[min(t, last)]
        lengths = clip.flow.forward.norm(dim=-1).numpy()
        largest = max(1.0, float(np.quantile(lengths, 0.99)))
        pictures += [flow_to_rgb(flow, largest), mask_to_rgb(valid)]
    near = float(clip.depth_m[clip.silhouette].min()) if clip.silhouette.any() else 1.0
    pictures += [
        depth_to_rgb(clip.depth_m[t], near * 0.7, 60.0),
        parts_to_rgb(clip.parts[t]),
        parts_to_rgb(clip.people[t]),
    ]
    large = image.repeat(zoom, 0).repeat(zoom, 1)
    joints = draw_joints(large, clip.joints_px[t] * zoom, SMPL_24, 1)
    points = clip.surface_px[t, ::7] * zoom
    drawn = [
        draw_points(joints, clip.joints_px[t] * zoom, clip.joint_visible[t], 3),
        draw_points(large // 2, points, clip.vertex_visible[t, ::7], 1),
    ]
    names = LAYERS if last >= 0 else (LAYERS[0], *LAYERS[3:])
    grown = [p.repeat(zoom, 0).repeat(zoom, 1) for p in pictures]
    return [caption(picture, name) for picture, name in zip(grown + drawn, names)]


def export(arguments: Export) -> None:
    """Write the shards."""
    make_folder(arguments.out)
    config = ExportConfig(
        clips=arguments.source.config(),
        count=arguments.source.count(arguments.count),
        per_shard=arguments.per_shard,
        layers=arguments.layers,
    )
    with _progress("exporting clips") as bar:
        task = bar.add_task("", total=config.count)
        index = export_shards(
            config, arguments.out, arguments.workers,
            lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
    console.print(f"index: {index}")


def check(arguments: Check) -> None:
    """Load each split; a difference from the record is an error."""
    for name in SPLITS:
        spec = split_spec(name, arguments.size)
        load_split(name, arguments.size)
        console.print(f"{name:<7} {spec.count:>6} clips, {spec.definition()}: as recorded")
    console.print(f"body {open_body().body_id}")


def _progress(what: str) -> Progress:
    return Progress(
        TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("left"),
        TimeRemainingColumn(), console=console,
    )  # fmt: skip
