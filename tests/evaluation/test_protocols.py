"""Named protocols on cases small enough to work out by hand, and what tells them apart."""

import json
import math
from dataclasses import replace

import pytest
import torch

from flowhmr.body import H36M_14, H36M_17, SPIN_H36M_17
from flowhmr.evaluation import (
    FIELD_17,
    PROTOCOLS,
    FrameRule,
    PersonScore,
    Posed,
    ProtocolReport,
    frames_that_count,
    protocol,
    score_person,
)


def still(frames=1):
    """Truth: a person who does not move, no joint on another."""
    places = torch.arange(17.0)[:, None] * torch.tensor([0.1, -0.07, 0.03])
    spread = torch.stack([places[:, 0], places[:, 1] ** 2, torch.cos(places[:, 2] * 40)], -1)
    return spread.expand(frames, 17, 3).clone()


def moved(joints_m, names, by_mm):
    out = joints_m.clone()
    out[:, list(H36M_17.indices_of(names))] += torch.tensor(by_mm) / 1000
    return out


def scored(name, found_m, truth_m=None, verts=(None, None), person="p"):
    truth_m = still(len(found_m)) if truth_m is None else truth_m
    return score_person(
        protocol(name),
        person,
        torch.arange(len(found_m)),
        0,
        lambda rows: Posed(found_m[rows], None if verts[0] is None else verts[0][rows]),
        lambda rows: Posed(truth_m[rows], None if verts[1] is None else verts[1][rows]),
    )


class TestRoot:
    """A root that errs moves all joints; which joints are the root tells protocols apart."""

    def test_a_pelvis_that_errs_by_30_mm(self):
        found = moved(still(), ["pelvis"], [30.0, 0, 0])
        # All 14 joints lie 30 mm off the pelvis, which itself is none of the 14.
        assert float(scored("3dpw-spin", found).mpjpe) == pytest.approx(30, abs=1e-3)
        assert float(scored("h36m-p1", found).mpjpe) == pytest.approx(30, abs=1e-3)
        for name in ("3dpw-vibe", "3dpw-tcmr", "3dpw-wham", "h36m-tcmr"):
            assert float(scored(name, found).mpjpe) == pytest.approx(0, abs=1e-3)
        # Of the 17 it is one, and right about itself: 16 of 17 are 30 mm off.
        assert float(scored("mpii3d", found).mpjpe) == pytest.approx(30 * 16 / 17, abs=1e-3)

    def test_hips_that_err_by_30_mm(self):
        found = moved(still(), ["left_hip", "right_hip"], [0, 30.0, 0])
        assert float(scored("3dpw-spin", found).mpjpe) == pytest.approx(2 * 30 / 14, abs=1e-3)
        assert float(scored("3dpw-vibe", found).mpjpe) == pytest.approx(12 * 30 / 14, abs=1e-3)

    def test_where_there_is_no_root_there_is_no_mpjpe(self):
        for name in ("3dpw-doersch", "h36m-p2"):
            score = scored(name, still())
            assert len(score.mpjpe) == 0
            assert len(score.pa_mpjpe) == 1


def test_a_turned_shifted_scaled_body_has_no_pa_error():
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    found = 1.3 * still() @ turn.T + torch.tensor([1.0, 2, 3])
    assert float(scored("3dpw-vibe", found).pa_mpjpe) == pytest.approx(0, abs=1e-2)
    # A mirrored one has.
    assert float(scored("3dpw-vibe", still() * torch.tensor([-1.0, 1, 1])).pa_mpjpe) > 10


def test_joints_are_human36ms_14_or_17():
    assert {p.joints for p in PROTOCOLS.values() if p.name != "mpii3d"} == {H36M_14}
    assert PROTOCOLS["mpii3d"].joints == FIELD_17
    # H36M_TO_J17 of SPIN's constants, in the order of J_regressor_h36m.npy.
    spin = (6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10, 0, 7, 9)
    assert SPIN_H36M_17.indices_of(FIELD_17.names) == spin
    found = moved(still(), ["jaw"], [17.0, 0, 0])
    assert float(scored("mpii3d", found).mpjpe) == pytest.approx(1, abs=1e-3)
    assert float(scored("3dpw-spin", found).mpjpe) == pytest.approx(0, abs=1e-3)


