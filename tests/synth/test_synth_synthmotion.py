"""The benchmark's splits: fixed, nested, apart from each other, checked at load."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from flowhmr.body import BodyModel
from flowhmr.synth import synthmotion
from flowhmr.synth.motion import load_motions
from flowhmr.synth.stage import SynthConfig, set_stage
from flowhmr.synth.synthmotion import (
    LABELLED_SHARES,
    SPLITS,
    TEST_MOVES,
    TRAIN_MOVES,
    VAL_MOVES,
    SynthClips,
    check_split,
    content_hash,
    fingerprint,
    load_split,
    split_spec,
)

UNLABELLED = ("studio", "street", "sport")


def test_every_split_has_a_record_in_both_sizes() -> None:
    for name in SPLITS:
        for size, width in (("small", 128), ("full", 224)):
            spec = split_spec(name, size)  # type: ignore[arg-type]
            entry = synthmotion._record()["splits"][f"{name}/{size}"]
            assert entry["definition"] == spec.definition()
            assert entry["count"] == spec.count
            assert spec.clips.size_px == width


@pytest.mark.parametrize("name", ["stills", "studio"])
def test_what_is_made_is_what_was_recorded(name: synthmotion.SplitName) -> None:
    clips = load_split(name)
    entry = synthmotion._record()["splits"][f"{name}/small"]
    assert len(clips) == entry["count"]
    assert fingerprint(clips[0]).keys() == entry["probes"][0].keys()


@pytest.mark.slow
@pytest.mark.parametrize("size", ["small", "full"])
@pytest.mark.parametrize("name", SPLITS)
def test_all_splits_are_as_recorded(
    name: synthmotion.SplitName, size: synthmotion.SizeName
) -> None:
    load_split(name, size)


def test_another_definition_is_refused() -> None:
    spec = split_spec("val")
    for changed in (
        replace(spec, count=61),
        replace(spec, clips=replace(spec.clips, occluder=0.5)),
    ):
        assert changed.definition() != spec.definition()
        with pytest.raises(ValueError, match="expected version"):
            check_split(changed, SynthClips(changed.clips, changed.count))


def test_other_pictures_under_the_same_definition_are_refused() -> None:
    spec = split_spec("stills")
    other = SynthClips(replace(spec.clips, seed=1), spec.count)
    with pytest.raises(ValueError, match="px and colours"):
        check_split(spec, other)


def test_labelled_shares_are_nested() -> None:
    spec = split_spec("stills")
    ranges = [spec.labelled(share) for share in LABELLED_SHARES]
    assert [len(r) for r in ranges] == [200, 400, 1_000, 2_000]
    assert all(set(a) < set(b) for a, b in pairwise(ranges))
    with pytest.raises(ValueError, match="expected one of"):
        spec.labelled(0.3)


def test_nothing_of_the_test_people_is_trained_on(body: BodyModel) -> None:
    assert not set(TRAIN_MOVES) & (set(TEST_MOVES) | set(VAL_MOVES))
    assert not set(TEST_MOVES) & set(VAL_MOVES)
    seeds = {split_spec(name).clips.seed for name in SPLITS}
    assert len(seeds) == len(SPLITS)
    textures = {n: split_spec(n).clips.place.texture_seed for n in SPLITS}
    assert textures["test"] not in [t for n, t in textures.items() if n != "test"]
    assert textures["val"] not in [t for n, t in textures.items() if n != "val"]
    recordings = {}
    for split in ("train", "val", "test"):
        names = [m.name for m in load_motions(split)]  # type: ignore[arg-type]
        recordings[split] = {n.partition("#")[0] for n in names}
    for name in SPLITS:
        clips = split_spec(name).clips
        own = name if name in ("val", "test") else "train"
        assert clips.motion.split == own
        for index in range(3):
            for part in set_stage(clips, index, body).actors[0].name.split(" then "):
                if not part.startswith("moves/"):
                    assert part.partition("#")[0] in recordings[own]
    assert not recordings["train"] & recordings["test"]
    assert not recordings["val"] & recordings["test"]


@pytest.mark.slow
def test_unlabelled_sets_differ_in_scene_motion_and_quality(body: BodyModel) -> None:
    def described(name: synthmotion.SplitName) -> dict[str, float]:
        clips = split_spec(name).clips
        stages = [set_stage(clips, i, body) for i in range(16)]
        return {
            "camera": float(np.mean([np.ptp(s.shot.rotmats, axis=0).max() for s in stages])),
            "indoors": float(np.mean([s.place.kind in ("room", "studio") for s in stages])),
            "quality": float(np.mean([s.sensor.quality for s in stages])),
            "motion": float(np.mean([
                s.actors[0].joints_world.diff(dim=0).norm(dim=-1).mean() for s in stages
            ])),
        }  # fmt: skip

    studio, street, sport = map(described, UNLABELLED)
    assert studio["camera"] == 0 < street["camera"]
    assert studio["indoors"] == 1
    assert street["indoors"] == 0
    assert studio["quality"] > street["quality"] > sport["quality"]
    assert sport["motion"] > 1.3 * studio["motion"]


def test_clips_by_number() -> None:
    clips = SynthClips(SynthConfig(size_px=32, frames=2), 3)
    assert len(clips) == 3
    assert content_hash(clips[2]) != content_hash(clips[1])
    for wrong in (3, -1):
        with pytest.raises(IndexError, match="expected 0 to 2"):
            clips[wrong]


def test_unknown_names() -> None:
    # Past the checks of the tests, which would refuse the names themselves.
    unchecked = split_spec.__wrapped__  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="expected one of"):
        unchecked("train", "small")
    with pytest.raises(ValueError, match="expected one of"):
        unchecked("val", "huge")
