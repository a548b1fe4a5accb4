"""People keep their numbers, counted by how often somebody's number changes."""

import numpy as np
import pytest
import torch

from flowhmr.body import COCO_17
from flowhmr.data.boxes import boxes_from_keypoints
from flowhmr.data.clothes import OTHER_CLOTHES, SAME_CLOTHES, clothes_apart, clothes_of
from flowhmr.data.tracking import DetectedPerson, track_people

SIZE = (1280, 720)
HEIGHT = 300.0
STEP = 0.028 * HEIGHT
"""A walker's way in a frame: 1.4 m/s at 30 frames a second."""
RED = np.array([120.0, 180, 150, 60, 130, 110])
BLUE = np.array([90.0, 140, 80, 160, 128, 135])


def standing() -> np.ndarray:
    """COCO's 17 of somebody seen from the side, 1 high, feet at 0."""
    heights = {"nose": 0.92, "eye": 0.94, "ear": 0.94, "shoulder": 0.82, "elbow": 0.64,
               "wrist": 0.48, "hip": 0.52, "knee": 0.28, "ankle": 0.05}  # fmt: skip
    sides = {"left": 1.0, "right": -1.0}
    rows = []
    for name in COCO_17.names:
        side, _, part = name.rpartition("_")
        rows.append((0.05 * sides.get(side, 0.0), -heights[part], 0.9))
    return np.array(rows)


def walker(x: float, frame: int, facing: float = 1.0, phase: float = 0.0, height=HEIGHT, y=600.0):
    """Keypoints of a step: arms and legs swing against each other."""
    points = standing()
    swing = np.sin(2 * np.pi * frame / 30 + phase)
    for name, reach in (("wrist", -0.12), ("elbow", -0.06), ("knee", 0.08), ("ankle", 0.17)):
        for side, sign in (("left", 1), ("right", -1)):
            points[COCO_17.index(f"{side}_{name}"), 0] += sign * reach * swing
    points[COCO_17.index("nose"), 0] += 0.06
    points[:, 0] *= facing
    points[:, :2] *= height
    return points + np.array([x, y, 0])


def seen(points, draw, noise=0.01, clothes=None) -> DetectedPerson:
    """What a detector says: all keypoints off a little, ``clothes`` too."""
    points = points.copy()
    points[:, :2] += draw.normal(0, noise * HEIGHT, (17, 2))
    points[:, 2] = np.clip(points[:, 2] + draw.normal(0, 0.05, 17), 0, 1)
    worn = None if clothes is None else clothes + draw.normal(0, 4, 6)
    return DetectedPerson(torch.tensor(points, dtype=torch.float32), 0.9, worn)


def met(people, frames, seed, missed=0.05, hidden=0.3, doubled=0.0, noise=0.01, either=False):
    """Detections of walkers; those behind another (later in the list) are not found.

    Args:
        people: functions of the frame that give keypoints or None, and clothes or None.
        frames: how many.
        seed: of noise, missed and doubled detections.
        missed: share of detections that are left out.
        hidden: nearer than this share of the height to somebody in front: not found.
        doubled: share that is found twice.
        noise: of keypoints, body heights.
        either: who is near another may be found in that one's place, and in a third of the frames
            beside that one.

    Returns:
        Frames for `track_people`, and who each detection is: its keypoints in bytes -> person.
    """
    draw = np.random.default_rng(seed)
    out, who = [], {}
    for frame in range(frames):
        found, front = [], []
        order = draw.permutation(len(people)) if either else range(len(people))
        for k in order:
            path, clothes = people[k]
            points = path(frame)
            if points is None:
                continue
            x = points[:, 0].mean()
            behind = any(abs(x - other) < hidden * HEIGHT for other in front)
            front.append(x)
            behind = behind and not (either and draw.random() < 0.3)
            if behind or draw.random() < missed:
                continue
            for _ in range(1 + (draw.random() < doubled)):
                one = seen(points, draw, noise, clothes)
                found.append(one)
                who[one.keypoints_px.numpy().tobytes()] = k
        draw.shuffle(found)
        out.append((frame, found))
    return out, who