class TestVertices:
    truth = torch.zeros(1, 4, 3)
    found = truth + torch.tensor([0.0, 0, 0.012])

    def test_as_is_or_about_the_root_or_not_at_all(self):
        joints = still() + torch.tensor([0.0, 0, 0.012])
        verts = (self.found, self.truth)
        for name in ("3dpw-pare", "3dpw-vibe", "3dpw-tcmr"):
            assert float(scored(name, joints, verts=verts).pve) == pytest.approx(12, abs=1e-3)
        for name in ("3dpw-bedlam", "3dpw-wham"):
            assert float(scored(name, joints, verts=verts).pve) == pytest.approx(0, abs=1e-3)
        for name in ("3dpw-spin", "3dpw-doersch", "h36m-p1", "mpii3d"):
            assert len(scored(name, joints, verts=verts).pve) == 0

    def test_the_root_that_meshes_are_about_is_the_protocols(self):
        joints = moved(still(), ["pelvis"], [0, 0, 12.0])
        verts = (self.found, self.truth)
        assert float(scored("3dpw-bedlam", joints, verts=verts).pve) == pytest.approx(0, abs=1e-3)
        assert float(scored("3dpw-wham", joints, verts=verts).pve) == pytest.approx(12, abs=1e-3)

    def test_other_bodies_vertices_are_left_out(self):
        assert len(scored("3dpw-pare", still(), verts=(None, self.truth)).pve) == 0


class TestFrames:
    """40 frames; the set trusts all but the first 4; 7 of 12 keypoints are sure but in frame 10."""

    valid = torch.arange(40) >= 4
    sure = torch.where(torch.arange(12) < 7, 0.31, 0.3).expand(40, 12).clone()
    sure[10, 0] = 0.3

    def counted(self, name, person="downtown_walking_00_0", inside=None):
        rule = protocol(name).frames
        frames = torch.arange(40)
        return frames_that_count(rule, person, frames, self.valid, self.sure, inside)

    def test_each_protocol_counts_its_own(self):
        counts = {name: int(self.counted(name).sum()) for name in PROTOCOLS if "3dpw" in name}
        assert counts == {
            "3dpw-spin": 36,  # trusted
            "3dpw-pare": 36,
            "3dpw-bedlam": 36,
            "3dpw-wham": 36,
            "3dpw-vibe": 32,  # 39 seen, trusted or not, in runs of 16
            "3dpw-tcmr": 35,  # trusted and seen
            "3dpw-doersch": 40,  # seen at all: any confidence above 0
        }

    def test_vibe_drops_the_tail_of_what_is_left(self):
        rows = self.counted("3dpw-vibe").nonzero().flatten().tolist()
        assert rows == [row for row in range(33) if row != 10]

    def test_shorter_than_a_run_counts_not_at_all(self):
        rule = replace(protocol("3dpw-vibe").frames, whole=41)
        counted = frames_that_count(rule, "p", torch.arange(40), None, self.sure, None)
        assert not counted.any()

    def test_human36m(self):
        view = "s_09_act_02_subact_01_ca_0{}"
        for name, person, rows in (
            ("h36m-p1", view.format(1), range(0, 40, 5)),
            ("h36m-p1", view.format(4), range(0, 40, 5)),
            ("h36m-p2", view.format(1), ()),
            ("h36m-p2", view.format(4), range(0, 40, 5)),
            ("h36m-p2", view.format(4).replace("09", "01"), ()),
            ("h36m-tcmr", view.format(1), range(0, 40, 2)),
            ("h36m-tcmr-frontal", view.format(1), ()),
            ("h36m-tcmr-frontal", view.format(4), range(0, 40, 2)),
        ):
            assert self.counted(name, person).nonzero().flatten().tolist() == list(rows)

    def test_mpi_inf_3dhp_asks_for_all_keypoints_in_the_picture(self):
        inside = torch.arange(40) < 30
        rows = self.counted("mpii3d", "TS1/imageSequence", inside).nonzero().flatten()
        assert rows.tolist() == list(range(4, 30))
        assert not self.counted("mpii3d", "S1/Seq1/imageFrames/video_0", inside).any()
        with pytest.raises(ValueError, match="got no 2D places in the picture"):
            self.counted("mpii3d", "TS1/imageSequence")

    def test_keypoints_must_be_there_where_they_are_asked_for(self):
        with pytest.raises(ValueError, match="got no 2D keypoints"):
            frames_that_count(FrameRule(visible=7), "p", torch.arange(3), None, None, None)


