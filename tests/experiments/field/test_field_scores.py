"""Protocols on data sets of the field's layouts: true meshes, networks, other tools' files."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from field_files import (
    human36m,
    json_bytes,
    npz_bytes,
    spin_arrays,
    threedpw,
    threedpw_bytes,
    truth,
    write_mpii3d_test,
)
from flowhmr.body import H36M_17, BodyIdentityError, BodyParams, load_smpl, open_body
from flowhmr.capture import ResultFileError
from flowhmr.data import FieldError, open_field
from flowhmr.evaluation import protocol
from flowhmr.experiments import NetworkEstimator, ResultFiles, SmplBodies, score_field
from flowhmr.experiments.field.scores import true_bodies
from flowhmr.networks import BackboneConfig, Hmr, HmrConfig, MeanParams
from flowhmr.synth import mean_rotmats
from joblib_files import joblib_bytes
from licensed_files import write_pictures

SEQUENCE, FRAMES = "downtown_walking_00", 20
SIZE_PX = (1081, 1921)


@pytest.fixture(scope="module")
def smpl(smpl_folder):
    return smpl_folder


@pytest.fixture(scope="module")
def people():
    """A man and a woman of 3DPW, all their keypoints sure."""
    out = [truth(FRAMES, seed=3), truth(FRAMES, seed=4)]
    for person in out:
        person.keypoints_px[..., 2] = 0.9
        # One shape a person.
        person.betas[:] = person.betas[0]
        # They stand apart.
    out[1].joints_cam[..., 0] += 1.5
    return out


@pytest.fixture(scope="module")
def found(tmp_path_factory, people):
    path = tmp_path_factory.mktemp("sequences") / f"{SEQUENCE}.pkl"
    path.write_bytes(threedpw_bytes(people))
    return open_field("3dpw", path)


@pytest.fixture(scope="module")
def images(tmp_path_factory, people):
    names = [f"{SEQUENCE}/image_{i:05d}.jpg" for i in threedpw(people)["img_frame_ids"]]
    return write_pictures(tmp_path_factory.mktemp("images"), names[:1], SIZE_PX)


class Told:
    """Says what it was told of each person, on neutral SMPL."""

    name = "told"

    def __init__(self, body, change=lambda params: params):
        self.body, self.change = body, change

    def __call__(self, people, wanted):
        every = [self.body.params(p.rotmats, p.betas) for p in people]
        return [(self.change(p), torch.ones(len(p.betas), dtype=torch.bool)) for p in every]


def test_the_truths_own_numbers_score_zero_where_the_truth_is_neutral(smpl, found):
    bodies = SmplBodies(smpl)
    told = Told(bodies("neutral"))
    for name in ("3dpw-vibe", "3dpw-tcmr"):
        means = score_field(protocol(name), found, told, bodies).means()
        for metric in ("mpjpe", "pa_mpjpe", "pve", "accel_error"):
            assert means[metric] == pytest.approx(0, abs=2e-2), (name, metric)
    # Not where it is a man and a woman: neutral people of the same betas are of other shapes.
    for name in ("3dpw-spin", "3dpw-pare", "3dpw-wham"):
        report = score_field(protocol(name), found, told, bodies)
        assert report.means()["mpjpe"] > 1, name
    assert report.means()["pve"] > 1


def test_frames_as_each_protocol_counts_them(smpl, found):
    bodies = SmplBodies(smpl)
    told = Told(bodies("neutral"))
    counts = {}
    for name in ("3dpw-spin", "3dpw-vibe", "3dpw-tcmr", "3dpw-doersch"):
        report = score_field(protocol(name), found, told, bodies)
        counts[name] = [len(p.pa_mpjpe) for p in report.people]
    # The set does not trust frame 1.
    assert counts == {
        "3dpw-spin": [19, 19],
        "3dpw-vibe": [16, 16],
        "3dpw-tcmr": [19, 19],
        "3dpw-doersch": [20, 20],
    }


def test_raw_vertices_are_smpls_own(smpl, found):
    """Without translation, about SMPL's own origin."""
    bodies = SmplBodies(smpl)
    body = bodies("neutral")
    other = Told(body, lambda p: BodyParams(p.rotmats, p.betas + 0.5, p.body_id))
    report = score_field(protocol("3dpw-vibe"), found, other, bodies)
    frames = found.read(np.arange(1))
    ours = body.mesh(body.params(frames.rotmats, frames.betas + 0.5)).verts
    theirs = body.mesh(body.params(frames.rotmats, frames.betas)).verts
    expected = float((ours - theirs).norm(dim=-1).mean() * 1000)
    assert float(report.people[0].pve[0]) == pytest.approx(expected, rel=1e-4)


