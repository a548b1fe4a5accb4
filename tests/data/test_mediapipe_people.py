"""Several people with networks that find and follow one: who is found, kept, dropped, and when.

The networks are stood in for by blocks of one brightness each: a body is where its brightness is.
"""

import os
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from flowhmr.body import COCO_17
from flowhmr.data.detectors import DetectorError, mediapipe_detector
from flowhmr.data.video import VideoFrame
from flowhmr.data.workers import detector_environment
from flowhmr.data.workers.mediapipe_people import (
    EVERY,
    People,
    Person,
    Roi,
    around,
    same_body,
    windows_of,
    without_doubles,
)

SIZE = (320, 180)
# Places of the joints in a body's block, in widths and heights of it.
JOINTS = np.array([[0.5, 0.05], [0.1, 0.3], [0.9, 0.35], [0.3, 0.95], [0.7, 1.0]])


def picture(*blocks, size=SIZE):
    """Blocks (brightness, left, top, width, height), each before those it follows."""
    image = np.zeros((size[1], size[0], 3), np.uint8)
    for bright, left, top, width, height in blocks:
        image[max(top, 0) : top + height, max(left, 0) : left + width] = bright
    return image


def square_of(left, top, right, bottom):
    return Roi((left + right) / 2, (top + bottom) / 2, 1.4 * (bottom - top), 0.0)


def blocks_in(image):
    for bright in np.unique(image[image > 0]).tolist():
        ys, xs = np.nonzero(image[..., 0] == bright)
        yield bright, xs.min(), ys.min(), xs.max() + 1, ys.max() + 1


class Networks:
    """As the detector does, `find` sees who is whole in the image and no smaller than a quarter of
    it; as the landmark network does, `follow` takes whoever fills most of the square's middle."""

    def __init__(self):
        self.finds = self.follows = 0

    def find(self, image):
        self.finds += 1
        found = []
        for bright, left, top, right, bottom in blocks_in(image):
            whole = min(left, top) > 0 and right < image.shape[1] and bottom < image.shape[0]
            if whole and bottom - top >= max(image.shape) / 4:
                found.append((square_of(left, top, right, bottom), bright / 256))
        return found

    def follow(self, image, roi):
        self.follows += 1
        assert roi.side_px > 0
        half = roi.side_px / 4
        left, right = (max(0, int(roi.x_px + d)) for d in (-half, half))
        top, bottom = (max(0, int(roi.y_px + d)) for d in (-half, half))
        middle = image[top:bottom, left:right, 0]
        if not middle.any():
            return None
        bright = np.bincount(middle[middle > 0]).argmax()
        [box] = [box for value, *box in blocks_in(image) if value == bright]
        low, high = np.array(box[:2]), np.array(box[2:])
        points = low + JOINTS * (high - low)
        confidence = np.full((len(JOINTS), 1), bright / 256)
        return np.concatenate([points, confidence], 1), square_of(*box)


@pytest.fixture
def networks():
    return Networks()


def seen(people, image):
    """The brightness of each person found, in their order."""
    return [round(256 * float(keypoints[0, 2])) for keypoints in people(image)]


ONE, TWO, SMALL = (210, 40, 50, 30, 100), (230, 200, 40, 34, 110), (220, 140, 60, 10, 34)


def moved(block, x, y=0):
    return (block[0], block[1] + x, block[2] + y, *block[3:])


def test_all_are_found_in_the_first_frame(networks):
    found = People(networks.find, networks.follow, 4)(picture(ONE, TWO, SMALL))
    assert len(found) == 3
    for keypoints in found:
        [block] = [b for b in (ONE, TWO, SMALL) if b[0] == round(256 * keypoints[0, 2])]
        np.testing.assert_allclose(
            keypoints[:, :2], np.array(block[1:3]) + JOINTS * np.array(block[3:])
        )


@pytest.mark.parametrize("most", [1, 2, 3])
def test_no_more_than_allowed_and_the_surest_first(networks, most):
    people = People(networks.find, networks.follow, most)
    for _ in range(3):
        assert seen(people, picture(ONE, SMALL, TWO)) == [230, 220, 210][:most]


def test_people_are_followed_in_one_order(networks):
    people = People(networks.find, networks.follow, 3)
    for i in range(30):
        assert seen(people, picture(moved(ONE, 2 * i), moved(TWO, 1, -i))) == [230, 210]


