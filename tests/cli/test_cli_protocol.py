"""``flowhmr evaluate --protocol``."""

import json
import re

import pytest

from field_files import threedpw, threedpw_bytes, truth
from licensed_files import write_pictures

NAME = "downtown_walking_00"


@pytest.fixture
def sequence(tmp_path):
    """Four frames of 3DPW, with pictures."""
    person = truth(4, seed=1)
    person.keypoints_px[..., 2] = 0.9
    path = tmp_path / "test" / f"{NAME}.pkl"
    path.parent.mkdir()
    path.write_bytes(threedpw_bytes([person]))
    names = [f"{NAME}/image_{i:05d}.jpg" for i in threedpw([person])["img_frame_ids"]]
    write_pictures(tmp_path / "imageFiles", names, (1081, 1921))
    return path.parent


def test_a_network_by_a_protocol(flowhmr, network, sequence, smpl_folder, tmp_path):
    answer = flowhmr(
        "evaluate", "--protocol", "3dpw-tcmr", "--data", sequence, "--images",
        tmp_path / "imageFiles", "--smpl", smpl_folder, "--network", network, "--device", "cpu",
    )  # fmt: skip
    assert answer.status == 0, answer.err
    for said in ("3dpw-tcmr", "- root: middle of left_hip", "- units: mm; accel", "MPJPE (mm)"):
        assert said in answer.out
    tables = json.loads((tmp_path / "out/evaluate/3dpw-tcmr-0.json").read_text())
    assert tables["frames"] == 3
    assert tables["mean"]["accel_error_ms2"] == pytest.approx(tables["mean"]["accel_error"] * 0.9)
    assert tables["people"][0]["name"] == f"{NAME}_0"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--protocol", "3dpw"), "protocol: got '3dpw'; expected one of 3dpw-spin"),
        (("--protocol", "3dpw-vibe"), "got no --data or no --images"),
        (("--protocol", "3dpw-vibe", "--data", "x", "--images", "y"), "got no --smpl"),
        (("--protocol", "h36m-p1", "--data", "x", "--images", "y"), "got subjects"),
    ],
)
def test_errors_say_what_to_do(flowhmr, words, complaint):
    answer = flowhmr("evaluate", *words)
    assert answer.status == 1
    assert re.search(complaint, answer.err)
