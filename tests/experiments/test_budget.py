"""A video model on the budget of a refinement: what it learns from, and that it can be run."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from flowhmr.body import COCO_17, SMPL_24
from flowhmr.experiments import FilterTemporal, Lab, Task
from flowhmr.experiments.budget import RUNS, SHARED, TrainUnlabelled
from flowhmr.experiments.detected import DetectorNoise, with_detections
from flowhmr.experiments.lab import NETWORK, SCORES
from flowhmr.experiments.temporal import prepare_temporal
from flowhmr.geometry import map_tensors
from flowhmr.networks import BASELINE, BodyHead, VibeConfig, load_hmr
from flowhmr.synth import ClipStore, split_spec
from flowhmr.training import TemporalLoopConfig, light_temporal

LOOP = TemporalLoopConfig(steps=2, batch=2, workers=0, checkpoint_every=1, log_every=1)


@pytest.fixture
def task() -> TrainUnlabelled:
    config = light_temporal(VibeConfig(hidden=8))
    video = replace(config.video, splits=("studio",), count=1)
    return TrainUnlabelled("bl-10", replace(config, video=video, train=LOOP))


def test_the_truth_of_the_video_is_not_looked_at(lab, task):
    store = prepare_temporal(task.config, lab)
    head = BodyHead(load_hmr(BASELINE)).eval()
    found = task._labelled(store, 0, head, lab.body)
    true = store.sequences[0].labels
    assert true is not None
    store.sequences[0] = replace(store.sequences[0], labels=map_tensors(true, torch.zeros_like))
    again = task._labelled(store, 0, head, lab.body)
    assert found.labels is not None
    assert again.labels is not None
    assert torch.equal(again.labels.params.rotmats, found.labels.params.rotmats)
    assert torch.equal(again.labels.joints_m, found.labels.joints_m)
    assert torch.equal(again.labels.keypoints_px, found.labels.keypoints_px)
    # Of the person in the picture nevertheless, if roughly.
    apart_px = (found.labels.keypoints_px - true.keypoints_px).norm(dim=-1)
    assert apart_px.median() < 0.2 * store.sequences[0].boxes_px[:, 2:].max()
    betas = found.labels.params.betas
    assert_close(betas, betas[:1].expand_as(betas))
    assert not torch.equal(betas, true.params.betas)


def test_with_a_detector_its_joints_are_learnt_and_no_others(lab, task):
    store = prepare_temporal(task.config, lab)
    head, noise = BodyHead(load_hmr(BASELINE)).eval(), DetectorNoise()
    found = replace(task, detector=noise)._labelled(store, 0, head, lab.body).labels
    detected = with_detections(store.sequences[:1], lab.body, noise)[0].detected_px
    assert found is not None
    assert detected is not None
    assert len(SHARED) == 12
    for k, name in enumerate(SMPL_24.names):
        if name in SHARED:
            there = detected[:, COCO_17.index(name)]
            assert_close(found.keypoints_px[:, k], there[:, :2])
            assert_close(found.keypoint_confidence[:, k], there[:, 2])
        else:
            assert not found.keypoint_confidence[:, k].any()


def test_what_a_share_of_the_labels_gives_is_not_mixed():
    for name, task in RUNS.items():
        percent = name.rsplit("-", 1)[1]
        assert [need.rsplit("-", 1)[1] for need in task.needs] == [percent]
        if isinstance(task, TrainUnlabelled):
            assert not {"val", "test"} & set(task.config.video.splits)
            assert task.config.start == "", "the experiment's own"


@pytest.mark.slow
def test_a_run_from_a_single_frame_network_to_scores(lab, task, monkeypatch):
    first = lab.folder("bl-10", 0)
    first.mkdir(parents=True)
    shutil.copy(BASELINE, first / NETWORK)
    (first / SCORES).write_text(json.dumps({"task": {}, "seed": 0, "results": {}}))
    runs: dict[str, Task] = {"video-10": task, "bl-filter-10": FilterTemporal("bl-10")}
    few = Lab.video
    monkeypatch.setattr(Lab, "video", lambda self, split: few(self, split)[:1])
    monkeypatch.setattr(
        Lab,
        "store",
        lambda self, split: ClipStore(split_spec(split), self.cache, count=1, workers=1),
    )
    for name, one in runs.items():
        folder = lab.folder(name, 0)
        folder.mkdir(parents=True)
        found = one.run(lab, folder, 0)["test"]["metrics"]
        assert 20 < found["pa_mpjpe"] < 500
        assert (folder / NETWORK).exists() == isinstance(one, TrainUnlabelled)
