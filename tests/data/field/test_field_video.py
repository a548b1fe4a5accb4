"""People of a data set as video: what is known of pictures that are not read."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from flowhmr.data import FieldError
from flowhmr.data.field.video import Pictures
from flowhmr.data.links import sequence_key
from flowhmr.records import Sequence


@pytest.fixture
def video(tmp_path):
    names = [f"{number}.png" for number in range(3)]
    for number, name in enumerate(names):
        cv2.imwrite(str(tmp_path / name), np.full((6, 8, 3), number, np.uint8))
    boxes_px = torch.tensor([[1.0, 1.0, 4.0, 4.0]]).expand(3, 4)
    times_s = torch.arange(3) / 25
    return Sequence("walk", "anna", Pictures(tmp_path, names, range(3)), times_s, boxes_px, None)


def test_what_is_made_of_pictures_is_found_without_reading_them(video, tmp_path, monkeypatch):
    moved = replace(video, boxes_px=video.boxes_px + 1)
    shorter = replace(video, images=video.images[:2])
    key = sequence_key("flow", video)
    monkeypatch.setattr(cv2, "imread", lambda *_: pytest.fail("a picture was read"))
    assert sequence_key("flow", video) == key
    assert sequence_key("features", video) != key
    assert sequence_key("flow", moved) != key
    assert sequence_key("flow", shorter) != key
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((60, 80, 3), np.uint8))
    assert sequence_key("flow", video) != key


def test_a_picture_that_is_gone(video, tmp_path):
    (tmp_path / "2.png").unlink()
    with pytest.raises(FieldError, match=r"2\.png: got .*expected a picture; check"):
        sequence_key("flow", video)