class TestAcceleration:
    def report(self, name, *people):
        return ProtocolReport("e", protocol(name), people)

    def test_a_jump_between_sequences_counts_in_one_stream_only(self):
        """Two sequences without any acceleration, the second with an ankle 14 mm off."""
        first, second = still(16), moved(still(16), ["left_ankle"], [14.0, 0, 0])
        for name, expected in (("3dpw-vibe", 2 / 30), ("3dpw-tcmr", 0.0)):
            scores = [scored(name, each) for each in (first, second)]
            # Across the ends the ankle of 14 joints jumps by 14 mm, once there and once back.
            means = self.report(name, *scores).means()
            assert means["accel_error"] == pytest.approx(expected, abs=1e-4)
            assert float(scores[1].accel.max()) == pytest.approx(0, abs=1e-4)

    def test_both_units(self):
        """One joint of 14 swings by 14 mm: 0, 14, 0 mm accelerates by 28 mm/frame^2."""
        found = still(3)
        found[1] = moved(still(), ["left_wrist"], [0, 14.0, 0])[0]
        report = self.report("3dpw-tcmr", scored("3dpw-tcmr", found))
        means = report.means()
        assert means["accel_error"] == pytest.approx(2.0, abs=1e-3)
        assert means["accel_error_ms2"] == pytest.approx(2.0 * 0.9, abs=1e-3)
        assert means["accel"] == pytest.approx(2.0, abs=1e-3)
        # 25 frames a second.
        other = self.report("h36m-tcmr", scored("h36m-tcmr", found)).means()
        assert other["accel_error_ms2"] == pytest.approx(2.0 * 0.625, abs=1e-3)

    def test_a_protocol_without_it_has_it_per_sequence_only(self):
        found = still(3)
        found[1] = moved(still(), ["left_wrist"], [0, 14.0, 0])[0]
        score = scored("3dpw-spin", found)
        report = self.report("3dpw-spin", score)
        assert math.isnan(report.means()["accel_error"])
        assert report.of_person(score)["accel_error"] == pytest.approx(2.0, abs=1e-3)

    def test_too_short_for_one(self):
        report = self.report("3dpw-tcmr", scored("3dpw-tcmr", still(2)))
        assert math.isnan(report.means()["accel_error"])


class TestReport:
    people = tuple(
        PersonScore(name, 1, pa, pa, torch.zeros(0), torch.zeros(n, 14, 3), torch.zeros(n, 14, 3))
        for name, n, pa in (
            ("a", 1, torch.tensor([10.0])),
            ("b", 3, torch.tensor([20.0, 20, 20])),
        )
    )

    def test_averages_over_frames_or_people(self):
        means = {
            name: ProtocolReport("e", protocol(name), self.people).means()["pa_mpjpe"]
            for name in ("3dpw-vibe", "3dpw-doersch")
        }
        assert means == {"3dpw-vibe": 17.5, "3dpw-doersch": 15.0}

    @pytest.mark.parametrize("name", PROTOCOLS)
    def test_every_protocol_says_what_it_does(self, name):
        report = ProtocolReport("ours", protocol(name), self.people)
        text, data = report.to_markdown(), json.loads(report.to_json())
        for what in ("joints", "root", "alignment", "frames", "averaging", "units"):
            assert f"- {what}: {data['rule'][what]}" in text
        assert data["protocol"] == name
        assert data["frames"] == 4
        assert data["missing"] == 2
        assert data["mean"]["pve"] is None
        assert "left out, since there is no estimate: 2 frames" in text

    def test_no_two_say_the_same(self):
        said = [json.dumps(p.said()) for p in PROTOCOLS.values()]
        assert len(set(said)) == len(said)

    def test_it_is_written(self, tmp_path):
        paths = ProtocolReport("e", protocol("3dpw-spin"), self.people).write(tmp_path, "s")
        assert [p.name for p in paths] == ["s.json", "s.md"]


def test_an_unknown_protocol_is_refused():
    with pytest.raises(ValueError, match="got '3dpw'; expected one of 3dpw-spin"):
        protocol("3dpw")
