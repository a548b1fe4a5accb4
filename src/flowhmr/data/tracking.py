"""Who is who: people found in single frames become tracks.

All frames are known when this begins, so nothing has to be decided in the middle of a crossing.
People are first followed from frame to frame as long as box and keypoints are where they are
expected. The pieces are then joined across crossings and losses, all at once, by where each was
heading and where the other came from, by size, pose and clothes. Last, who was gone for longer gets
the old number if the clothes say so.

Libraries of trackers compare boxes only and decide frame by frame; the assignments are scipy's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from torch import Tensor

from flowhmr.body import COCO_17
from flowhmr.data.boxes import PersonTrack, track_from_keypoints
from flowhmr.data.clothes import OTHER_CLOTHES, SAME_CLOTHES, clothes_apart

LOSS_S = 2.0
"""Who is hidden for longer has left: clothes alone say whether it is the same person."""
MIN_FRAMES = 10
"""Shorter tracks are dropped where they mostly lie on other people: half a person, a reflection.
Short tracks of their own place stay: a video may be short."""
MAX_SPEED = 0.25
"""Body heights per frame at 30 frames a second, 13 m/s: nobody is faster, with room for a pan."""
SURE = 0.6
"""Likeness, mean of the boxes' overlap and the keypoints' similarity, that is enough to follow."""
DUPLICATE = 0.6
"""Keypoint similarity above which two people of one frame are one, found twice."""
END_COST = 6.0
"""Of a piece that nothing follows, half squared deviations: as of a link 3.5 sigma off. Sigma is
0.08 body heights from where both pieces lead and 0.5 more per second: no track jumps."""

_KNOWN = 0.3
_TORSO = list(
    COCO_17.indices_of(("left_shoulder", "right_shoulder", "left_hip", "right_hip"))
)  # fmt: skip
# COCO's own tolerances, of the root of a person's area, about 0.45 heights; detectors jitter more
# on the face than its annotators, whence the floor.
_COCO_SIGMAS = np.array(
    [26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]
) / 1000  # fmt: skip
_UNSEEN = np.full(6, np.nan)
_TOLERANCE = np.maximum(2 * 0.45 * _COCO_SIGMAS, 0.06)


@dataclass(frozen=True, eq=False)
class DetectedPerson:
    """A person found in one frame."""

    keypoints_px: Float[Tensor, "17 3"]
    """COCO's 17: x and y in pixels of the image, confidence 0..1; (0, 0, 0) where missing."""
    confidence: float
    """How sure the source is of the person, 0..1."""
    clothes: Float[np.ndarray, "6"] | None = None
    """`flowhmr.data.clothes.clothes_of` the image, where there is one."""


def track_people(
    frames: Iterable[tuple[int, Sequence[DetectedPerson]]],
    size_px: tuple[int, int] | None = None,
    fps: float = 30.0,
    cuts: Sequence[int] = (),
) -> list[PersonTrack]:
    """Follow the people of a video through crossings and losses of up to `LOSS_S`.

    Somebody who comes back after longer keeps the number when clothes were given and tell: they
    must agree with those of one person who was gone, and disagree with everybody else's. Without
    clothes, or in doubt, the number is new. A person found twice in a frame counts once. Behind a
    cut everybody is new.

    Args:
        frames: frame numbers, increasing, with who is there.
        size_px: width and height of the picture; people outside it are left out.
        fps: frames per second, for how far people get.
        cuts: frames that begin a new shot.

    Returns:
        Tracks numbered from 0 in order of appearance; those after a cut are other people.
    """
    shots: dict[int, list[list[_Seen]]] = {}
    for people in _usable(frames, size_px):
        number = sum(people[0].frame >= cut for cut in cuts)
        shots.setdefault(number, []).append(people)
    tracks = []
    for shot in shots.values():
        pieces = _returned(_without_scraps(_joined(_pieces(shot, fps), fps)), fps)
        for piece in sorted(pieces, key=lambda p: p.first):
            keypoints_px = torch.stack([seen.keypoints_px for seen in piece.seen])
            frame_indices = torch.tensor([seen.frame for seen in piece.seen])
            track = track_from_keypoints(len(tracks), frame_indices, keypoints_px, size_px)
            if track is not None:
                tracks.append(track)
    return tracks


