"""Motion of a scene: what is refused, frame rates, gaps."""

import pytest
import torch

from flowhmr.body import BodyParams
from flowhmr.cameras import PerspectiveCamera
from flowhmr.records import PersonMotion, SceneMotion, gaps_in


def person(frames: list[int], number: int = 0) -> PersonMotion:
    t = len(frames)
    params = BodyParams(torch.eye(3).expand(t, 24, 3, 3), torch.zeros(t, 10), "some-body")
    return PersonMotion(
        number, torch.tensor(frames, dtype=torch.long), params, torch.zeros(t, 3), torch.ones(t)
    )


def scene(*people: PersonMotion, times_s: list[float]) -> SceneMotion:
    camera = PerspectiveCamera(torch.tensor(500.0), torch.tensor([320.0, 240.0]))
    return SceneMotion(people, camera, (640, 480), torch.tensor(times_s))


@pytest.mark.parametrize("frames", [[], [-1, 0], [0, 2, 2], [3, 1]])
def test_frames_increase_from_zero(frames):
    with pytest.raises(ValueError, match=r"motion of person 0: got frames .*; expected at least"):
        person(frames)


def test_a_scene_knows_its_people_and_its_length():
    with pytest.raises(ValueError, match=r"scene: got people \[1, 1\]; expected each number once"):
        scene(person([0], 1), person([1], 1), times_s=[0.0, 0.1])
    with pytest.raises(ValueError, match=r"got frame 2 of person 0; expected frames of a video of"):
        scene(person([0, 2]), times_s=[0.0, 0.1])
    assert len(scene(person([0, 1]), times_s=[0.0, 0.1]).people[0]) == 2


def test_the_frame_rate_is_that_of_most_frames():
    assert scene(times_s=[0.0, 0.04, 0.08, 1.0, 1.04]).fps == pytest.approx(25.0)
    assert scene(times_s=[0.0]).fps == 30.0
    for fps in (24, 60, 120, 240):  # times in whole milliseconds, as in mkv and webm
        assert scene(times_s=[round(k / fps, 3) for k in range(500)]).fps == pytest.approx(
            fps, 1e-3
        )


def test_rows_are_split_at_gaps():
    rows = gaps_in(torch.tensor([3, 4, 7, 9, 10, 11]))
    assert [r.tolist() for r in rows] == [[0, 1], [2], [3, 4, 5]]
    assert [r.tolist() for r in gaps_in(torch.tensor([5]))] == [[0]]