@pytest.mark.parametrize("late", [ONE, TWO, SMALL])
def test_who_comes_later_is_found(networks, late):
    """In the worst case each window has had its turn."""
    people = People(networks.find, networks.follow, 4)
    others = [block for block in (ONE, TWO) if block is not late]
    seen(people, picture(*others))
    _, large, small = windows_of(SIZE)
    longest = EVERY * 2 * max(len(large), len(small))
    frames = [seen(people, picture(*others, late)) for _ in range(longest)]
    assert late[0] in frames[-1]
    assert all(late[0] not in f or late[0] in after for f, after in pairwise(frames))


@pytest.mark.parametrize("most", [1, 3])
def test_who_leaves_is_dropped_and_found_when_back(networks, most):
    people = People(networks.find, networks.follow, most)
    assert seen(people, picture(ONE)) == [210]
    for _ in range(20):
        assert seen(people, picture()) == []
    back = [seen(people, picture(TWO)) for _ in range(8)]
    assert back[-1] == [230]


def test_who_jumps_is_found_in_the_same_frame(networks):
    """Beyond the square but not far: the window around the place where somebody was lost."""
    people = People(networks.find, networks.follow, 2)
    assert seen(people, picture(TWO, ONE)) == [230, 210]
    for _ in range(EVERY):  # whatever window has its turn
        assert seen(people, picture(TWO, moved(ONE, 60))) == [230, 210]
        assert seen(people, picture(TWO, ONE)) == [230, 210]


def test_a_crossing_leaves_one_and_gives_both_back(networks):
    """Behind somebody else there is nobody to follow: what remains is the one in front."""
    people = People(networks.find, networks.follow, 3)
    static = moved(ONE, 100)
    counts, last = [], []
    for i in range(100):
        front = (230, 20 + 3 * i, 50, 34, 100)
        last = seen(people, picture(static, front))
        hidden = front[1] <= static[1] and front[1] + 34 >= static[1] + 30
        counts.append((hidden, len(last), last.count(230)))
    assert any(hidden for hidden, _, _ in counts)
    assert all(front == 1 for _, _, front in counts)
    assert all(count == 1 for hidden, count, _ in counts if hidden)
    assert sorted(last) == [210, 230]


def at(x, step, surprise):
    keypoints = np.concatenate([JOINTS * [30, 100] + [x, 50], np.ones((len(JOINTS), 1))], 1)
    return Person(Roi(x, 100, 140, 0), keypoints, np.full((len(JOINTS), 2), step), surprise)


def test_of_two_on_a_body_the_one_who_jumped_goes():
    """Whatever their order: the one whose keypoints went on as they had."""
    walks, stands = at(10.0, 5.0, 0.0), at(40.0, 0.0, 0.0)
    [seen_px, roi] = [at(15.0, 0, 0.0).keypoints_px, Roi(15, 105, 140, 0)]
    a, b = walks.moved(seen_px, roi), stands.moved(seen_px, roi)
    assert a.surprise < 0.1 < b.surprise
    assert without_doubles([a, b]) == [a]
    assert without_doubles([b, a]) == [a]


def test_people_side_by_side_are_no_doubles():
    people = [at(0.0, 0, 0.5), at(20.0, 0, 0.0), at(40.0, 0, 0.2)]
    assert without_doubles(people) == people
    assert same_body(people[0].keypoints_px, at(5.0, 0, 0.0).keypoints_px)


@pytest.mark.parametrize("most", [1, 2, 3])
def test_looking_costs_little(networks, most):
    """All are followed once a frame; a look for others comes every few frames, or not at all."""
    people = People(networks.find, networks.follow, most)
    people(picture(ONE, TWO))
    networks.finds = networks.follows = 0
    for _ in range(10 * EVERY):
        people(picture(ONE, TWO))
    assert networks.follows == 10 * EVERY * min(most, 2)
    assert networks.finds == (10 if most == 3 else 0)
    for image in [picture()] * 3:
        people(image)
    networks.finds = 0
    for _ in range(10):
        people(picture())
    assert networks.finds == 10


def test_looking_afresh_forgets(networks):
    people = People(networks.find, networks.follow, 3)
    for image, who in [((ONE, TWO), [230, 210]), ((), []), ((SMALL,), [220]), ((TWO,), [230])]:
        found = [round(256 * k[0, 2]) for k in people.look_afresh(picture(*image))]
        assert found == who


@pytest.mark.parametrize("roi", [Roi(50, 90, 0.0, 0), Roi(np.nan, 90, 90, 0), Roi(1, 1, np.inf, 0)])
def test_a_square_without_an_area_is_nobody(networks, roi):
    people = People(lambda image: [(roi, 0.9)], networks.follow, 2)
    assert [people(picture(ONE)) for _ in range(3)] == [[], [], []]
    assert networks.follows == 0


