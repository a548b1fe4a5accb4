"""Commands that take the field's own data: pretrain, refine, import, reproduce."""

import re

import pytest
import torch

from field_files import eft, json_bytes, threedpw, threedpw_bytes, truth
from flowhmr.body import open_body
from flowhmr.data import convert_field, open_field
from flowhmr.experiments import PAPER_RUNS
from flowhmr.networks import read_card
from licensed_files import write_pictures

FEW = ("--config.train.steps", "2", "--config.train.batch", "2", "--config.train.workers", "0")
SIZE_PX = (541, 961)


@pytest.fixture
def labels(tmp_path):
    """EFT's fits of pictures, as labels of the open body; and the folder of the pictures."""
    fits, coco, _ = eft(truth(4, seed=2))
    (tmp_path / "eft.json").write_bytes(json_bytes(fits))
    (tmp_path / "coco.json").write_bytes(json_bytes(coco))
    found = open_field("eft", tmp_path / "eft.json", tmp_path / "coco.json")
    convert_field(found, "eft", open_body(), tmp_path / "eft.npz")
    names = {entry["imageName"] for entry in fits["data"]}
    return tmp_path / "eft.npz", write_pictures(tmp_path / "pictures", names, SIZE_PX)


@pytest.fixture
def video(tmp_path):
    """Frames of 3DPW: its file, and the folder of the pictures."""
    people = [truth(4, seed=3)]
    path = tmp_path / "downtown_00.pkl"
    path.write_bytes(threedpw_bytes(people, name="downtown_00", frames=torch.arange(4).numpy()))
    content = threedpw(people, name="downtown_00")
    names = [f"{content['sequence']}/image_{i:05d}.jpg" for i in range(4)]
    return path, write_pictures(tmp_path / "imageFiles", names, SIZE_PX)


def test_pretrain_on_converted_pictures(flowhmr, network, labels, tmp_path):
    file, pictures = labels
    answer = flowhmr(
        "pretrain", "--run", "run", "--config.start", network, "--config.real.file", file,
        "--config.real.images", pictures, "--config.real.share", "0.5", "--device", "cpu", *FEW,
    )  # fmt: skip
    assert answer.status == 0, answer.err
    assert read_card(tmp_path / "run/network.safetensors")["body_id"] == open_body().body_id


def test_refine_on_footage_and_converted_pictures(flowhmr, network, labels, video, tmp_path):
    file, pictures = labels
    path, images = video
    answer = flowhmr(
        "refine", "--run", "run", "--network", network, "--footage", "3dpw", path, images,
        "--config.real.file", file, "--config.real.images", pictures, "--config.train.pairs", "2",
        "--config.pairs.flow-px", "48", "--config.pairs.gap", "1", "--device", "cpu", *FEW,
    )  # fmt: skip
    assert answer.status == 0, answer.err
    assert (tmp_path / "run/network.safetensors").is_file()


def test_reproduce_lists_every_run_with_its_numbers(flowhmr):
    answer = flowhmr("reproduce", "--list")
    assert answer.status == 0, answer.err
    for name in PAPER_RUNS:
        assert name in answer.out
    assert "smpl" in answer.out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("reproduce",), "got no name; expected some"),
        (("reproduce", "guess"), "got guess; expected some"),
        (("reproduce", "of4hmr-bl-10", "--data", "nowhere"), "got no SMPL file of neutral people"),
        (("import", "x.pt", "y.safetensors", "--smpl", "smpl"), r"x\.pt: .*No such file"),
        (("refine", "--run", "r", "--footage", "guess", "a", "b"), "kind: got 'guess'"),
    ],
)
def test_errors_say_what_to_do(flowhmr, words, complaint):
    answer = flowhmr(*words)
    assert answer.status == 1
    assert re.search(complaint, answer.err), answer.err