class TestResultFiles:
    def vibe(self, people, body, drop=()):
        """VIBE's file of the same people, in the other order, seen by the crop's camera."""
        out = {}
        frames = threedpw(people)["img_frame_ids"]
        for number, person in enumerate(reversed(people)):
            points = person.joints_px
            low, high = points.min(1), points.max(1)
            centre, side = (low + high) / 2, 1.1 * (high - low).max(-1)
            params = body.params(
                torch.from_numpy(person.rotmats).float(), torch.from_numpy(person.betas).float()
            )
            at = body.joints(params)[:, 0].double().numpy()
            depth = person.joints_cam[:, 0, 2]
            focal, middle = person.intrinsics[0, 0], person.intrinsics[:2, 2]
            scale = 2 * focal / (side * depth)
            seen = 2 * (focal * person.joints_cam[:, 0, :2] / depth[:, None] + middle - centre)
            shift = seen / side[:, None] / scale[:, None] - at[:, :2]
            kept = [i for i in range(len(frames)) if i not in drop]
            entry = {
                "pred_cam": np.concatenate([scale[:, None], shift], -1),
                "pose": person.rotvecs.reshape(-1, 72),
                "betas": person.betas,
                "bboxes": np.concatenate([centre, side[:, None], side[:, None]], -1),
                "frame_ids": np.array(frames),
            }
            entry = {key: value[kept].astype(np.float32) for key, value in entry.items()}
            entry["frame_ids"] = entry["frame_ids"].astype(np.int64)
            out[5 - number] = entry | {"orig_cam": None, "verts": None, "joints2d": None}
        return joblib_bytes(out)

    @pytest.mark.parametrize(
        "place", ["vibe_output.pkl", f"of_{SEQUENCE}.pkl", f"{SEQUENCE}/vibe_output.pkl"]
    )
    def test_people_are_found_by_their_boxes(self, smpl, found, images, people, tmp_path, place):
        bodies = SmplBodies(smpl)
        path = tmp_path / place
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(self.vibe(people, bodies("neutral")))
        given = path if place == "vibe_output.pkl" else tmp_path
        tool = ResultFiles(given, bodies("neutral"), images)
        report = score_field(protocol("3dpw-tcmr"), found, tool, bodies, images)
        assert report.means()["pa_mpjpe"] == pytest.approx(0, abs=2e-2)
        assert report.means()["pve"] == pytest.approx(0, abs=2e-2)
        assert [p.missing for p in report.people] == [0, 0]

    def test_frames_without_a_result_are_told(self, smpl, found, images, people, tmp_path):
        bodies = SmplBodies(smpl)
        path = tmp_path / "vibe_output.pkl"
        path.write_bytes(self.vibe(people, bodies("neutral"), drop=(1, 4, 5)))
        tool = ResultFiles(path, bodies("neutral"), images)
        report = score_field(protocol("3dpw-spin"), found, tool, bodies, images)
        # Frame 1 does not count.
        assert [(len(p.pa_mpjpe), p.missing) for p in report.people] == [(17, 2), (17, 2)]
        assert "there is no estimate: 4 frames" in report.to_markdown()

    def test_a_video_without_a_file_is_refused(self, smpl, found, images, tmp_path):
        tool = ResultFiles(tmp_path, SmplBodies(smpl)("neutral"), images)
        with pytest.raises(ResultFileError, match=f"got .* for video {SEQUENCE}; expected one"):
            score_field(protocol("3dpw-spin"), found, tool, SmplBodies(smpl), images)

    def test_nothing_in_a_file_runs(self, smpl, found, images, tmp_path):
        path = tmp_path / "vibe_output.pkl"
        path.write_bytes(pickle.dumps(print))
        tool = ResultFiles(path, SmplBodies(smpl)("neutral"), images)
        with pytest.raises(ValueError, match=r"builtins\.print"):
            score_field(protocol("3dpw-spin"), found, tool, SmplBodies(smpl), images)


def test_human36m_is_scored_against_captured_joints(tmp_path, smpl):
    """The truth's joints are what the cameras saw, whatever NeuralAnnot's bodies say."""
    t = truth(4, seed=6)
    for name, content in human36m(t).items():
        if name == "camera":
            content["4"] = content.pop("3")
        (tmp_path / f"Human36M_subject9_{name}.json").write_bytes(json_bytes(content))
    found = open_field("h36m", tmp_path)
    body = load_smpl(smpl)
    told = Told(body)
    (score,) = score_field(protocol("h36m-p2"), found, told).people
    assert score.name.endswith("ca_04")
    assert [len(p.pa_mpjpe) for p in score_field(protocol("h36m-p1"), found, told).people] == [4, 4]
    captured = torch.from_numpy(t.joints_cam[:, :17]).float()
    hips = captured[:, list(H36M_17.indices_of(["left_hip", "right_hip"]))].mean(1, keepdim=True)
    ankle = H36M_17.index("right_ankle")
    expected = (captured - hips)[:, ankle] * 1000
    torch.testing.assert_close(score.target_mm[:, 0], expected, atol=1e-2, rtol=0)