def switches(tracks, who) -> int:
    """How often a person's number changes, and how often a number's person does."""
    rows = sorted(
        (frame, who[points.numpy().tobytes()], track)
        for track, (frames, keypoints) in enumerate(tracks)
        for frame, points in zip(frames, keypoints)
    )
    count = 0
    for column, other in ((1, 2), (2, 1)):
        last: dict[int, int] = {}
        for row in rows:
            count += last.get(row[column], row[other]) != row[other]
            last[row[column]] = row[other]
    return count


def tracked(frames, **options):
    return [(t.frame_indices.tolist(), t.keypoints_px) for t in track_people(frames, **options)]


def greedy(frames, min_iou=0.3, max_gap=15):
    """The baseline: pairs of (last box, person) by overlap, the largest first."""
    tracks: list[list] = []
    boxes: list[np.ndarray] = []
    people = [person.keypoints_px for _, found in frames for person in found]
    every = iter(boxes_from_keypoints(torch.stack(people)).numpy())

    def iou(a, b):
        low, high = np.maximum(a[:2], b[:2]), np.minimum(a[:2] + a[2:], b[:2] + b[2:])
        shared = (high - low).clip(0).prod()
        return shared / (a[2:].prod() + b[2:].prod() - shared)

    for frame, people in frames:
        found = [next(every) for _ in people]
        live = [t for t, rows in enumerate(tracks) if frame - rows[-1][0] <= max_gap + 1]
        pairs = [(iou(boxes[t], b), t, p) for p, b in enumerate(found) for t in live]
        chosen: dict[int, int] = {}
        for overlap, t, p in sorted(pairs, reverse=True):
            if overlap >= min_iou and p not in chosen and t not in chosen.values():
                chosen[p] = t
        for p, box in enumerate(found):
            if p not in chosen:
                chosen[p] = len(tracks)
                tracks.append([])
                boxes.append(box)
            tracks[chosen[p]].append((frame, people[p].keypoints_px))
            boxes[chosen[p]] = box
    return [([f for f, _ in rows], [k for _, k in rows]) for rows in tracks]


def crossing(clothes=(None, None)):
    """Two who walk past each other, the second behind the first."""
    return [
        (lambda f: walker(200 + STEP * f, f), clothes[0]),
        (lambda f: walker(1080 - STEP * f, f, -1.0, 1.0), clothes[1]),
    ]


def overtaking():
    """One walks past one who walks half as fast, the same way."""
    return [
        (lambda f: walker(100 + STEP * f, f), None),
        (lambda f: walker(400 + 0.5 * STEP * f, f, 1.0, 2.0), None),
    ]


def crowd():
    """Four on two ways, in both directions."""
    return [
        (lambda f: walker(100 + STEP * f, f), None),
        (lambda f: walker(1200 - STEP * f, f, -1.0, 1.0), None),
        (lambda f: walker(300 + 0.7 * STEP * f, f, 1.0, 2.0, 0.9 * HEIGHT, 570), None),
        (lambda f: walker(1000 - 0.8 * STEP * f, f, -1.0, 3.0, 0.9 * HEIGHT, 570), None),
    ]


def behind_a_wall():
    """Gone for a second, walking on."""

    def path(f):
        return walker(200 + STEP * f, f) if not 40 <= f < 70 else None

    return [(path, None)]


def turning_back(clothes=(RED, BLUE)):
    """Two who meet, stop one before the other, and go back to where they came from."""

    def way(f):
        return min(f, 45, max(0, 45 - (f - 70)))

    return [
        (lambda f: walker(260 + STEP * way(f), f), clothes[0]),
        (lambda f: walker(1020 - STEP * way(f), f, -1.0, 1.0), clothes[1]),
    ]


@pytest.mark.parametrize("scene", [crossing, overtaking, crowd, behind_a_wall])
def test_nobody_changes_numbers(scene):
    ours = theirs = 0
    for seed in range(3):
        frames, who = met(scene(), 105, seed)
        ours += switches(tracked(frames, size_px=SIZE), who)
        theirs += switches(greedy(frames), who)
    assert ours == 0
    assert theirs >= 3


@pytest.mark.parametrize("scene", [crossing, overtaking, crowd])
def test_noise_misses_and_doubles(scene):
    """Twice the jitter, a fifth not found, a fifth found twice."""
    ours = theirs = 0
    for seed in range(2):
        frames, who = met(scene(), 105, seed, missed=0.2, doubled=0.2, noise=0.02)
        ours += switches(tracked(frames), who)
        theirs += switches(greedy(frames), who)
    assert ours <= 0.1 * theirs


