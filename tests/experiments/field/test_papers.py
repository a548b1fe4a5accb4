"""The papers' runs on their own data sets: every config is built, and trains on files so laid out.

Networks, crops and runs are small ones; data sets are a few grey pictures.
"""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from field_files import eft, human36m, json_bytes, mat_bytes, penn, threedpw, threedpw_bytes, truth
from flowhmr.body import COCO_17, SMPL_24, load_smpl
from flowhmr.data import (
    FieldError,
    FrameStore,
    MotionSetConfig,
    field_videos,
    open_field,
    read_picture,
    write_video,
)
from flowhmr.evaluation import protocol
from flowhmr.experiments import (
    PAPER_RUNS,
    PLACES,
    Bench,
    Place,
    PretrainOn,
    RefineOn,
    TrainMotionOn,
    TrainOver,
    beside_the_paper,
    perform_paper,
)
from flowhmr.networks import (
    BackboneConfig,
    Hmr,
    HmrConfig,
    HpofConfig,
    MeanParams,
    MotionHmrConfig,
    TcmrConfig,
    read_card,
    save_network,
)
from flowhmr.synth import mean_rotmats
from flowhmr.training import RealStills, pretrain
from licensed_files import write_pictures
from more_field_files import posetrack, surreal

SIZE_PX = (541, 961)
"""Half of what the cameras' centres say: people are in it in part."""
FRAMES = 5
TINY = HmrConfig(BackboneConfig("mobilenetv3_small_050", size_px=32), hidden=8)
RUN = {"steps": 2, "batch": 2, "workers": 0, "precision": "float32", "checkpoint_every": 2}
RUN |= {"log_every": 1}
REPRESENTATIVES = (
    "of4hmr-bl-10",
    "of4hmr-of-10",
    "of4hmr-tp-of-10",
    "of4hmr-2d-of-10",
    "of4hmr-context-2-10",
    "of4hmr-of-3dpw-penn-100",
    "motion-flow-keypoints",
    "motion-rgb",
    "tcmr",
    "hpof",
)
"""One of each kind; the others differ from them in numbers."""


def write_3dpw(root, split, seed, count):
    person = truth(count, seed=seed)
    person.keypoints_px[..., 2] = 0.9
    person.betas[:] = 0
    content = threedpw([person], name=f"{split}_00")
    # Consecutive pictures.
    numbers = np.arange(count)
    path = root / "3dpw" / "sequenceFiles" / split / f"{split}_00.pkl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(threedpw_bytes([person], name=f"{split}_00", frames=numbers))
    names = [f"{content['sequence']}/image_{i:05d}.jpg" for i in numbers]
    write_pictures(root / "3dpw" / "imageFiles", names, SIZE_PX)


def write_coco(root):
    t = truth(6, seed=11)
    fits, annotations, _ = eft(t)
    (root / "coco" / "annotations").mkdir(parents=True)
    (root / "coco" / "COCO2014-All-ver01.json").write_bytes(json_bytes(fits))
    (root / "coco/annotations/person_keypoints_train2014.json").write_bytes(json_bytes(annotations))
    write_pictures(root / "coco/train2014", {e["imageName"] for e in fits["data"]}, SIZE_PX)