def test_mpi_inf_3dhp_compares_its_head_with_the_jaw(tmp_path, smpl):
    t = truth(5, seed=7)
    t.keypoints_px[..., :2] = np.clip(t.keypoints_px[..., :2], 200, 800)
    t.keypoints_px[4, 2, 0] = 2500  # out of the picture
    write_mpii3d_test(tmp_path / "TS1" / "annot_data.mat", t)
    images = write_pictures(
        tmp_path / "pictures", ["TS1/imageSequence/img_000001.jpg"], (2048, 2048)
    )
    found = open_field("mpii3d", tmp_path)
    body = load_smpl(smpl)

    class Still:
        name = "still"

        def __call__(self, people, wanted):
            (person,) = people
            return [(body.rest_params(len(person)), torch.ones(len(person), dtype=torch.bool))]

    Still.body = body
    (score,) = score_field(protocol("mpii3d"), found, Still(), None, images).people
    # Frame 1 is not valid, frame 4 not in the picture.
    assert len(score.mpjpe) == 3
    # MPI-INF-3DHP's joints 0, 16, 14: head top, head, pelvis.
    joints_mm = 1000 * torch.from_numpy(t.joints_cam[[0, 2, 3]]).float()
    rooted = joints_mm - joints_mm[:, 14:15]
    torch.testing.assert_close(score.target_mm[:, 13], rooted[:, 0], atol=1e-2, rtol=0)
    torch.testing.assert_close(score.target_mm[:, 16], rooted[:, 16], atol=1e-2, rtol=0)
    mesh = body.mesh(body.rest_params(1))
    points = 1000 * body.keypoints(mesh, H36M_17)[0]
    about = points - points[H36M_17.index("pelvis")]
    torch.testing.assert_close(
        score.found_mm[0, 13], about[H36M_17.index("head_h36m")], atol=1e-2, rtol=0
    )
    torch.testing.assert_close(
        score.found_mm[0, 16], about[H36M_17.index("jaw")], atol=1e-2, rtol=0
    )


def test_a_network_is_shown_the_sets_crops(found, smpl, people, tmp_path):
    """The open body's network, scored against SMPL's joints: no vertices are compared."""
    body = open_body()
    torch.manual_seed(0)
    config = HmrConfig(BackboneConfig("mobilenetv3_small_050", size_px=32), hidden=8)
    network = Hmr(config, MeanParams(mean_rotmats(), torch.zeros(10), body.body_id)).eval()
    names = [f"{SEQUENCE}/image_{i:05d}.jpg" for i in threedpw(people)["img_frame_ids"]]
    write_pictures(tmp_path, [n for i, n in enumerate(names) if i != 1], SIZE_PX)
    ours = NetworkEstimator("ours", network, body, tmp_path, torch.device("cpu"))
    # Frame 1 does not count, and its picture is not there: single images are not looked at then.
    report = score_field(protocol("3dpw-pare"), found, ours, SmplBodies(smpl))
    assert report.means()["mpjpe"] > 50
    assert np.isnan(report.means()["pve"])
    with pytest.raises(FieldError, match="got no picture"):
        score_field(protocol("3dpw-doersch"), found, ours, SmplBodies(smpl))
    other = NetworkEstimator("ours", network, load_smpl(smpl), tmp_path, torch.device("cpu"))
    with pytest.raises(BodyIdentityError, match="network"):
        score_field(protocol("3dpw-pare"), found, other, SmplBodies(smpl))


def test_stills_are_no_videos(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(npz_bytes(spin_arrays(truth(3))))
    with pytest.raises(FieldError, match="rows that do not say who is seen"):
        score_field(protocol("h36m-p1"), open_field("spin", path), Told(open_body()))


def test_smplx_betas_are_not_posed_on_smpl(found, smpl):
    person = replace(found.read(np.arange(4)), model="smplx")
    with pytest.raises(FieldError, match="got betas of smplx; expected SMPL's"):
        true_bodies(protocol("3dpw-vibe"), person, torch.arange(2), SmplBodies(smpl))