@dataclass(frozen=True, eq=False)
class _Seen:
    """Somebody in a frame."""

    frame: int
    keypoints_px: Tensor
    points: Float[np.ndarray, "17 3"]
    box: Float[np.ndarray, "4"]
    """Corners: left, top, right, bottom."""
    centre: Float[np.ndarray, "2"]
    """Of the torso, where it is known."""
    height: float
    """Of the upright body, pixels."""
    clothes: Float[np.ndarray, "6"]


@dataclass(eq=False)
class _Piece:
    """One person's frames, increasing."""

    seen: list[_Seen]
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(2))
    """Pixels per frame, after the last."""

    @property
    def first(self) -> int:
        return self.seen[0].frame

    @property
    def last(self) -> int:
        return self.seen[-1].frame

    def add(self, one: _Seen) -> None:
        gap = one.frame - self.last
        step = (one.centre - self.seen[-1].centre) / gap
        share = max(0.3, 1 / len(self.seen))
        self.velocity = _limited((1 - share) * self.velocity + share * step, one.height)
        self.seen.append(one)

    def clothes(self) -> tuple[Float[np.ndarray, "6"], int]:
        """The median, and in how many frames they were seen."""
        worn = np.stack([one.clothes for one in self.seen])
        known = np.isfinite(worn)
        if not known.any():
            return _UNSEEN, 0
        filled = [np.median(c[k]) if k.any() else np.nan for c, k in zip(worn.T, known.T)]
        return np.array(filled), int(known.any(-1).sum())


def _limited(velocity: np.ndarray, height: float) -> np.ndarray:
    return velocity * min(1.0, MAX_SPEED * height / max(float(np.hypot(*velocity)), 1e-9))


def _usable(
    frames: Iterable[tuple[int, Sequence[DetectedPerson]]], size_px: tuple[int, int] | None
) -> list[list[_Seen]]:
    """For each frame with people: those in the picture with enough keypoints, each once."""
    found = [(frame, person) for frame, people in frames for person in people]
    if not found:
        return []
    keypoints_px = torch.stack([person.keypoints_px for _, person in found])
    track = track_from_keypoints(0, torch.arange(len(found)), keypoints_px, size_px)
    if track is None:
        return []
    assert track.keypoints_px is not None
    by_frame: dict[int, list[_Seen]] = {}
    for row, points, box in zip(track.frame_indices.tolist(), track.keypoints_px, track.boxes_px):
        frame, person = found[row]
        by_frame.setdefault(frame, []).append(_seen(frame, points, box.numpy(), person.clothes))
    return [_each_once(people) for people in by_frame.values()]


def _each_once(people: list[_Seen]) -> list[_Seen]:
    kept: list[_Seen] = []
    for one in sorted(people, key=lambda one: -float(one.points[:, 2].sum())):
        if all(_similarity(other, one) < DUPLICATE for other in kept):
            kept.append(one)
    return [
        # Whose clothes these are is uncertain.
        replace(one, clothes=_UNSEEN) if any(_hides(o, one) for o in kept if o is not one) else one
        for one in kept
    ]


def _hides(one: _Seen, other: _Seen) -> bool:
    return float(np.hypot(*(one.centre - other.centre))) < 0.3 * max(one.height, other.height)


def _seen(frame: int, keypoints_px: Tensor, box: np.ndarray, clothes: np.ndarray | None) -> _Seen:
    points, (x, y, w, h) = keypoints_px.numpy().astype(float), box.astype(float)
    height, centre = float(max(w, h)), np.array([x + w / 2, y + h / 2])
    if (points[_TORSO, 2] >= _KNOWN).all():
        shoulders, hips = points[_TORSO[:2], :2].mean(0), points[_TORSO[2:], :2].mean(0)
        centre = (shoulders + hips) / 2
        # Legs may be hidden: shoulders and hips are 0.29 of the stature apart.
        height = max(height, 3.2 * float(np.hypot(*(shoulders - hips))))
    corners = np.array([x, y, x + w, y + h])
    worn = _UNSEEN if clothes is None else clothes
    return _Seen(frame, keypoints_px, points, corners, centre, height, worn)


