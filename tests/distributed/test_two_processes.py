"""Two processes with halves of a batch do what one does with all of it; work is done once."""

from collections.abc import Sequence as Several
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.testing import assert_close

from flowhmr.body import open_body
from flowhmr.data import (
    FeatureConfig,
    FlowSource,
    PairConfig,
    StoredFeatures,
    StoredLinks,
)
from flowhmr.distributed import (
    average_gradients,
    is_first,
    leave,
    mean_of,
    own_rows,
    require_same,
    this_share,
    whole_batch,
)
from flowhmr.flow import DisFlow, estimate_pair
from flowhmr.records import Sequence
from flowhmr.synth import (
    ClipConfig,
    ExportConfig,
    PlaceConfig,
    PoolConfig,
    ShardClips,
    StillConfig,
    StillPool,
    SynthConfig,
    export_shards,
    render_clip,
)
from two_processes import on_two

POOL = PoolConfig(StillConfig(size_px=64), count=7, backgrounds=2, chunk=2)
SIZE = 32
EXPORT = ExportConfig(
    SynthConfig(frames=2, size_px=SIZE, place=PlaceConfig(textures=2)), count=5, per_shard=2
)


class Layers(nn.Module):
    """Norms and dropouts of several kinds."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.maps = nn.Sequential(
            nn.Conv2d(3, 6, 3), BatchNormAct2d(6), nn.Conv2d(6, 4, 3), nn.BatchNorm2d(4)
        )
        self.head = nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8, affine=False), nn.Dropout(0.5), nn.Linear(8, 2)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.maps(x).mean((-2, -1)))


@dataclass(frozen=True)
class Learnt:
    """What a few steps make of the layers."""

    outputs: Tensor
    gradients: list[Tensor]
    state: dict[str, Tensor]


def learn() -> Learnt:
    """Two steps on this process's rows of six samples, of which no two are alike."""
    layers = Layers()
    optimiser = torch.optim.SGD(layers.parameters(), 0.1)
    torch.manual_seed(6)
    whole = torch.randn(6, 3, 9, 9) * torch.arange(1.0, 7)[:, None, None, None] + 1
    wanted = torch.randn(6, 2)
    outputs = torch.empty(0)
    for step in range(2):
        torch.manual_seed(step)
        with whole_batch():
            outputs = layers(own_rows(whole))
        optimiser.zero_grad()
        (outputs - own_rows(wanted)).square().mean().backward()
        average_gradients(layers.parameters())
        optimiser.step()
    gradients = [p.grad for p in layers.parameters() if p.grad is not None]
    return Learnt(outputs.detach(), gradients, layers.state_dict())


def video() -> list[Sequence]:
    return [render_clip(ClipConfig(frames=3, size_px=48), i, open_body()) for i in range(5)]


@dataclass(frozen=True)
class Made:
    """What a process made of a work that is shared, and what it then found."""

    asked: list[str]
    found: Any


def made_features(folder: Path) -> Made:
    asked = []

    def source(frames: Tensor) -> Tensor:
        asked.append(str(int(frames.sum())))
        return frames.float().mean((-2, -1))

    config = FeatureConfig(occluded=0)
    store = StoredFeatures(source, "mean", config, video(), SIZE, folder / "features")
    return Made(asked, store.tables)


def made_links(folder: Path) -> Made:
    asked = []

    class Counted(FlowSource):
        def links(self, sequence: Sequence, size_px: int) -> list[Any]:
            asked.append(sequence.name)
            return super().links(sequence, size_px)

    estimator = DisFlow("fast")
    source = Counted(PairConfig(flow_px=SIZE), lambda a, b: estimate_pair(estimator, a, b))
    sequences = video()
    store = StoredLinks(source, "dis", sequences, SIZE, folder / "links", workers=1)
    return Made(asked, [store.link(s, 1, SIZE).flow.forward for s in sequences])


def made_pool(folder: Path) -> Made:
    heard: list[tuple[int, int]] = []
    pool = StillPool(POOL, folder, workers=1, on_progress=lambda *told: heard.append(told))
    return Made([str(told) for told in heard], [pool.rgba(i).copy() for i in range(len(pool))])


