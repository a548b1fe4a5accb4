"""Batches for flow networks: by number, and still true after crops, zooms and mirrors."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from flowhmr.data import FlowBatches, FlowDataConfig
from flowhmr.records import FlowExample
from flowhmr.synth import FlowClipConfig, FlowClipPool
from flowhmr.synth import flow_clips as module

CLIPS = FlowClipConfig(replace(FlowClipConfig().clips, size_px=96, frames=5), frames=3, reach=2)
PLAIN = FlowDataConfig(
    CLIPS, 2, size_px=64, zoom=(1.0, 1.0), flip=0.0, colour=0.0, colour_apart=0.0, degrade=0.0,
    erase=0.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> Iterator[FlowClipPool]:
    """Two clips."""
    folder: Path = tmp_path_factory.mktemp("flow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK", 2)
        yield FlowClipPool(CLIPS, 2, folder, workers=1)


def batches(pool: FlowClipPool, config: FlowDataConfig, seed: int = 0) -> FlowBatches:
    return FlowBatches(pool, config, 4, seed, 10)


def differences(example: FlowExample) -> tuple[float, float]:
    """Grey levels between the first frame and the second, brought back by the flow; and as it is.

    Where the flow is known and larger than a pixel.
    """
    here, back, still = [], [], []
    for frames, flow, known in zip(example.frames, example.flow_px, example.known):
        first, second = frames.permute(0, 2, 3, 1).numpy()
        y, x = np.mgrid[: flow.shape[0], : flow.shape[1]].astype(np.float32)
        dx, dy = flow.numpy()[..., 0], flow.numpy()[..., 1]
        seen = cv2.remap(second, x + dx, y + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        inside = (x + dx > 1) & (x + dx < x.max() - 1) & (y + dy > 1) & (y + dy < y.max() - 1)
        where = known.numpy() & inside & (np.hypot(dx, dy) > 1)
        here.append(first[where].astype(float))
        back.append(seen[where].astype(float))
        still.append(second[where].astype(float))
    kept = np.concatenate(here)
    assert len(kept) > 500
    return (
        float(np.abs(np.concatenate(back) - kept).mean()),
        float(np.abs(np.concatenate(still) - kept).mean()),
    )


@pytest.mark.parametrize(
    "changed",
    [
        {}, {"flip": 1.0}, {"zoom": (0.7, 0.7)}, {"zoom": (1.6, 1.6)},
        {"zoom": (1.4, 1.4), "flip": 1.0},
    ],
    ids=str,
)  # fmt: skip
def test_the_flow_still_says_where_things_go(pool: FlowClipPool, changed: dict) -> None:
    """In crops, mirrored and zoomed, forth and back in time."""
    drawn = batches(pool, replace(PLAIN, **changed))
    parts = [drawn[i] for i in range(3)]
    example = FlowExample(*(torch.cat(v) for v in zip(*(vars(p).values() for p in parts))))
    back, still = differences(example)
    assert back < 0.6 * still


def test_a_mirrored_zoomed_pair_moves_the_other_way_and_as_much_further(
    pool: FlowClipPool,
) -> None:
    """The same crops: mirrored, and twice as large out of half the side."""
    plain = batches(pool, PLAIN)[0]
    mirrored = batches(pool, replace(PLAIN, flip=1.0))[0]
    assert torch.equal(mirrored.frames, plain.frames.flip(-1))
    assert torch.equal(mirrored.known, plain.known.flip(-1))
    assert torch.equal(mirrored.flow_px, plain.flow_px.flip(-2) * torch.tensor([-1.0, 1.0]))


def test_batches_follow_from_their_number(pool: FlowClipPool) -> None:
    config = FlowDataConfig(CLIPS, 2, size_px=80, zoom=(0.9, 1.2))
    drawn, again = batches(pool, config), batches(pool, config)
    for number in (3, 0):
        for one, other in zip(vars(drawn[number]).values(), vars(again[number]).values()):
            assert torch.equal(one, other)
    part = drawn.samples(3, range(1, 3))
    for some, all_of_it in zip(vars(part).values(), vars(drawn[3]).values()):
        assert torch.equal(some, all_of_it[1:3])
    assert not torch.equal(drawn[0].frames, drawn[1].frames)
    assert not torch.equal(drawn[0].frames, batches(pool, config, seed=1)[0].frames)


def test_colours_change_and_the_truth_does_not(pool: FlowClipPool) -> None:
    loud = replace(PLAIN, colour=0.4, colour_apart=0.2, degrade=1.0, erase=1.0)
    plain, varied = batches(pool, PLAIN)[0], batches(pool, loud)[0]
    assert not torch.equal(plain.frames, varied.frames)
    for name in ("flow_px", "known", "person"):
        assert torch.equal(getattr(plain, name), getattr(varied, name))


def test_crops_larger_than_the_clips_are_refused() -> None:
    with pytest.raises(ValueError, match=r"64 px, zoomed 0\.5 to 1\.0 times, out of clips of"):
        replace(PLAIN, zoom=(0.5, 1.0))