def _similarity(one: _Seen, other: _Seen, moved: np.ndarray | float = 0.0) -> float:
    """COCO's object keypoint similarity of what both show, weighted by confidence; 0..1."""
    weight = one.points[:, 2] * other.points[:, 2]
    weight = weight * ((one.points[:, 2] >= _KNOWN) & (other.points[:, 2] >= _KNOWN))
    if np.count_nonzero(weight) < 3:
        return 0.0
    off = (one.points[:, :2] + moved - other.points[:, :2]) / min(one.height, other.height)
    return float((np.exp(-0.5 * (off**2).sum(-1) / _TOLERANCE**2) * weight).sum() / weight.sum())


def _overlap(a: Float[np.ndarray, "4"], b: Float[np.ndarray, "4"], of_smaller: bool) -> float:
    """Intersection over union, or over the smaller box."""
    shared = float(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod())
    sizes = float((a[2:] - a[:2]).prod()), float((b[2:] - b[:2]).prod())
    return shared / (min(sizes) if of_smaller else sum(sizes) - shared)


def _likeness(piece: _Piece, one: _Seen) -> float:
    """How well somebody agrees with where a piece is expected, 0..1."""
    gap, last = one.frame - piece.last, piece.seen[-1]
    moved = piece.velocity * gap
    expected = last.box + np.concatenate([moved, moved])
    return (_overlap(expected, one.box, False) + _similarity(last, one, moved)) / 2


def _pieces(shot: list[list[_Seen]], fps: float) -> list[_Piece]:
    """Followed from frame to frame, across no more than a few that miss."""
    pieces: list[_Piece] = []
    live: list[_Piece] = []
    for people in shot:
        live = [p for p in live if people[0].frame - p.last <= max(3, 0.15 * fps)]
        like = np.array([[_likeness(p, one) for one in people] for p in live])
        like = like.reshape(len(live), len(people))
        follows = {
            int(column): live[row]
            for row, column in zip(*linear_sum_assignment(-like))
            if like[row, column] >= SURE
        }
        for column, one in enumerate(people):
            if column in follows:
                follows[column].add(one)
            else:
                fresh = _Piece([one])
                pieces.append(fresh)
                live.append(fresh)
    return pieces


def _joined(pieces: list[_Piece], fps: float) -> list[_Piece]:
    """Pieces put together where one goes on as another: the cheapest of all ways at once."""
    pieces = sorted(pieces, key=lambda p: p.first)
    ends = [_Ends.of(p, fps) for p in pieces]
    firsts = np.array([p.first for p in pieces])
    n = len(pieces)
    rows, columns, costs = list(range(n)), list(range(n, 2 * n)), [END_COST] * n
    for k, piece in enumerate(pieces):
        low, high = np.searchsorted(firsts, [piece.last + 1, piece.last + LOSS_S * fps + 1.5])
        for other in range(low, high):
            cost = _link_cost(ends[k], ends[other], fps)
            if cost < END_COST:
                rows.append(k)
                columns.append(other)
                costs.append(cost)
    if not pieces:
        return []
    graph = coo_array((costs, (rows, columns)), shape=(n, 2 * n)).tocsr()
    after = dict(zip(*(side.tolist() for side in min_weight_full_bipartite_matching(graph))))
    whole: dict[int, _Piece] = {}
    out = []
    for k, piece in enumerate(pieces):  # in order: what comes before is whole already
        joined = whole.pop(k, None)
        if joined is None:
            joined = _Piece([])
            out.append(joined)
        joined.seen.extend(piece.seen)
        if after[k] < n:
            whole[after[k]] = joined
    return out


@dataclass(frozen=True, eq=False)
class _Ends:
    """What links look at in a piece."""

    head: _Seen
    tail: _Seen
    velocity_in: np.ndarray
    """Pixels per second at the head."""
    velocity_out: np.ndarray
    clothes: np.ndarray

    @staticmethod
    def of(piece: _Piece, fps: float) -> "_Ends":
        span = max(4, round(0.4 * fps))
        into, out = (_slope(part, fps) for part in (piece.seen[:span], piece.seen[-span:]))
        return _Ends(piece.seen[0], piece.seen[-1], into, out, piece.clothes()[0])