def test_either_of_those_who_cross_is_found():
    ours = theirs = 0
    for seed in range(2):
        for scene in (crossing, crowd):
            frames, who = met(scene(), 105, seed, either=True)
            ours += switches(tracked(frames), who)
            theirs += switches(greedy(frames), who)
    assert ours <= 0.25 * theirs


def test_clothes_tell_those_who_turn_back():
    for seed in range(2):
        frames, who = met(turning_back(), 115, seed)
        assert switches(tracked(frames), who) == 0


def test_seen_all_the_time_nobody_changes():
    """Both found in front of each other as well: only their keypoints tell them apart."""
    for seed in range(2):
        frames, who = met(crossing(), 100, seed, hidden=0.0)
        assert switches(tracked(frames), who) == 0


def test_the_order_of_detections_means_nothing():
    frames, _ = met(crowd(), 60, 0)
    turned = [(f, people[::-1]) for f, people in frames]
    for (a, points), (b, same) in zip(tracked(frames), tracked(turned), strict=True):
        assert a == b
        assert torch.equal(points, same)


def leaving(first, second, away=120):
    """Walks out to the right; somebody comes in from the right, ``away`` frames later."""
    back = 60 + away

    def path(f):
        if f < 60:
            return walker(800 + STEP * f, f)
        return walker(1290 - STEP * (f - back), f, -1.0) if f >= back else None

    return [
        (lambda f: path(f) if f < 60 else None, first),
        (lambda f: path(f) if f >= back else None, second),
    ]


def test_who_returns_is_known_by_clothes():
    frames, _ = met(leaving(RED, RED), 240, 0)
    [one] = tracked(frames)
    assert one[0][-1] > 180 > one[0][0]
    frames, _ = met(leaving(RED, BLUE), 240, 0)
    assert len(tracked(frames)) == 2
    frames, _ = met(leaving(None, None), 240, 0)
    assert len(tracked(frames)) == 2


def test_soon_after_clothes_tell_too():
    frames, _ = met(leaving(RED, BLUE, away=30), 150, 0)
    assert len(tracked(frames)) == 2
    frames, _ = met(leaving(RED, RED, away=30), 150, 0)
    assert len(tracked(frames)) == 1


def test_who_returns_is_new_when_others_wear_the_same():
    standing_by = (lambda f: walker(200, f), RED)
    frames, _ = met([*leaving(RED, RED), standing_by], 240, 0)
    assert len(tracked(frames)) == 3
    frames, _ = met([*leaving(RED, RED), (standing_by[0], BLUE)], 240, 0)
    assert len(tracked(frames)) == 2


def test_the_clothes_of_those_in_front_do_not_count():
    """Behind somebody in blue the one in red seems to be in blue, half of the time."""
    [(path, _), _] = leaving(RED, RED)
    [_, (back, _)] = leaving(RED, RED)
    draw = np.random.default_rng(0)
    frames = []
    for f in range(240):
        points = back(f) if f >= 180 else path(f)
        here = [] if points is None else [(points, BLUE if 20 <= f < 55 else RED)]
        if f < 55:
            ahead = max(0.2, 3 - 0.14 * f) * HEIGHT
            here.append((walker(800 + STEP * f + ahead, f, -1.0, 2.0), BLUE))
        frames.append((f, [seen(p, draw, clothes=c) for p, c in here]))
    tracks = tracked(frames)
    assert len(tracks) == 2
    assert tracks[0][0][-1] == 239


@pytest.mark.parametrize(("gap", "tracks"), [(30, 1), (59, 1), (61, 2)])
def test_two_seconds_are_the_longest_loss(gap, tracks):
    draw = np.random.default_rng(0)
    still = [(f, [seen(walker(600, 0), draw)]) for f in (*range(20), *range(20 + gap, 50 + gap))]
    assert len(tracked(still)) == tracks
    assert len(tracked(still, fps=90.0)) == 1
    assert len(tracked(still, fps=10.0)) == 2


