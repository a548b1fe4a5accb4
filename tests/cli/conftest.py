"""A tiny network, a few frames of the shipped clip with their boxes, and a way to run commands."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from flowhmr.body import open_body
from flowhmr.cli import main
from flowhmr.data import demo_clip, open_video, read_boxes, write_boxes, write_video
from flowhmr.networks import BackboneConfig, Hmr, HmrConfig, MeanParams, save_network
from flowhmr.synth import mean_rotmats

FRAMES = 9


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    status: int
    """Exit status."""
    out: str
    """Standard output."""
    err: str
    """Standard error."""


@pytest.fixture
def flowhmr(capsys, monkeypatch, tmp_path) -> Callable[..., Outcome]:
    """Runs a command in this process, with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("FLOWHMR_TRACEBACK", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*words: str | Path) -> Outcome:
        capsys.readouterr()
        try:
            status = main([str(word) for word in words])
        except SystemExit as exit:  # how the parser ends
            status = int(exit.code or 0)
        return Outcome(status, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def inputs(tmp_path_factory) -> Path:
    """Folder with ``net.safetensors``, ``clip.mp4`` and ``boxes.json``."""
    folder = tmp_path_factory.mktemp("inputs")
    torch.manual_seed(0)
    body = open_body()
    backbone = BackboneConfig("mobilenetv3_small_050", size_px=48)
    config = HmrConfig(backbone, hidden=32, maps=True)
    network = Hmr(config, MeanParams(mean_rotmats(), torch.zeros(10), body.body_id))
    save_network(folder / "net.safetensors", network, {"command": "untrained"})
    clip_path, boxes_path = demo_clip()
    with open_video(clip_path) as video:
        images = [frame.image for frame in video.read(0, FRAMES)]
        write_video(folder / "clip.mp4", images, video.fps)
    (track,) = read_boxes(boxes_path)
    assert track.keypoints_px is not None
    few = replace(
        track,
        frame_indices=track.frame_indices[:FRAMES],
        boxes_px=track.boxes_px[:FRAMES],
        confidence=track.confidence[:FRAMES],
        keypoints_px=track.keypoints_px[:FRAMES],
    )
    write_boxes(folder / "boxes.json", [few])
    return folder


@pytest.fixture(scope="session")
def network(inputs) -> Path:
    return inputs / "net.safetensors"


@pytest.fixture(scope="session")
def clip(inputs) -> Path:
    return inputs / "clip.mp4"


@pytest.fixture(scope="session")
def boxes(inputs) -> Path:
    return inputs / "boxes.json"