def _slope(seen: list[_Seen], fps: float) -> np.ndarray:
    """Least squares over some frames, pixels per second; towards 0 when they are few."""
    time_s = np.array([one.frame for one in seen]) / fps
    time_s = time_s - time_s.mean()
    centres = np.stack([one.centre for one in seen])
    raw = time_s @ centres / max(float(time_s @ time_s), 1e-9)
    height = float(np.median([one.height for one in seen]))
    return _limited(raw * len(seen) / (len(seen) + 2), 30 * height)


def _link_cost(one: _Ends, other: _Ends, fps: float) -> float:
    """Half squared deviations of one piece going on as the other; both are led to the middle."""
    gap_s = (other.head.frame - one.tail.frame) / fps
    height = max(one.tail.height, other.head.height)
    led_s = 1 - np.exp(-gap_s / 2)  # people stop
    meet = one.tail.centre + led_s * one.velocity_out
    miss = meet - (other.head.centre - led_s * other.velocity_in)
    place = float(np.hypot(*miss)) / height / (0.08 + 0.5 * gap_s)
    size = np.log(one.tail.height / other.head.height) / (0.3 + 0.3 * gap_s)
    worn = clothes_apart(one.clothes, other.clothes)
    worn = 0.7 if np.isnan(worn) else worn
    pose = 0.0
    if gap_s < 0.2:
        moved = (one.velocity_out + other.velocity_in) / 2 * gap_s
        pose = (1 - _similarity(one.tail, other.head, moved)) / 0.5
    cost = 0.5 * (place**2 + size**2 + worn**2 + pose**2)
    return float(cost) + 1e-6  # a sparse matrix takes 0 for no link


def _returned(pieces: list[_Piece], fps: float) -> list[_Piece]:
    """Who comes back gets the old place, if clothes tell: like one's, unlike everybody else's."""
    people: list[_Piece] = []
    worn: list[tuple[np.ndarray, int]] = []
    for piece in sorted(pieces, key=lambda p: p.first):
        own, frames = piece.clothes()
        apart = np.array(
            [
                clothes_apart(own, theirs) if min(frames, seen) >= MIN_FRAMES // 2 else np.nan
                for theirs, seen in worn
            ]
        )
        alike = (~(apart > OTHER_CLOTHES)).nonzero()[0]  # unknown clothes may be the same
        back = int(alike[0]) if len(alike) == 1 else -1
        if back >= 0 and apart[back] < SAME_CLOTHES and _could_be_back(people[back], piece, fps):
            people[back].seen.extend(piece.seen)
            worn[back] = people[back].clothes()
        else:
            people.append(piece)
            worn.append((own, frames))
    return people


def _could_be_back(person: _Piece, piece: _Piece, fps: float) -> bool:
    """Whether somebody was gone, and long enough to get there."""
    gap, last, first = piece.first - person.last, person.seen[-1], piece.seen[0]
    step = float(np.hypot(*(first.centre - last.centre)))
    return gap > 0 and step <= 15 * MAX_SPEED * first.height * gap / fps


def _without_scraps(pieces: list[_Piece]) -> list[_Piece]:
    """Without short pieces that mostly lie on longer ones."""
    boxes: dict[int, list[tuple[int, _Seen]]] = {}
    for piece in pieces:
        for one in piece.seen:
            boxes.setdefault(one.frame, []).append((len(piece.seen), one))
    kept = []
    for piece in pieces:
        covered = sum(
            any(
                length > len(piece.seen) and _overlap(one.box, other.box, True) > 0.5
                for frame in range(one.frame - 2, one.frame + 3)
                for length, other in boxes.get(frame, ())
            )
            for one in piece.seen
        )
        if len(piece.seen) >= MIN_FRAMES or 2 * covered < len(piece.seen):
            kept.append(piece)
    return kept
