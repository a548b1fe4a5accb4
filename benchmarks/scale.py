"""What a plan for many GPUs needs and one CPU core can say: samples prepared a second, and bytes.

    python benchmarks/scale.py [--samples N]

Prints, for ResNet-50 at 224 px: parameters, bytes of the gradient that the processes add up at
each step, bytes of a checkpoint, and processor time for a labelled crop and for a pair of video
frames with stored flow. The processor time of one thread is taken, since this machine may be busy.
The plan is in docs/scale.md.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from flowhmr.body import open_body
from flowhmr.data import AugmentConfig, Batches, PairBatches, PairConfig, StillBatches
from flowhmr.networks import BackboneConfig, Hmr, HmrConfig, MeanParams
from flowhmr.synth import (
    ClipConfig,
    PoolConfig,
    StillConfig,
    StillPool,
    mean_rotmats,
    render_clip,
)
from flowhmr.training import OptimiserConfig, TrainConfig, flow_source
from flowhmr.training.state import TrainState

SIZE = 224


def processor_ms(prepare: Callable[[], object], samples: int) -> float:
    """Processor time of one sample, ms."""
    began = time.process_time()
    prepare()
    return 1e3 * (time.process_time() - began) / samples


def sizes(folder: Path) -> None:
    """Parameters and bytes of the single-frame network."""
    body = open_body()
    mean = MeanParams(mean_rotmats(), torch.zeros(body.num_betas), body.body_id)
    network = Hmr(HmrConfig(BackboneConfig("resnet50", size_px=SIZE)), mean)
    count = sum(p.numel() for p in network.parameters())
    config = TrainConfig(optimiser=OptimiserConfig(average=0.99))
    state = TrainState(config, network, torch.device("cpu"))
    for parameter in state.parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    state.optimiser.step()
    state.save(folder / "checkpoint", 1)
    print(f"parameters            {count / 1e6:8.1f} M")
    print(f"gradient              {count * 4 / 1e6:8.1f} MB")
    print(f"checkpoint            {(folder / 'checkpoint').stat().st_size / 1e6:8.1f} MB")


def loading(folder: Path, samples: int) -> None:
    """Processor time of a sample."""
    stills = PoolConfig(StillConfig(size_px=SIZE), count=8, backgrounds=8, chunk=8)
    pool = StillPool(stills, folder, workers=1)
    pairs = flow_source(PairConfig(flow_px=SIZE), "dis", folder)
    video = [render_clip(ClipConfig(frames=9, size_px=256), 0, open_body())]
    sets: dict[str, Batches] = {
        "labelled crop": StillBatches(pool, SIZE, samples, AugmentConfig(), 0, 2),
        "pair, flow stored": PairBatches(video, SIZE, samples, 0, 2, pairs),
    }
    for name, batches in sets.items():
        # Flow is estimated at the first look.
        first = processor_ms(lambda: batches[0], samples)  # noqa: B023
        again = processor_ms(lambda: batches[0], samples)  # noqa: B023
        print(f"{name:22}{again:8.1f} ms ({first:.1f} at first)")


def main() -> None:
    """Print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=32)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        sizes(Path(folder))
        loading(Path(folder), arguments.samples)


if __name__ == "__main__":
    main()
