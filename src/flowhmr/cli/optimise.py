"""Bodies in a video, moved until they move as the image does: no training, this video alone."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import tyro
from rich.progress import Progress
from torch import Tensor

from flowhmr.body import H36M_14, BodyModel
from flowhmr.cameras import Crop, crop_from_box
from flowhmr.capture import bodies_along
from flowhmr.cli.predict import save_tracks, write_overlay
from flowhmr.cli.shared import console, default_cache, device_of, make_folder, network_and_body
from flowhmr.data import (
    FlowSource,
    PeopleConfig,
    frame_crops,
    open_video,
    people_of,
    sequences_of,
)
from flowhmr.evaluation import acceleration
from flowhmr.geometry import pick, to_device
from flowhmr.records import Estimate, Sequence, Track, join_estimates
from flowhmr.training import (
    FlowLinks,
    SequenceFitConfig,
    fit_sequence,
    flow_disagreement,
    flow_source,
    sequence_links,
    surface_of,
)

UNIT_PX = 224
HIPS = [H36M_14.index("left_hip"), H36M_14.index("right_hip")]


@dataclass(frozen=True)
class Arguments:
    """Flags of ``flowhmr optimise``."""

    source: tyro.conf.Positional[Path]
    """A video, or a folder of images in their order."""
    people: PeopleConfig = field(default_factory=PeopleConfig)
    """Where the people are in it."""
    config: SequenceFitConfig = field(default_factory=SequenceFitConfig)
    """What the bodies are fitted to."""
    flow: str = "dis"
    """Flow estimator: dis, dis:medium, raft, raft:small, raft:large:FILE."""
    out: Path = Path("out/optimise")
    """Folder for the results."""
    network: Path | None = None
    """The network that gives the first estimates; the shipped one by default."""
    skeleton: bool = False
    """Draw the joints instead of the body."""
    cache: Path = field(default_factory=default_cache)
    """Where flow is kept."""
    device: str = "auto"
    """cpu, cuda or auto."""


@dataclass(frozen=True, eq=False)
class Motion:
    """How the bodies of a stretch of video move."""

    disagreement_px: Tensor
    """Of body flow and image flow, a value for each pair, pixels of a window of 224; NaN where
    nothing could be compared."""
    accel: Tensor
    """Acceleration in each inner frame, mean over the joints about the mid-hip, mm/frame^2."""


def run(arguments: Arguments) -> None:
    """Estimate, optimise, write what ``flowhmr predict`` writes, say what changed."""
    device = device_of(arguments.device)
    network, body = network_and_body(arguments.network)
    config, path = arguments.config, arguments.source
    flow = flow_source(config.pairs, arguments.flow, arguments.cache)
    with open_video(path) as video:
        tracks = people_of(video, arguments.people, device)
    video = sequences_of(path, tracks, config.pairs.flow_px)
    _check(path, video, config)
    make_folder(arguments.out)
    size_px = network.size_px

    def seen(stretch: Sequence) -> Tensor | None:
        return surface_of(network, frame_crops(stretch, size_px).frames, device)

    fitted, rows = {}, []
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("optimising", total=len(video) * config.steps)
        for person, track in bodies_along(path, tracks, network, device).items():
            own = [s for s in video if s.person == str(person)]
            fitted[person], motions = fit_track(
                track, own, seen, body.to(device), flow, config, lambda: bar.advance(task)
            )
            rows.append(f"person {person}: {_change(motions)}")
    target = save_tracks(arguments.out / "bodies.npz", fitted, body)
    overlay = write_overlay(path, fitted, body, arguments.out, arguments.skeleton)
    console.print("\n".join([*rows, f"bodies:  {target}", f"overlay: {overlay}"]))


def fit_track(
    track: Track,
    stretches: list[Sequence],
    surface: Callable[[Sequence], Tensor | None],
    body: BodyModel,
    flow: FlowSource,
    config: SequenceFitConfig,
    on_step: Callable[[], None],
) -> tuple[Track, list[tuple[Motion, Motion]]]:
    """A person's bodies, fitted stretch by stretch; how each stretch moved before and after.

    ``surface`` gives the network's surface maps of a stretch, see `fit_sequence`.
    """
    size_px, device = track.crop.size_px, body.v_template.device
    rows = torch.arange(len(track.frame_indices)).split([len(s) for s in stretches])
    estimates, motions = [], []
    for sequence, row in zip(stretches, rows, strict=True):
        crops = crop_from_box(sequence.boxes_px, size_px)
        links = sequence_links(sequence, size_px, flow)
        seen_px = sequence.detected_px
        if seen_px is not None:
            seen_px = torch.cat([crops.to_crop(seen_px[..., :2]), seen_px[..., 2:]], -1)
        first = to_device(pick(track.estimate, row), device)
        fit = fit_sequence(
            first, crops, links, body, config, seen_px,
            surface(sequence),
            lambda step, terms: on_step(),
        )  # fmt: skip
        estimates.append(to_device(fit.estimate, "cpu"))
        before = _motion(first, crops, links, body, config)
        motions.append((before, _motion(fit.estimate, crops, links, body, config)))
    return replace(track, estimate=join_estimates(estimates)), motions


def _motion(
    estimate: Estimate, crops: Crop, links: FlowLinks, body: BodyModel, config: SequenceFitConfig
) -> Motion:
    apart_px = flow_disagreement(estimate, crops, links, body, config)
    parts = torch.arange(len(estimate.camera.params)).split(config.chunk)
    meshes = (body.mesh(pick(estimate.params, part)) for part in parts)
    joints_m = torch.cat([body.keypoints(mesh, H36M_14) for mesh in meshes])
    accel = acceleration(joints_m - joints_m[:, HIPS].mean(1, keepdim=True))
    return Motion(apart_px.cpu() * (UNIT_PX / crops.size_px), accel.norm(dim=-1).mean(-1).cpu())


def _change(motions: list[tuple[Motion, Motion]]) -> str:
    """Means before and after, over the pairs that were compared both times."""
    apart_px = torch.cat([torch.stack([m.disagreement_px for m in pair]) for pair in motions], 1)
    apart_px = apart_px[:, torch.isfinite(apart_px).all(0)]
    accel = torch.cat([torch.stack([m.accel for m in pair]) for pair in motions], 1)
    said = []
    for name, unit, values in (
        ("flow disagreement", "px of 224", apart_px),
        ("acceleration", "mm/frame²", accel),
    ):
        old, new = values.mean(1).tolist()
        change = f"{old:.2f} -> {new:.2f} {unit}" if values.numel() else "not measured"
        said.append(f"{name} {change}")
    return ", ".join(said)


def _check(path: Path, video: list[Sequence], config: SequenceFitConfig) -> None:
    """Before anything is computed: pairs to compare, and keypoints if they are asked for."""
    if max((len(s) for s in video), default=0) <= config.pairs.gap:
        raise ValueError(
            f"{path}: got nobody in more than {config.pairs.gap} frames in a row; expected video "
            "with frames to compare; for single images there is `flowhmr predict`"
        )
    if config.keypoints and any(s.detected_px is None for s in video):
        raise ValueError(
            f"--config.keypoints: got {config.keypoints} for people without keypoints; expected "
            "some with each box; use --people.keypoints or a detector, or leave the flag out"
        )