def write_human36m(root):
    """Subject 1 before one camera, every frame at 25 a second."""
    t = truth(FRAMES, seed=12)
    folder = root / "h36m" / "train"
    folder.mkdir(parents=True)
    for name, content in human36m(t).items():
        if name == "camera":
            del content["3"]
        else:
            frames = content["2"]["1"]
            # By the fives that they are written in; one has no body there.
            content["2"]["1"] = {str(2 * (int(k) // 5 - 1)): v for k, v in frames.items()}
        (folder / f"Human36M_subject1_{name}.json").write_bytes(json_bytes(content))
    name = "s_01_act_02_subact_01_ca_01"
    names = [f"{name}/{name}_{2 * i + 1:06d}.jpg" for i in range(FRAMES)]
    write_pictures(root / "h36m" / "images", names, SIZE_PX)


def write_penn(root):
    (root / "penn" / "labels").mkdir(parents=True)
    (root / "penn/labels/0001.mat").write_bytes(mat_bytes(penn(truth(FRAMES, seed=13))))
    names = [f"0001/{i + 1:06d}.jpg" for i in range(FRAMES)]
    write_pictures(root / "penn" / "frames", names, SIZE_PX)


def write_posetrack(root):
    folder = root / "posetrack" / "annotations" / "train"
    folder.mkdir(parents=True)
    content = posetrack([truth(FRAMES, seed=19)])
    (folder / "000001_bonn_train.json").write_bytes(json_bytes(content))
    write_pictures(root / "posetrack", [i["file_name"] for i in content["images"]], SIZE_PX)


def write_surreal(root):
    """A clip whose body fills a box."""
    folder = root / "surreal" / "train" / "run0"
    folder.mkdir(parents=True)
    mask = np.zeros((240, 320), np.uint8)
    mask[60:180, 120:200] = 1
    numbers = range(1, FRAMES + 1)
    maps = {
        "info": surreal(truth(FRAMES, seed=16)),
        "segm": {f"segm_{n}": mask for n in numbers},
        "depth": {f"depth_{n}": np.where(mask > 0, 6.0, 1e10) for n in numbers},
    }
    for name, content in maps.items():
        (folder / f"a_{name}.mat").write_bytes(mat_bytes(content))
    write_video(folder / "a.mp4", [np.repeat(200 * mask[..., None], 3, -1)] * FRAMES, 30.0)


def write_kinetics(root):
    (root / "kinetics" / "train").mkdir(parents=True)
    grey = [np.full((120, 160, 3), 60 + 10 * i, np.uint8) for i in range(FRAMES)]
    write_video(root / "kinetics/train/walking.mp4", grey, 30.0)


def tiny_network(body):
    torch.manual_seed(0)
    return Hmr(TINY, MeanParams(mean_rotmats(), torch.zeros(10), body.body_id))


@pytest.fixture(scope="module")
def root(tmp_path_factory, smpl_folder):
    """All data sets below one folder."""
    root = tmp_path_factory.mktemp("data")
    (root / "smpl").symlink_to(smpl_folder)
    write_3dpw(root, "train", 14, 18)
    write_3dpw(root, "test", 15, 17)
    write_coco(root)
    write_human36m(root)
    write_penn(root)
    write_posetrack(root)
    write_surreal(root)
    write_kinetics(root)
    (root / "networks").mkdir()
    network = tiny_network(load_smpl(smpl_folder))
    save_network(root / "networks" / "spin.safetensors", network, {})
    return root


@pytest.fixture(scope="module")
def bench(root, tmp_path_factory):
    tmp = tmp_path_factory.mktemp("bench")
    cpu = torch.device("cpu")
    # No detector finds people in grey pictures.
    return Bench(root, tmp / "runs", tmp / "cache", cpu, keypoints="set")


def small(run):
    """The run with a small network on small crops, two steps, and what 3DPW says of it."""
    expected = tuple(e for e in run.expected if e.protocol.startswith("3dpw"))
    if isinstance(run, PretrainOn):
        config = replace(run.config, network=TINY, train=replace(run.config.train, **RUN))
        return replace(run, config=config, expected=expected)
    if isinstance(run, RefineOn):
        train = replace(run.config.train, **RUN, pairs=2)
        pairs = replace(run.config.pairs, flow_px=48)
        config = replace(run.config, train=train, pairs=pairs, flow="dis")
        return replace(run, config=config, expected=expected)
    if isinstance(run, TrainMotionOn):
        network = replace(run.config.network, hmr=TINY, lstm=8, head=8)
        config = replace(
            run.config,
            network=network,
            inputs=replace(run.config.inputs, frames=4),
            flow_px=48,
            train=replace(run.config.train, **RUN),
        )
        return replace(run, config=config, expected=expected)
    assert isinstance(run, TrainOver)
    shape = run.config.network
    if isinstance(shape, TcmrConfig):
        shape = replace(shape, hidden=8)
    if isinstance(shape, HpofConfig):
        shape = replace(shape, blocks=1, width=8, frames=3)
    train = replace(
        run.config.train, **RUN, discriminator=replace(run.config.train.discriminator, hidden=8)
    )
    config = replace(run.config, network=shape, flow_px=48, raster_px=32, train=train)
    return replace(run, config=config, expected=expected)


FAST = REPRESENTATIVES[:2]


@pytest.mark.parametrize(
    "name",
    [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in REPRESENTATIVES],
)
def test_it_trains_and_is_scored_beside_the_paper(bench, name):
    run = small(PAPER_RUNS[name])
    for before in run.after:
        (bench.runs / before).mkdir(parents=True, exist_ok=True)
        network = tiny_network(bench.body)
        save_network(bench.runs / before / "network.safetensors", network, {})
    reports = perform_paper(name, run, bench)
    table = beside_the_paper(run, reports)
    card = read_card(bench.runs / name / "network.safetensors")
    assert card["body_id"] == bench.body.body_id
    for report, by in zip(reports, dict.fromkeys(e.protocol for e in run.expected)):
        assert report.rule.name == by
        assert (bench.runs / name / f"scores-{by}.json").is_file()
    for each in run.expected:
        (report,) = [r for r in reports if r.rule.name == each.protocol]
        assert math.isfinite(report.means()[each.metric])
        assert f"| {each.protocol} | {each.metric} | {each.value:.1f} |" in table
    # What is done is not done again.
    before = (bench.runs / name / "network.safetensors").stat().st_mtime_ns
    perform_paper(name, replace(run, note="said otherwise"), bench)
    assert (bench.runs / name / "network.safetensors").stat().st_mtime_ns == before
    # Nor is it taken for a run of other settings.
    longer = replace(run.config.train, steps=1000)
    with pytest.raises(ValueError, match=r"begun with other config\.train\.steps; expected"):
        perform_paper(name, replace(run, config=replace(run.config, train=longer)), bench)


@pytest.mark.parametrize("name", PAPER_RUNS)
def test_every_run_can_be_built(name):
    run = PAPER_RUNS[name]
    assert run.expected
    for each in run.expected:
        assert protocol(each.protocol).name == each.protocol
        assert each.value > 0
    assert set(run.needs) <= set(PLACES)
    assert set(run.after) <= set(PAPER_RUNS)
    assert run.note
    # Those that are trained in the test above are of the same kind.
    assert type(run) in {type(PAPER_RUNS[other]) for other in REPRESENTATIVES}
    small(run)


def test_what_comes_before_is_asked_for(bench, tmp_path):
    alone = replace(bench, runs=tmp_path)
    with pytest.raises(ValueError, match="got no network of of4hmr-bl-10"):
        perform_paper("of4hmr-of-10", small(PAPER_RUNS["of4hmr-of-10"]), alone)


def test_a_data_set_that_is_not_there_is_named(bench, tmp_path):
    places = {**bench.places, "coco-eft": Place("eft", "nowhere.json", "nowhere")}
    alone = replace(bench, runs=tmp_path, cache=tmp_path, places=places)
    with pytest.raises(ValueError, match=r"nowhere\.json"):
        perform_paper("of4hmr-bl-10", small(PAPER_RUNS["of4hmr-bl-10"]), alone)


class TestRealStills:
    def test_shares_are_parts_of_each_other(self, bench):
        labels = bench.labels("coco-eft", bench.body)
        train = PAPER_RUNS["of4hmr-bl-10"].config.train
        augment = PAPER_RUNS["of4hmr-bl-10"].config.augment
        drawn = [
            set(replace(labels, share=s).batches(bench.body, 32, 2, augment, train).indices)
            for s in (0.2, 0.5, 1.0)
        ]
        assert [len(d) for d in drawn] == [1, 3, 6]
        assert drawn[0] < drawn[1] < drawn[2]

    def test_other_annotations_are_converted_anew(self, bench, root, tmp_path):
        """A cache serves several folders of data, and files that are replaced."""
        path = root / PLACES["coco-eft"].path
        fits = json.loads(path.read_text())
        fewer = tmp_path / "fewer.json"
        fewer.write_text(json.dumps(fits | {"data": fits["data"][:2]}))
        before = bench.labels("coco-eft", bench.body)
        assert bench.labels("coco-eft", bench.body) == before
        places = {**bench.places, "coco-eft": replace(PLACES["coco-eft"], path=str(fewer))}
        other = replace(bench, places=places).labels("coco-eft", bench.body)
        assert len(FrameStore(Path(other.file), tmp_path, bench.body)) == 2
        assert len(FrameStore(Path(before.file), tmp_path, bench.body)) == 6

    def test_a_share_of_nothing_is_refused(self):
        with pytest.raises(ValueError, match="share: got 0"):
            RealStills("a.npz", share=0.0)

    def test_synthetic_stills_are_of_the_open_body(self, bench, tmp_path):
        config = small(PAPER_RUNS["of4hmr-bl-10"]).config
        with pytest.raises(ValueError, match="synthetic stills"):
            pretrain(config, tmp_path, bench.cache, bench.device, body=bench.body)


class TestFieldVideos:
    def test_video_ends_where_a_frame_misses_or_is_not_trusted(self, root):
        place = PLACES["3dpw-train"]
        videos = field_videos(place.open(root), root / place.images, 30.0)
        # The set does not trust frame 1.
        assert [(v.name, len(v)) for v in videos] == [("train_00_0_2", 16)]
        assert videos[0].labels is None
        assert videos[0].images[0].shape == (961, 541, 3)
        assert len(videos[0].images[2:5]) == 3
        with pytest.raises(IndexError):
            videos[0].images[16]

    def test_a_step_is_a_frame(self, root):
        found = open_field("h36m", root / "h36m/train")
        (video,) = field_videos(found, root / "h36m/images", 25.0, step=2)
        assert len(video) == FRAMES
        torch.testing.assert_close(video.times_s, torch.arange(FRAMES) * 2 / 25.0)

    def test_boxes_are_enough(self, root):
        """Penn Action has no bodies, and not a keypoint in every row."""
        (video,) = field_videos(
            open_field("penn", root / "penn/labels"), root / "penn/frames", 30.0
        )
        assert len(video) == FRAMES
        assert video.detected_px is not None

    def test_sets_of_keypoints_alone(self, root, bench):
        """Labels of limbs, of frames with six keypoints at least; no body."""
        videos = bench.videos(("penn", "posetrack"), bench.body, bodies=False)
        assert len(videos) == 2
        for video in videos:
            assert not video.labels.has_body.any()
            assert bool(((video.detected_px[..., 2] > 0).sum(-1) >= 6).all())
            knee = video.labels.keypoints_px[:, SMPL_24.index("left_knee")]
            seen = video.detected_px[:, COCO_17.index("left_knee")]
            torch.testing.assert_close(knee, seen[:, :2])
            assert float(video.labels.keypoint_confidence[:, SMPL_24.index("pelvis")].sum()) == 0

    def test_a_picture_may_be_a_frame_of_a_video(self, tmp_path):
        grey = [np.full((32, 48, 3), value, np.uint8) for value in (40, 120, 200)]
        write_video(tmp_path / "a.mp4", grey, 25.0)
        for number, image in enumerate(grey):
            found = read_picture(tmp_path, "a.mp4", "row 0", number)
            assert found.shape == image.shape
            assert abs(float(found.mean()) - float(image.mean())) < 8
        with pytest.raises(FieldError, match="got no frame 3 of 3"):
            read_picture(tmp_path, "a.mp4", "row 0", 3)

    def test_labels_are_the_bodys(self, root, bench):
        place = PLACES["3dpw-train"]
        (video,) = field_videos(place.open(root), root / place.images, 30.0, bench.body)
        assert video.labels is not None
        assert video.labels.params.body_id == bench.body.body_id
        assert len(video.labels.joints_m) == 16


def test_motion_hmr_is_trained_at_the_papers_length():
    for name, frames in (("flow-keypoints", 31), ("rgb", 31), ("length-8", 8), ("length-56", 56)):
        config = PAPER_RUNS[f"motion-{name}"].config
        assert config.inputs.frames == frames
        assert config.video == MotionSetConfig(frames=frames)
        assert config.network.hmr == MotionHmrConfig().hmr


def test_motion_hmrs_people_lose_one_thing_after_the_other():
    """Table 2."""
    left = {}
    for name in ("flow-keypoints", "no-occlusions", "untracked", "static"):
        run = PAPER_RUNS[f"motion-{name}"]
        made = run.composite
        left[name] = (run.config.inputs.lost > 0, made.occluded, made.tracked, made.moving)
        assert run.needs == ("surreal", "kinetics")
    assert left == {
        "flow-keypoints": (True, True, True, True),
        "no-occlusions": (False, False, True, True),
        "untracked": (False, False, False, True),
        "static": (False, False, False, False),
    }


def test_of4hmr_is_refined_as_its_paper_says():
    config = PAPER_RUNS["of4hmr-of-100"].config
    assert config.pairs.gap == 1
    assert config.flow == "raft"
    assert config.train.steps == 150_000
    assert config.train.optimiser.learning_rate == 5e-5
    assert config.train.batch == 64
    assert config.train.flow_loss.scaled
    assert not config.train.by_surface
    for varied in (config.augment, PAPER_RUNS["of4hmr-bl-100"].config.augment):
        assert (varied.scale, varied.rotate, varied.rotate_deg) == (0.25, 0.4, 30)
        assert (varied.flip, varied.colour) == (0.5, 0.4)
        assert {varied.occluder, varied.close, varied.shift, varied.degrade} == {0}
    assert PAPER_RUNS["of4hmr-of-10"].share == 0.1
    # Each loss by itself, and together.
    for name, weighed in (
        ("of", (True, False, False)),
        ("tp", (False, True, False)),
        ("tp-of", (True, True, False)),
        ("2d", (False, False, True)),
        ("2d-of", (True, False, True)),
    ):
        train = PAPER_RUNS[f"of4hmr-{name}-20"].config.train
        weights = (train.flow.flow, train.texture.texture, train.keypoints.keypoints2d)
        assert tuple(w > 0 for w in weights) == weighed, name
        # Of the labelled loss in the unit of the experiments in which the weights were found.
        assert train.supervised_scale * train.supervised.overall == pytest.approx(1)


class TestKeypointsOfRuns:
    RUN = "of4hmr-2d-10"

    def begun(self, bench, tmp_path, **changed):
        """A bench on which the baseline is done."""
        own = replace(bench, runs=tmp_path, **changed)
        (tmp_path / "of4hmr-bl-10").mkdir()
        save_network(tmp_path / "of4hmr-bl-10/network.safetensors", tiny_network(bench.body), {})
        return own

    def test_a_run_goes_on_with_the_keypoints_that_it_began_with(self, bench, tmp_path):
        own = self.begun(bench, tmp_path)
        run = small(PAPER_RUNS[self.RUN])
        (tmp_path / self.RUN).mkdir()
        (tmp_path / self.RUN / "keypoints.txt").write_text("files\n")
        with pytest.raises(ValueError, match="got keypoints 'set' for a run that began with 'file"):
            perform_paper(self.RUN, run, own)

    def test_files_are_looked_for_beside_the_pictures(self, bench, tmp_path):
        own = self.begun(bench, tmp_path, keypoints="files")
        with pytest.raises(FieldError, match=r"h36m/keypoints: got \[\] for video s_01_act_02_sub"):
            perform_paper(self.RUN, small(PAPER_RUNS[self.RUN]), own)

    def test_an_unknown_source_is_refused(self, bench):
        with pytest.raises(ValueError, match="keypoints: got 'guess'; expected keypoint-rcnn"):
            replace(bench, keypoints="guess")
