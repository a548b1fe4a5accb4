"""Fine-tuning on own video: what a batch is made of, that it learns, that it can be killed."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_runs import BOTH, CPU, SIZE, network, same

from flowhmr.body import open_body
from flowhmr.data import AugmentConfig, OwnVideo, PairConfig, PseudoBatches
from flowhmr.geometry import map_tensors
from flowhmr.networks import load_hmr
from flowhmr.synth import ClipConfig, PoolConfig, StillConfig, render_clip
from flowhmr.training import AdaptConfig, OptimiserConfig, adapt
from flowhmr.training.adapt import BothBatches

BODY = open_body()
CONFIG = AdaptConfig(
    pool=PoolConfig(StillConfig(size_px=64), count=32, backgrounds=4, chunk=32),
    augment=AugmentConfig(),
    pairs=PairConfig(flow_px=64),
    flow="dis:fast",
    train=BOTH,
)


@pytest.fixture(scope="module")
def own() -> list[OwnVideo]:
    """Two people."""
    clips = [render_clip(ClipConfig(frames=5, size_px=96), i, BODY) for i in range(2)]
    return [OwnVideo(clip, torch.ones(5)) for clip in clips]


@pytest.fixture(scope="module")
def cache(pool) -> Path:
    """Where the stills are already."""
    return pool.folder.parent


def rows_of(folder: Path) -> list[list[str]]:
    lines = (folder / "losses.csv").read_text().splitlines()[1:]
    return [line.split(",")[2:] for line in lines]


def test_a_batch_is_one_sets_and_then_the_others(own):
    first, second = (
        PseudoBatches(own, BODY, SIZE, batch, AugmentConfig(), seed, 2)
        for batch, seed in ((3, 0), (2, 1))
    )
    both = BothBatches(first, second)[1]
    assert both.frames.shape == (5, 1, 3, SIZE, SIZE)
    parts = [torch.cat(pair) for pair in zip(*map(leaves, (first[1], second[1])), strict=True)]
    for whole, part in zip(leaves(both), parts, strict=True):
        assert torch.equal(whole, part)


def leaves(record) -> list[torch.Tensor]:
    out: list[torch.Tensor] = []
    map_tensors(record, lambda t: out.append(t) or t)
    return out


@pytest.mark.parametrize("own_share", [0.0, 1.5])
def test_shares_that_make_no_sense_are_refused(own_share):
    with pytest.raises(ValueError, match=f"got a share of {own_share} .* use `flowhmr fit`"):
        replace(CONFIG, own=own_share)
    with pytest.raises(ValueError, match="of 0 labelled crops"):
        replace(CONFIG, train=replace(BOTH, batch=0))


@pytest.mark.slow
def test_it_learns_what_the_labels_say(tmp_path, own, cache):
    train = replace(
        BOTH, steps=40, batch=8, pairs=0, log_every=10, optimiser=OptimiserConfig(3e-3),
        checkpoint_every=100,
    )  # fmt: skip
    plain = replace(AugmentConfig().at(0), ramp=10_000)
    config = replace(CONFIG, own=1.0, augment=plain, train=train)
    path = adapt(config, network(maps=True), BODY, own, tmp_path, cache, CPU)
    totals = [float(row[0]) for row in rows_of(tmp_path)]
    assert totals[-1] < 0.7 * totals[0]
    assert load_hmr(path).size_px == SIZE


@pytest.mark.slow
def test_a_killed_run_ends_where_the_whole_one_does(tmp_path, own, cache, monkeypatch):
    def run(folder: str):
        start = network()
        return load_hmr(adapt(CONFIG, start, BODY, own, tmp_path / folder, cache, CPU))

    whole = run("whole")
    draw = PseudoBatches.samples

    def fragile(self, number, rows):
        if number == 3:
            raise InterruptedError
        return draw(self, number, rows)

    monkeypatch.setattr(PseudoBatches, "samples", fragile)
    with pytest.raises(InterruptedError):
        run("killed")
    monkeypatch.undo()
    assert same(whole, run("killed"))
    assert rows_of(tmp_path / "whole") == rows_of(tmp_path / "killed")


@pytest.mark.slow
def test_stills_are_part_of_it(tmp_path, own, cache):
    """With no more than a share of own crops the weights are others, and none fails."""
    brief = replace(CONFIG, train=replace(BOTH, steps=1))
    mixed = adapt(brief, network(), BODY, own, tmp_path / "a", cache, CPU)
    alone = adapt(replace(brief, own=1.0), network(), BODY, own, tmp_path / "b", cache, CPU)
    assert not same(load_hmr(mixed), load_hmr(alone))
