"""What ``flowhmr capture`` gains behind its detector: the runs, on a few short tracks."""

import json
from dataclasses import replace

import pytest
import torch

from flowhmr.body import open_body
from flowhmr.experiments import Lab, perform_all
from flowhmr.experiments.capture import FULL, PLAIN, RUNS, SLIDE, TABLES, ground_of
from flowhmr.experiments.lab import differences, plain
from flowhmr.synth import TrackConfig, synth_track


def test_every_run_is_shown_and_differs_from_the_whole_by_what_its_row_says():
    assert {row.run for table in TABLES.values() for row in table.rows} == set(RUNS)
    apart = {name: set(differences(task, plain(RUNS[FULL]))) for name, task in RUNS.items()}
    assert apart == {
        PLAIN: {"fit.steps", "corrected"},
        "capture-refined-detected": {"corrected"},
        "capture-lifted": {"fit.steps"},
        "capture-no-flow": {"fit.flow"},
        "capture-no-feet": {"fit.feet"},
        FULL: set(),
    }
    assert {task.tracks.motion.split for task in RUNS.values()} == {"test"}


def test_the_ground_turns_as_the_tracks_camera_does():
    """A point of the world far away is seen where the turn says."""
    body, config = open_body(), TrackConfig(seed=3, frames=5)
    for index in range(4):
        track, ground = synth_track(config, index, body), ground_of(config, index, body)
        if bool(ground.steady[:-1].all()):
            break
    else:
        pytest.fail("no track with a camera that stays where it is; take another seed")
    # Where the person stands still in the world, only the camera moves their joints.
    feet = track.stands[:-1] & track.stands[1:]
    assert ground.steady[-1] == 0
    joints_cam = track.joints_m + track.translation_m[:, None]
    turned = torch.einsum("tij,tvj->tvi", ground.turns[:-1], joints_cam[:-1])
    apart_m = (turned - joints_cam[1:])[:, [7, 8, 10, 11]].norm(dim=-1)
    assert bool(feet.any())
    assert float(apart_m[feet].max()) < 0.03


@pytest.mark.slow
def test_the_refinement_is_scored_beside_the_network(tmp_path):
    lab, said = Lab(tmp_path / "runs", tmp_path / "cache", torch.device("cpu")), []
    small = {
        name: replace(RUNS[name], tracks=replace(RUNS[name].tracks, frames=12), drawn=6, kept=2)
        for name in (PLAIN, FULL)
    }
    perform_all(lab, small, [0], small, said.append)
    found = {
        name: json.loads((lab.folder(name, 0) / "scores.json").read_text())["results"]["test"]
        for name in small
    }
    for scores in found.values():
        assert {"pa_mpjpe", "mpjpe", "accel_error", "keypoints_px", SLIDE} == set(scores["metrics"])
        assert len(scores["per_clip"]["pa_mpjpe"]) == 2
    assert found[FULL]["metrics"]["keypoints_px"] < found[PLAIN]["metrics"]["keypoints_px"]
