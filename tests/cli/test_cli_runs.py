"""Commands from end to end: a tiny network on a few frames of the shipped clip."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from flowhmr.body import COCO_17, SMPL_24, open_body
from flowhmr.capture import bodies_along, load_motion
from flowhmr.cli import shared
from flowhmr.data import demo_clip, open_video, read_boxes
from flowhmr.geometry import rotmat_from_axis_angle
from flowhmr.networks import ContextConfig, ContextHmr, load_hmr, load_network, read_card

FRAMES = 9
ENDS = [
    f"{side}_{joint}" for side in ("left", "right") for joint in ("wrist", "elbow", "knee", "ankle")
]
SMALL_POOL = (
    "--config.pool.count", "32", "--config.pool.chunk", "32", "--config.pool.backgrounds", "4",
    "--config.pool.stills.size-px", "64",
)  # fmt: skip
SHORT = (
    "--config.train.steps", "4", "--config.train.pairs", "2", "--config.train.workers", "0",
    "--config.train.log-every", "2",
)  # fmt: skip


def moved(before: Path, after: Path) -> float:
    """Largest change of a weight (statistics of batch norm aside) between two network files."""
    old, new = (dict(load_hmr(path).named_parameters()) for path in (before, after))
    assert old.keys() == new.keys()
    return max(float((old[k] - new[k]).detach().abs().max()) for k in old)


def rows(table: Path) -> list[dict[str, float]]:
    with table.open() as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def check_bodies(path: Path, frames: int, boxes: Path) -> None:
    """A track file of one person: whole, finite, consistent with itself and with the boxes."""
    with np.load(path) as file:
        content = {name: file[name] for name in file.files}
    body = open_body()
    assert str(content.pop("body_id")) == body.body_id
    assert int(content.pop("format")) == 1
    track = {name.removeprefix("0/"): torch.from_numpy(v) for name, v in content.items()}
    shapes = {
        "frame": (), "time_s": (), "pose": (72,), "betas": (10,), "camera": (3,),
        "crop_centre_px": (2,), "crop_side_px": (), "joints_m": (24, 3), "joints_px": (24, 2),
    }  # fmt: skip
    assert {k: tuple(v.shape) for k, v in track.items()} == {
        k: (frames, *s) for k, s in shapes.items()
    }
    assert all(bool(v.isfinite().all()) for v in track.values())
    assert track["frame"].tolist() == list(range(frames))
    assert track["time_s"].tolist() == pytest.approx([f / 30 for f in range(frames)], abs=1e-4)
    rotmats = rotmat_from_axis_angle(track["pose"].view(frames, 24, 3))
    joints_m = body.joints(body.params(rotmats, track["betas"]))
    assert_close(joints_m, track["joints_m"], atol=1e-4, rtol=0)
    scale, shift = track["camera"][:, :1], track["camera"][:, 1:]
    in_crop = scale[..., None] * joints_m[..., :2] + shift[:, None]
    half = track["crop_side_px"][:, None, None] / 2
    seen = track["crop_centre_px"][:, None] + half * in_crop
    assert_close(seen, track["joints_px"], atol=0.05, rtol=0)
    (given,) = read_boxes(boxes)
    given_px = given.boxes_px[:frames]
    centre = given_px[:, :2] + given_px[:, 2:] / 2
    assert_close(track["crop_centre_px"], centre, atol=10, rtol=0)


def check_overlay(path: Path, clip: Path, boxes: Path) -> None:
    """As many pictures as the clip, of its size, changed where the person is."""
    with open_video(path) as drawn, open_video(clip) as plain:
        assert drawn.size_px == plain.size_px
        assert drawn.fps == plain.fps
        pairs = list(zip(drawn, plain, strict=True))
    (given,) = read_boxes(boxes)
    assert len(pairs) == len(given) == FRAMES
    for (a, b), box in zip(pairs, given.boxes_px.int().tolist()):
        changed = np.abs(a.image.astype(int) - b.image).max(-1) > 60
        x, y, w, h = box
        assert changed[y : y + h, x : x + w].mean() > 0.05
        assert changed[:, : x - w].mean() < 1e-3


@pytest.mark.slow
def test_fit_on_an_export_at_a_url(flowhmr, network, tmp_path):
    answer = flowhmr(
        "synth", "export", "--out", tmp_path / "shards", "--count", "2", "--per-shard", "1",
        "--workers", "1", "--layers", "frames", "labels", "--source.clips.frames", "9",
        "--source.clips.size-px", "48", "--source.clips.place.textures", "3",
    )  # fmt: skip
    assert answer.status == 0, answer.err
    words = ("fit", "--run", "run", "--network", network, "--cache", "cache", *SHORT)
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "shards") + "/", "/bucket/set/", recursive=True)
    try:
        answer = flowhmr(*words, "--shards", "memory://bucket/set")
    finally:
        memory.rm("/bucket", recursive=True)
    assert answer.status == 0, answer.err
    assert moved(network, Path("run/network.safetensors")) > 0
    assert len(list(Path("cache/shards").glob("*.tar"))) == 2
    answer = flowhmr(*words, "--shards", "memory://bucket/set")
    assert answer.status == 1
    assert "memory://bucket/set/index.json: got no such file" in answer.err


@pytest.mark.slow
def test_refine_then_predict(flowhmr, network, clip, boxes):
    """The way of the README: unannotated video in, a better network and its bodies out."""
    people = ("--people.boxes", boxes)
    answer = flowhmr(
        "refine", "--run", "run", "--network", network, "--video", clip, *people, *SMALL_POOL,
        *SHORT, "--config.train.batch", "4",
    )  # fmt: skip
    assert answer.status == 0, answer.err
    refined = Path("run/network.safetensors")
    assert str(refined) in answer.out
    assert moved(network, refined) > 1e-6
    assert read_card(refined)["notes"]["trained_by"] == "refine"
    log = rows(Path("run/losses.csv"))
    assert [row["step"] for row in log] == [2, 4]
    assert {"total", "flow", "keypoints", "disagreement_px"} <= log[0].keys()
    assert all(math.isfinite(value) for row in log for value in row.values())
    assert json.loads(Path("run/config.json").read_text())["train"]["steps"] == 4
    assert Path("run/losses.png").stat().st_size > 0

    answer = flowhmr("predict", clip, *people, "--network", refined, "--out", "results")
    assert answer.status == 0, answer.err
    assert {p.name for p in Path("results").iterdir()} == {"bodies.npz", "overlay.mp4"}
    assert all(f"results/{name}" in answer.out for name in ("bodies.npz", "overlay.mp4"))
    check_bodies(Path("results/bodies.npz"), FRAMES, boxes)
    check_overlay(Path("results/overlay.mp4"), clip, boxes)


@pytest.mark.slow
def test_fit_needs_no_labels(flowhmr, network, clip, boxes):
    answer = flowhmr(
        "fit", "--run", "run", "--network", network, "--video", clip, "--people.boxes", boxes,
        *SHORT,
    )  # fmt: skip
    assert answer.status == 0, answer.err
    assert moved(network, Path("run/network.safetensors")) > 1e-7
    log = rows(Path("run/losses.csv"))
    assert {"flow", "anchor_pose", "anchor_shape"} <= log[0].keys()
    assert "keypoints" not in log[0]
    assert not list(Path("cache").rglob("pool-*")), "no stills"


@pytest.mark.slow
def test_a_network_can_be_given_temporal_context(flowhmr, network, clip, boxes):
    fit = ("fit", "--run", "run", "--video", clip, "--people.boxes", boxes, *SHORT)
    answer = flowhmr(*fit, "--network", network, "--config.context", "2")
    assert answer.status == 0, answer.err
    made = Path("run/network.safetensors")
    built = load_network(made)
    assert isinstance(built, ContextHmr)
    assert built.config.length == 2

    answer = flowhmr(
        "predict", clip, "--people.boxes", boxes, "--network", made, "--out", "results"
    )
    assert answer.status == 0, answer.err
    check_bodies(Path("results/bodies.npz"), FRAMES, boxes)
    answer = flowhmr(
        "evaluate", "--network", made, "--benchmark.count", "0", "--video", clip,
        "--people.boxes", boxes, "--out", "scores",
    )  # fmt: skip
    assert answer.status == 0, answer.err

    # As it is, it goes on with its context; another one is refused.
    answer = flowhmr(*fit[:1], "--run", "more", *fit[3:], "--network", made)
    assert answer.status == 0, answer.err
    assert isinstance(load_network(Path("more/network.safetensors")), ContextHmr)
    answer = flowhmr(*fit[:1], "--run", "no", *fit[3:], "--network", made, "--config.context", "4")
    assert answer.status == 1
    assert "context: got 4 for a network that has a temporal context of 2" in answer.err


def test_context_does_not_reach_across_a_gap(network, clip, boxes):
    (given,) = read_boxes(boxes)
    torch.manual_seed(0)
    hmr = load_hmr(network)
    with_context = ContextHmr(ContextConfig(length=2, initial_std=0.3), hmr)

    def bodies(net, rows: list[int]) -> torch.Tensor:
        keypoints_px = given.keypoints_px
        track = replace(
            given,
            frame_indices=given.frame_indices[rows],
            boxes_px=given.boxes_px[rows],
            confidence=given.confidence[rows],
            keypoints_px=None if keypoints_px is None else keypoints_px[rows],
        )
        found = bodies_along(clip, [track], net, torch.device("cpu"))[given.person]
        assert found.frame_indices.tolist() == rows
        return found.estimate.params.rotmats

    gap = bodies(with_context, [0, 1, 2, 6, 7])
    assert_close(gap[:3], bodies(with_context, [0, 1, 2]))
    assert_close(gap[3:], bodies(with_context, [6, 7]))
    alone = bodies(hmr, [0, 1, 2, 6, 7])
    assert_close(gap[[0, 3]], alone[[0, 3]])
    assert float((gap - alone)[[1, 2, 4]].abs().max()) > 1e-3, "the context does something"


def test_predict_on_a_picture(flowhmr, network, clip, boxes):
    with open_video(clip) as video:
        Image.fromarray(video.read(0, 1)[0].image).save("picture.png")
    x, y, w, h = read_boxes(boxes)[0].boxes_px[0].tolist()
    answer = flowhmr(
        "predict", "picture.png", "--people.box", f"{x},{y},{w},{h}", "--network", network,
        "--out", "results", "--skeleton",
    )  # fmt: skip
    assert answer.status == 0, answer.err
    check_bodies(Path("results/bodies.npz"), 1, boxes)
    drawn = np.asarray(Image.open("results/overlay.png")).astype(int)
    changed = np.abs(drawn - np.asarray(Image.open("picture.png"))).max(-1) > 0
    assert 0 < changed.mean() < 0.05


def test_evaluate_writes_its_tables(flowhmr, network, clip, boxes):
    answer = flowhmr(
        "evaluate", "--network", network, "--video", clip, "--people.boxes", boxes,
        "--benchmark.count", "1", "--benchmark.clips.frames", "4",
        "--benchmark.clips.size-px", "64", "--out", "tables",
    )  # fmt: skip
    assert answer.status == 0, answer.err
    (score,) = json.loads(Path("tables/video.json").read_text())
    assert score["network"] == str(network)
    assert score["flow"]["pairs"] == FRAMES - 1
    values = [score["accel"], score["flow"]["disagreement_px"], score["flow"]["image_flow_px"]]
    assert all(math.isfinite(value) and value > 0 for value in values)
    table = Path("tables/synthetic.md").read_text()
    assert "mean pose" in table
    assert network.name in table
    assert "flow disagreement" in answer.out


def test_info_names_licences(flowhmr):
    answer = flowhmr("info")
    assert answer.status == 0, answer.err
    assert open_body().body_id in answer.out
    for licence in ("CC0", "BSD-3-Clause", "Apache-2.0", "CMU mocap"):
        assert licence in answer.out


@pytest.mark.slow
def test_pretrain_makes_a_network_and_goes_on_from_one(flowhmr, network):
    """From ``start`` the architecture is that network's, whatever ``network`` says."""
    loop = [*SMALL_POOL, *SHORT, "--config.train.pairs", "0", "--config.train.batch", "4"]
    small = ["--config.network.backbone.name", "mobilenetv3_small_050"]
    small += ["--config.network.backbone.size-px", "48", "--config.network.hidden", "16"]
    answer = flowhmr("pretrain", "--run", "scratch", *loop, *small)
    assert answer.status == 0, answer.err
    first = Path("scratch/network.safetensors")
    assert f"flowhmr evaluate --network {first}" in answer.out
    for start, hidden in ((first, 16), (network, 32)):
        folder = f"from-{hidden}"
        answer = flowhmr("pretrain", "--run", folder, *loop, "--config.start", start)
        assert answer.status == 0, answer.err
        after = Path(folder, "network.safetensors")
        assert load_hmr(after).config.hidden == hidden
        assert 0 < moved(start, after) < 0.1
        assert json.loads(Path(folder, "config.json").read_text())["command"]["start"] == str(start)
    answer = flowhmr("pretrain", "--run", "r", *loop, "--config.start", "nowhere.safetensors")
    assert answer.status == 1
    assert "no such file" in answer.err


