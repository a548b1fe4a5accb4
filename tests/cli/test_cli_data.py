"""``flowhmr data``: what is in a data set, and its bodies as labels."""

import re

import numpy as np
import pytest

from flowhmr.body import open_body
from flowhmr.data import FrameStore


@pytest.fixture
def spin(tmp_path):
    """SPIN's npz of three people."""
    rng = np.random.default_rng(0)
    centre = np.full((3, 2), 300.0)
    points = np.concatenate(
        [centre[:, None] + rng.normal(0, 40, (3, 24, 2)), np.ones((3, 24, 1))], -1
    )
    path = tmp_path / "coco.npz"
    np.savez(
        path,
        imgname=np.array(["a.jpg", "b.jpg", "c.jpg"]),
        center=centre,
        scale=np.ones(3),
        part=points,
        pose=rng.normal(0, 0.2, (3, 72)),
        shape=rng.normal(size=(3, 10)),
        has_smpl=np.array([1, 0, 1]),
    )
    return path


def test_check_says_what_is_there(flowhmr, spin):
    answer = flowhmr("data", "check", "spin", spin)
    assert answer.status == 0, answer.err
    assert "3 rows; 2 with a body, 3 that the set trusts" in answer.out
    assert "2D keypoints: spin-49" in answer.out
    assert "first inconsistency: none" in answer.out


def test_check_fails_where_something_cannot_be(flowhmr, spin, tmp_path):
    answer = flowhmr("data", "check", "spin", spin, "--images", tmp_path)
    assert answer.status == 1
    assert "images that are not there: 3" in answer.out
    assert "row 0: got no image 'a.jpg'" in answer.err


def test_convert_writes_what_training_reads(flowhmr, spin, tmp_path):
    answer = flowhmr("data", "convert", "spin", spin, tmp_path / "out.npz")
    assert answer.status == 0, answer.err
    assert "2 of 3 rows" in answer.out
    assert len(FrameStore(tmp_path / "out.npz", tmp_path, open_body())) == 2


def test_check_of_what_has_no_rows(flowhmr, tmp_path):
    answer = flowhmr("data", "check", "bvh", tmp_path)
    assert answer.status == 1
    assert "0 of 0 recordings read" in answer.out
    assert "got no .bvh below it" in answer.err
    answer = flowhmr("data", "convert", "bvh", tmp_path, tmp_path / "out.npz")
    assert "which has no rows of people in pictures" in answer.err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("data", "check", "guess", "x"), "kind: got 'guess'; expected one of"),
        (("data", "check", "spin", "x.npz"), "x.npz: got .*; expected a file; check its name"),
        (("data", "convert", "vibe", "x.pt", "out.npz"), "expected a file"),
    ],
)
def test_errors_say_what_to_do(flowhmr, words, complaint):
    answer = flowhmr(*words)
    assert answer.status == 1
    assert re.search(complaint, answer.err)
