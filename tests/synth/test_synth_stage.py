"""What is decided before drawing: seeds, ablations, cameras, places."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from flowhmr.body import SMPL_24, open_body
from flowhmr.synth.actors import MotionConfig
from flowhmr.synth.drawing import draw
from flowhmr.synth.places import PlaceConfig
from flowhmr.synth.sensor import Sensor
from flowhmr.synth.shots import ShotConfig
from flowhmr.synth.stage import SynthConfig, set_stage
from flowhmr.synth.synthmotion import SynthClips, content_hash
from flowhmr.synth.truth import synth_clip

BODY = open_body()
PLACE = PlaceConfig(textures=3)
CONFIG = SynthConfig(size_px=48, frames=3, place=PLACE, superpixel=0.0)


def test_clips_follow_from_seed_and_index() -> None:
    first, again = synth_clip(CONFIG, 4, BODY), synth_clip(CONFIG, 4, BODY)
    assert content_hash(first) == content_hash(again)
    assert content_hash(first) != content_hash(synth_clip(CONFIG, 5, BODY))
    assert content_hash(first) != content_hash(synth_clip(replace(CONFIG, seed=1), 4, BODY))


def test_threads_and_earlier_clips_change_nothing() -> None:
    threads = torch.get_num_threads()
    hashes = []
    for count in (1, 2):
        torch.set_num_threads(count)
        hashes.append([content_hash(synth_clip(CONFIG, i, BODY)) for i in (7, 6)])
        assert torch.get_num_threads() == count
    torch.set_num_threads(threads)
    assert hashes[0] == hashes[1]
    assert content_hash(synth_clip(CONFIG, 6, BODY)) == hashes[0][1]


@pytest.mark.slow
def test_workers_and_processes_change_nothing() -> None:
    clips = SynthClips(CONFIG, 4)
    here = [content_hash(clip) for clip in clips]
    loader = torch.utils.data.DataLoader(clips, batch_size=None, num_workers=2)
    assert [content_hash(clip) for clip in loader] == here
    code = (
        "import json\nfrom flowhmr.synth.places import PlaceConfig\n"
        "from flowhmr.synth.stage import SynthConfig\n"
        "from flowhmr.synth.synthmotion import SynthClips, content_hash\n"
        "place = PlaceConfig(textures=3)\n"
        "config = SynthConfig(size_px=48, frames=3, place=place, superpixel=0.0)\n"
        "print(json.dumps([content_hash(clip) for clip in SynthClips(config, 4)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == here


def test_one_aspect_does_not_move_the_others() -> None:
    plain = set_stage(CONFIG, 3, BODY)
    other = set_stage(replace(CONFIG, quality="clean", drops=1.0), 3, BODY)
    assert np.array_equal(plain.shot.rotmats, other.shot.rotmats)
    assert np.array_equal(plain.place.things, other.place.things)
    assert torch.equal(plain.actors[0].verts_world, other.actors[0].verts_world)
    assert other.sensor != plain.sensor


@pytest.mark.parametrize("motion", ["handheld", "dolly", "pan", "static"])
def test_cameras_are_rigid_and_see_the_person(motion: str) -> None:
    shot_config = ShotConfig(motions=((motion, 1.0),), close=0.0)  # type: ignore[arg-type]
    config = replace(CONFIG, frames=21, shot=shot_config, others=0.0)
    for index in range(6):
        stage = set_stage(config, index, BODY)
        rotmats = stage.shot.rotmats
        eye = rotmats @ rotmats.transpose(0, 2, 1)
        assert np.allclose(eye, np.eye(3), atol=1e-9)
        assert np.allclose(np.linalg.det(rotmats), 1)
        joints = stage.actors[0].joints_world.double().numpy()
        assert (stage.shot.to_camera(joints)[..., 2] > 0.5).all()
        seen = stage.shot.project(joints)
        assert seen.min() > 0
        assert seen.max() < config.size_px
        moved = np.ptp(stage.shot.centres_m, axis=0).max()
        assert (moved > 1e-3) == (motion in ("handheld", "dolly"))
        # Upright: what is higher in the world is higher in the image.
        up = stage.shot.rotmats[0] @ [0, 1, 0]
        assert up[1] < 0


def _scene_moves(config: SynthConfig, index: int) -> bool:
    stage = set_stage(config, index, BODY)
    still = np.ptp(stage.scene_shot.rotmats, axis=0).max() == 0
    return not (still and np.ptp(stage.place.poses, axis=0).max() == 0)


def test_static_background_freezes_the_scene_and_nothing_else() -> None:
    config = replace(CONFIG, shot=ShotConfig(motions=(("handheld", 1.0),)), occlusion=False)
    assert all(_scene_moves(config, i) for i in range(5))
    static = replace(config, background="static")
    assert not any(_scene_moves(static, i) for i in range(5))
    clip = synth_clip(static, 1, BODY, Sensor())
    nobody = (clip.people[:-1] == 0) & (clip.people[1:] == 0)
    assert clip.flow.forward[nobody].abs().max() < 1e-3
    assert clip.flow.forward[clip.silhouette[:-1]].norm(dim=-1).mean() > 0.02


def test_without_camera_tracking_people_ignore_the_camera() -> None:
    config = replace(CONFIG, shot=ShotConfig(motions=(("dolly", 1.0),)), follow_camera=False)
    stage = set_stage(config, 2, BODY)
    assert np.ptp(stage.shot.rotmats, axis=0).max() == 0
    assert np.ptp(stage.scene_shot.rotmats, axis=0).max() > 0
    follows = set_stage(replace(config, follow_camera=True), 2, BODY)
    assert np.array_equal(follows.shot.rotmats, stage.scene_shot.rotmats)


def test_without_occlusion_nothing_hides_anybody() -> None:
    hiding = replace(CONFIG, occluder=1.0, drops=1.0, others=0.0)
    shown = replace(hiding, occlusion=False)
    hidden_more = 0
    for index in range(6):
        free, hid = (synth_clip(c, index, BODY, Sensor()) for c in (shown, hiding))
        assert not free.dropped.any()
        assert torch.equal(free.joints_px, hid.joints_px)
        hidden_more += int(hid.silhouette.sum() < free.silhouette.sum())
    assert hidden_more >= 3


def test_without_occlusion_other_people_stay_behind() -> None:
    crowd = replace(CONFIG, others=1.0, occlusion=False)
    found = 0
    for index in range(12):
        stage = set_stage(crowd, index, BODY)
        depth = [
            stage.shot.to_camera(a.joints_world.double().numpy())[..., 2].mean()
            for a in stage.actors
        ]
        found += len(depth) - 1
        assert all(other > depth[0] + 0.3 for other in depth[1:])
    assert found >= 6


def test_occluders_leave_something_to_see() -> None:
    config = replace(CONFIG, occluder=1.0, frames=1, others=0.0)
    shares = []
    for index in range(12):
        seen = synth_clip(config, index, BODY, Sensor()).silhouette.sum()
        free = synth_clip(replace(config, occlusion=False), index, BODY, Sensor()).silhouette.sum()
        shares.append(float(seen / free))
    assert np.mean(shares) > 0.5
    assert min(shares) < 0.95


def test_superpixels_hide_a_part_of_the_person() -> None:
    config = replace(CONFIG, size_px=64, frames=5, superpixel=1.0, occluder=0.0, others=0.0)
    hidden = []
    for index in range(8):
        stage = set_stage(config, index, BODY)
        drawing = draw(stage, BODY)
        hidden.append(bool(drawing.hidden.any()))
        assert not (drawing.maps.ids[drawing.hidden] >= 0).any()
    assert 1 <= sum(hidden) <= 7


def test_backgrounds_from_a_folder(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    picture = cv2.resize(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8), (640, 480))
    cv2.imwrite(str(tmp_path / "scene.png"), picture)
    config = replace(CONFIG, size_px=64, frames=5, backgrounds=tmp_path, media=1.0, occlusion=False)
    for index in range(3):
        stage = set_stage(config, index, BODY)
        assert stage.backdrop is not None
        drift = stage.backdrop.drift_px
        assert np.allclose(stage.shot.lens_px[:, 1:] - drift, stage.shot.lens_px[2, 1:] - drift[2])
        clip = synth_clip(config, index, BODY, Sensor())
        nobody = clip.people[:-1] == 0
        step = torch.from_numpy(np.diff(drift, axis=0))[:, None, None].expand_as(clip.flow.forward)
        torch.testing.assert_close(clip.flow.forward[nobody], step[nobody], atol=1e-4, rtol=0)
        frame = stage.backdrop.images[0][nobody[0].numpy()]
        # Beside people: their outlines mix with it.
        assert np.median(np.abs(clip.images[0][nobody[0]].int().numpy() - frame)) <= 1


def test_an_empty_background_folder_is_an_error(tmp_path: Path) -> None:
    config = replace(CONFIG, backgrounds=tmp_path, media=0.0)
    with pytest.raises(ValueError, match="expected"):
        set_stage(config, 0, BODY)


@pytest.mark.parametrize("settings", [{"frames": 0}, {"size_px": 50}, {"size_px": 8}])
def test_impossible_settings(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected at least one frame"):
        SynthConfig(**settings)  # type: ignore[arg-type]


def test_splits_and_actions_choose_recordings() -> None:
    only = MotionConfig(split="test", actions=("washwindow",), made_up=0.0)
    for index in range(4):
        name = set_stage(replace(CONFIG, motion=only), index, BODY).actors[0].name
        assert "washwindow" in name
    made_up = MotionConfig(made_up=1.0, moves=("squat",))
    assert set_stage(replace(CONFIG, motion=made_up), 0, BODY).actors[0].name == "moves/squat"


BVH = """HIERARCHY
ROOT Hips
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
%s}
MOTION
Frames: 8
Frame Time: 0.0333333
%s"""


def _chain(names: list[tuple[str, str]]) -> str:
    """Joints one below the other; the last one ends."""
    if not names:
        return "End Site { OFFSET 0 0.1 0 }\n"
    name, offset = names[0]
    head = f"JOINT {name} {{ OFFSET {offset} CHANNELS 3 Zrotation Xrotation Yrotation\n"
    return head + _chain(names[1:]) + "}\n"


def test_motions_of_ones_own(tmp_path: Path) -> None:
    sides = []
    for side, x in (("Left", 1), ("Right", -1)):
        sides += [
            [(f"{side}UpLeg", f"{10 * x} -5 0"), (f"{side}Leg", "0 -42 0"),
             (f"{side}Foot", "0 -42 0"), (f"{side}ToeBase", "0 -5 14")],
        ]  # fmt: skip
    arms = "".join(
        _chain([(f"{s}Shoulder", f"{3 * x} 10 0"), (f"{s}Arm", f"{14 * x} 0 0"),
                (f"{s}ForeArm", f"{28 * x} 0 0"), (f"{s}Hand", f"{25 * x} 0 0")])
        for s, x in (("Left", 1), ("Right", -1))
    )  # fmt: skip
    head = _chain([("Neck", "0 15 0"), ("Head", "0 10 0")])
    turns = "CHANNELS 3 Zrotation Xrotation Yrotation"
    spine = f"JOINT Spine {{ OFFSET 0 10 0 {turns}\nJOINT Spine1 {{ OFFSET 0 20 0 {turns}\n"
    tree = "".join(map(_chain, sides)) + spine + arms + head + "}\n}\n"
    count = tree.count("CHANNELS 3") * 3
    rows = [f"{k} 95 0 " + " ".join(["0"] * (count + 3)) for k in range(8)]
    (tmp_path / "walk.bvh").write_text(BVH % (tree, "\n".join(rows)))
    motion = MotionConfig(made_up=0.0, bvh=tmp_path, splice=0.0, warp=0.0)
    actor = set_stage(replace(CONFIG, motion=motion), 0, BODY).actors[0]
    assert "walk" in actor.name
    # In T-pose: the arms are level.
    joints = actor.joints_world[0]
    wrists = joints[list(SMPL_24.indices_of(["left_wrist", "right_wrist"]))]
    spread = (wrists[0] - wrists[1]).abs()
    assert spread[1] < 0.4 < spread[[0, 2]].norm()


def test_who_sits_has_a_seat() -> None:
    config = replace(CONFIG, motion=MotionConfig(made_up=1.0, moves=("sit",)), others=0.0)
    for index in range(4):
        actor = set_stage(config, index, BODY).actors[0]
        seat = actor.seat(BODY)
        assert seat is not None
        assert 0.25 < seat[2] < 0.75