@pytest.mark.slow
def test_demo_shows_before_and_after(flowhmr, network, monkeypatch):
    """With the tiny network in the place of the shipped one."""
    monkeypatch.setattr(shared, "BASELINE", network)
    answer = flowhmr(
        "demo", "--out", "demo", "--benchmark.count", "1",
        "--benchmark.clips.frames", "4", *SMALL_POOL, *SHORT, "--config.train.batch", "4",
    )  # fmt: skip
    assert answer.status == 0, answer.err
    assert {"overlay.mp4", "before_after.png", "report.html"} <= {
        p.name for p in Path("demo").iterdir()
    }
    assert "| | before | after |" in answer.out
    assert Path("demo/report.html").read_text().count("data:") == 3
    # The whole way with the shipped lifting network: the body's joints lie on the keypoints.
    scene = load_motion(Path("demo/capture/motion.npz"))
    (person,) = scene.people
    (given,) = read_boxes(demo_clip()[1])
    assert torch.equal(person.frame_indices, given.frame_indices)
    body = open_body()
    joints_cam = body.joints(person.params) + person.translation_m[:, None]
    points_px = scene.camera.project(joints_cam)[:, list(SMPL_24.indices_of(ENDS)), :2]
    keypoints = given.keypoints_px[:, list(COCO_17.indices_of(ENDS))]
    apart = (points_px - keypoints[..., :2]).norm(dim=-1) / given.boxes_px[:, 2:].amax(-1)[:, None]
    assert float(apart[keypoints[..., 2] > 0.5].median()) < 0.03