def made_shards(folder: Path) -> Made:
    heard: list[tuple[int, int]] = []
    export_shards(EXPORT, folder / "shards", on_progress=lambda *told: heard.append(told))
    clips = ShardClips(folder / "shards")
    return Made([str(told) for told in heard], [clips[i].images for i in range(len(clips))])


def message_of(work: Any) -> str:
    try:
        work()
    except ValueError as error:
        return str(error)
    return ""


def everything(folder: Path) -> dict[str, Any]:
    """All that is asked of a process, so that two of them are started once."""
    index = this_share().index
    return {
        "learnt": learn(),
        "mean": mean_of({"b": 1.0 + index, "a": 3.0}),
        "odd batch": message_of(lambda: this_share().rows(7, "train.batch")),
        "other value": message_of(lambda: require_same(index, "steps", "share the folder")),
        "features": made_features(folder),
        "links": made_links(folder),
        "pool": made_pool(folder),
        "shards": made_shards(folder),
        "first": is_first(),
        "left": (leave(), this_share().count),
    }


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    """For one process, for two."""
    return tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")


@pytest.fixture(scope="module")
def two(folders) -> list[dict[str, Any]]:
    return on_two(everything, folders[1], folders[1])


def test_norm_and_dropout_are_those_of_the_whole_batch(two):
    one, halves = learn(), [each["learnt"] for each in two]
    assert_close(torch.cat([half.outputs for half in halves]), one.outputs, rtol=1e-4, atol=1e-5)
    for half in halves:
        assert_close(half.gradients, one.gradients, rtol=1e-3, atol=1e-5)
        assert_close(half.state, one.state, rtol=1e-4, atol=1e-5)
    # To the bit: else they drift apart.
    for name, value in halves[0].state.items():
        assert torch.equal(value, halves[1].state[name]), name


def test_the_first_process_is_one_of_them_and_means_are_over_both(two):
    assert [each["first"] for each in two] == [True, False]
    assert [each["mean"] for each in two] == [{"b": 1.5, "a": 3.0}] * 2
    assert [each["left"] for each in two] == [(True, 1), (False, 1)]


def test_what_cannot_be_shared_says_so_in_both(two):
    for each in two:
        assert "train.batch: got 7" in each["odd batch"]
        assert "6 or 8" in each["odd batch"]
        assert "got [0, 1] in the 2 processes" in each["other value"]
        assert "share the folder" in each["other value"]


@pytest.mark.parametrize(("what", "make"), [("features", made_features), ("links", made_links)])
def test_each_sequence_is_prepared_by_one_process_and_found_by_both(two, folders, what, make):
    alone, shares = make(folders[0]), [each[what] for each in two]
    assert sorted(shares[0].asked + shares[1].asked) == sorted(alone.asked)
    assert [len(share.asked) for share in shares] == [3, 2]
    for share in shares:
        assert_close(share.found, alone.found, rtol=0, atol=0)


def test_each_chunk_of_stills_is_rendered_by_one_process_and_found_by_both(two, folders):
    alone, shares = made_pool(folders[0]), [each["pool"] for each in two]
    # Chunks of 2, 2, 2 and 1: the first and third, the second and fourth.
    assert [share.asked for share in shares] == [["(2, 4)", "(4, 4)"], ["(2, 3)", "(3, 3)"]]
    assert alone.asked[-1] == "(7, 7)"
    for share in shares:
        assert all((a == b).all() for a, b in zip(share.found, alone.found, strict=True))
    assert files(folders[0], "pool-*/*") == files(folders[1], "pool-*/*")


def test_each_shard_is_exported_by_one_process_and_the_index_names_all(two, folders):
    alone, shares = made_shards(folders[0]), [each["shards"] for each in two]
    # Two clips, two clips and one: the first and third, the second.
    assert [share.asked for share in shares] == [["(2, 5)", "(3, 5)"], ["(2, 5)"]]
    for share in shares:
        assert_close(share.found, alone.found, rtol=0, atol=0)
    assert files(folders[0], "shards/*") == files(folders[1], "shards/*")


def files(folder: Path, pattern: str) -> Several[tuple[str, bytes]]:
    return [(f.name, f.read_bytes()) for f in sorted(folder.glob(pattern))]
