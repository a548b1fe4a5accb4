"""``flowhmr capture --model``: motion that begins with what a network of crops says."""

import re
from pathlib import Path

import pytest
import torch
from test_cli_capture import FRAMES, lift, people
from torch.testing import assert_close

from flowhmr.body import open_body
from flowhmr.cameras import project_weak
from flowhmr.capture import bodies_along, load_motion, standing
from flowhmr.data import read_boxes
from flowhmr.networks import (
    HpofConfig,
    TcmrConfig,
    TemporalHmr,
    VibeConfig,
    load_estimator,
    load_hmr,
    save_network,
)

__all__ = ["lift"]  # the fixture
CPU = torch.device("cpu")


def saved(network: Path, config, path: Path) -> Path:
    torch.manual_seed(0)
    save_network(path, TemporalHmr(load_hmr(network), config), {})
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [TcmrConfig(frames=4, hidden=8), VibeConfig(4, 8), HpofConfig(2, blocks=1, width=8), None],
    ids=str,
)
def test_the_motion_is_the_models(flowhmr, network, clip, boxes, lift, config, tmp_path):
    """Rotations as they were said, bodies where the crop shows them."""
    path = saved(network, config, tmp_path / "model.safetensors") if config else network
    answer = flowhmr(
        "capture", clip, *people(boxes), "--network", lift, "--model", path, "--out", "found",
        "--config.fit.steps", "0",
    )  # fmt: skip
    assert answer.status == 0, answer.err
    assert "model" in re.findall(r"^ +([a-z ]+):", answer.out, re.M)
    assert str(path) in Path("found/report.html").read_text()
    scene = load_motion(Path("found/motion.npz"))
    (person,), (track,) = scene.people, read_boxes(boxes)
    said = bodies_along(clip, [track], load_estimator(path), CPU)[track.person]
    assert len(person) == FRAMES
    assert_close(person.params.rotmats, said.estimate.params.rotmats, atol=1e-4, rtol=0)
    assert_close(person.params.betas[0], said.estimate.params.betas.mean(0), atol=1e-4, rtol=0)
    # Refinement moves it a little, even without steps.
    placed = standing(said, track.person, scene.camera, open_body())
    assert_close(person.translation_m, placed.translation_m, atol=0.2, rtol=0)
    joints_m = open_body().joints(placed.params)
    seen_px = project_weak(joints_m.mean(1, True), said.estimate.camera, said.crop.size_px)
    ahead_m = (joints_m + placed.translation_m[:, None]).mean(1, True)
    in_image_px = said.crop.to_image(seen_px[..., :2])
    assert_close(scene.camera.project(ahead_m)[..., :2], in_image_px, atol=0.01, rtol=0)
    # A metre is as large in the image as in the crop.
    px_per_m = said.estimate.camera.scale * said.crop.side_px / 2
    assert_close(scene.camera.focal_px / ahead_m[:, 0, 2], px_per_m, rtol=1e-3, atol=0)


def test_files_of_the_wrong_kind_are_told(flowhmr, network, clip, boxes, lift):
    temporal = saved(network, TcmrConfig(frames=4, hidden=8), Path("model.safetensors"))
    Path("video.safetensors").write_bytes(b"no network")
    wrong = {
        (
            "--model",
            lift,
        ): "of keypoint tracks; expected one of images; give it to `flowhmr capture --network`",
        ("--network", temporal): "got a network of images; expected one of keypoint tracks; train "
        "one with `flowhmr lift`, or give this one to `flowhmr capture --model`",
        ("--model", "nowhere.safetensors"): "nowhere.safetensors: got no such file",
        ("--model", "video.safetensors"): "got a file that is not safetensors",
        ("--model", temporal, "--init", "theirs.pkl"): "got both --model model.safetensors and "
        "--init theirs.pkl; expected one of them",
    }
    for words, said in wrong.items():
        answer = flowhmr("capture", clip, *people(boxes), *words)
        assert answer.status == 1
        assert said in answer.err
        assert not Path("out").exists(), "nothing was begun"