@pytest.mark.parametrize("size", [(320, 180), (180, 320), (1768, 994), (100, 100), (640, 64)])
def test_everybody_is_whole_in_a_window(size):
    whole, large, small = windows_of(size)
    assert (whole.left, whole.top, whole.right, whole.bottom) == (0, 0, *size)
    rng = np.random.default_rng(0)
    for windows, part in ((large, 1.0), (small, 2 / 3)):
        for w in windows:
            assert 0 <= w.left < w.right <= size[0]
            assert 0 <= w.top < w.bottom <= size[1]
            assert w.right - w.left == w.bottom - w.top
        body = np.array([0.33, 0.33 if part < 1 else 1.0]) * min(size) * part
        body = np.floor(body if size[0] >= size[1] else body[::-1]) - 1
        for low in rng.uniform(0, 1, (200, 2)) * (size - body):
            high = low + body
            assert any(
                w.left <= low[0] and w.top <= low[1] and w.right >= high[0] and w.bottom >= high[1]
                for w in windows
            )


def test_around_a_place_outside_there_is_no_window():
    assert around(Roi(-900, 50, 100, 0), SIZE) is None
    assert around(Roi(np.nan, 50, 100, 0), SIZE) is None
    window = around(Roi(10, 90, 100, 0), SIZE)
    assert window == (0, 25, 75, 155)


FAKE_SOLUTION_BASE = """
from types import SimpleNamespace as Names
class PacketDataType:
    IMAGE_FRAME, PROTO_LIST = "frame", "list"
class SolutionBase:
    def __init__(self, graph_config, **options):
        self.finds = "PoseDetectionCpu" in graph_config
        print("stray line of a library", flush=True)
    def process(self, given):
        if self.finds:
            lit = given[:, :, 0].any(0).nonzero()[0]
            halves = [part for part in (lit[lit < 45], lit[lit >= 45]) if len(part) > 8]
            if given.shape[:2] != (48, 90):  # found in the whole picture only
                halves = []
            rois = [Names(x_center=h.mean() / 90, y_center=0.5, width=0.3, height=0.3 * 90 / 48,
                          rotation=0.0) for h in halves]
            return Names(detections=[Names(score=[0.9])] * len(rois) or None, rois=rois)
        roi = given["roi"]
        assert abs(roi.width * 90 - roi.height * 48) < 1e-9
        marks = [Names(x=roi.x_center, y=i / 128, visibility=0.5) for i in range(33)]
        return Names(landmarks=Names(landmark=marks), next_roi=roi)
"""


def test_the_worker_speaks_of_several_people(tmp_path, monkeypatch):
    package = tmp_path / "mediapipe"
    for name, source in {
        "__init__.py": '__version__ = "0.10.21"',
        "python/solution_base.py": FAKE_SOLUTION_BASE,
        "framework/formats/rect_pb2.py": "from types import SimpleNamespace as NormalizedRect",
    }.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(
        "flowhmr.data.detectors.detector_environment", lambda *_: Path(sys.executable)
    )
    image = np.zeros((48, 90, 3), np.uint8)
    image[8:40, 5:25] = image[8:40, 60:80] = 220
    with mediapipe_detector(people=3) as detector:
        for index in range(2):
            found = detector(VideoFrame(index, 0.0, image))
            places = sorted(p.keypoints_px[COCO_17.index("left_knee"), 0].item() for p in found)
            assert places == pytest.approx([14.5, 69.5], abs=1e-3)
            for person in found:
                nose, knee = (COCO_17.index(name) for name in ("nose", "left_knee"))
                assert person.keypoints_px[nose, 1] == 0
                assert person.keypoints_px[knee, 1:].tolist() == pytest.approx([48 * 25 / 128, 0.5])


def test_nobody_is_not_a_number_of_people():
    with pytest.raises(DetectorError, match="got 0 people; expected at least 1"):
        mediapipe_detector(people=0)


HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
ENVIRONMENT = HOME / "flowhmr/detectors/mediapipe-0.10.21"


@pytest.mark.slow
@pytest.mark.skipif(not ENVIRONMENT.exists(), reason="the worker's environment is not made")
def test_mediapipe_itself_accepts_the_graphs(caplog):
    assert detector_environment(ENVIRONMENT).exists()
    noise = np.random.default_rng(0).integers(0, 255, (180, 320, 3)).astype(np.uint8)
    with mediapipe_detector(ENVIRONMENT, people=3) as detector:
        for index in range(4):
            assert detector(VideoFrame(index, 0.0, noise)) == []
        process = detector._process
        assert process is not None
        process.kill()
        assert detector(VideoFrame(4, 0.0, noise)) == []
    assert len(caplog.records) == 1