def test_a_track_never_jumps():
    """Somebody vanishes and somebody appears elsewhere at once: two people."""
    draw = np.random.default_rng(1)
    for gap in (1, 5, 30):
        frames = [(f, [seen(walker(150, f), draw)]) for f in range(20)]
        frames += [(19 + gap + f, [seen(walker(1150, f), draw)]) for f in range(20)]
        first, second = tracked(frames)
        assert (first[0][-1], second[0][0]) == (19, 19 + gap)
    sprint = [(f, [seen(walker(60 + 0.18 * HEIGHT * f, f), draw)]) for f in range(20)]
    assert len(tracked(sprint)) == 1


def test_a_person_found_twice_is_one():
    draw = np.random.default_rng(2)
    frames = []
    for f in range(40):
        half = walker(300 + STEP * f, f)
        half[11:, 2] = 0
        whole = seen(walker(300 + STEP * f, f), draw)
        frames.append((f, [seen(half, draw), whole, seen(walker(300 + STEP * f, f), draw)]))
    [(numbers, points)] = tracked(frames)
    assert numbers == list(range(40))
    assert bool((points[:, 11:, 2] > 0.3).all())


def test_scraps_on_others_are_dropped():
    draw = np.random.default_rng(3)

    def scrap(f, y):
        return [seen(walker(640, f, height=0.4 * HEIGHT, y=y), draw)] if 10 <= f < 17 else []

    def frames(y):
        return [(f, [seen(walker(640, f), draw), *scrap(f, y)]) for f in range(40)]

    assert len(tracked(frames(570))) == 1
    assert len(tracked(frames(200))) == 2
    assert len(tracked([(3, [seen(walker(640, 0), draw)])])) == 1


def test_after_a_cut_everybody_is_new():
    frames, _ = met(crossing((RED, BLUE)), 100, 0)
    tracks = track_people(frames, cuts=(20,))
    assert [t.person for t in tracks] == [0, 1, 2, 3]
    assert [bool((t.frame_indices < 20).all()) for t in tracks] == [True, True, False, False]
    assert [bool((t.frame_indices >= 20).all()) for t in tracks] == [False, False, True, True]


def test_nobody_nothing_and_outside():
    assert track_people([]) == []
    assert track_people([(0, []), (5, [])]) == []
    draw = np.random.default_rng(0)
    nobody = DetectedPerson(torch.zeros(17, 3), 0.9)
    outside = seen(walker(5000, 0), draw)
    assert track_people([(0, [nobody, outside])], SIZE) == []
    assert len(track_people([(0, [nobody, outside])])) == 1


def test_pieces_of_a_long_video_are_joined():
    """Two who are lost every second, for a quarter of it."""
    draw = np.random.default_rng(0)
    points = [seen(walker(300 + 500 * k, 0), draw).keypoints_px for k in range(2)]
    frames = [
        (f, [DetectedPerson(p, 0.9) for p in points] if f % 30 > 7 else []) for f in range(600)
    ]
    first, second = tracked(frames)
    assert first[0] == second[0] == [f for f in range(600) if f % 30 > 7]


def test_clothes_are_read_off_the_picture():
    image = np.full((720, 1280, 3), 128, np.uint8)
    points = walker(640, 0)
    torso = points[[5, 6, 11, 12], :2]
    low, high = torso.min(0).astype(int), torso.max(0).astype(int)
    image[low[1] : high[1], low[0] - 20 : high[0] + 20] = (200, 30, 30)
    image[high[1] : high[1] + 60] = (30, 30, 160)
    worn = clothes_of(image, torch.tensor(points))
    assert worn[1] > 170  # red
    assert worn[5] < 90  # blue
    dim = clothes_of((image * 0.8).astype(np.uint8), torch.tensor(points))
    assert clothes_apart(worn, dim) < SAME_CLOTHES
    image[low[1] : high[1]] = (230, 230, 230)
    other = clothes_of(image, torch.tensor(points))
    assert clothes_apart(worn, other) > OTHER_CLOTHES
    assert clothes_apart(worn, worn) == 0
    points[5:7, 2] = 0
    legs = clothes_of(image, torch.tensor(points))
    assert np.isnan(legs[:3]).all()
    assert np.isfinite(legs[3:]).all()
    assert clothes_apart(legs, other) == 0
    assert np.isnan(clothes_of(image, torch.tensor(points + np.array([5000, 0, 0])))).all()
    assert np.isnan(clothes_apart(legs, np.full(6, np.nan)))
