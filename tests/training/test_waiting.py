"""A step waits for no number from the device, and leaves alone what it cannot use."""

import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import BOTH, CPU, data, network
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import Dataset

import flowhmr
from flowhmr.body import open_body
from flowhmr.losses import AnchorWeights, NonFiniteLoss, TextureWeights
from flowhmr.records import Clip
from flowhmr.training import Run, train
from flowhmr.training.state import TrainState

PACKAGE = Path(flowhmr.__file__).parent
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2")
"""Operations whose result the host needs: on a GPU it waits for all that was asked before."""
CHECKED = ("losses/objective.py", "raster/inputs.py")
"""Look at tensors on the CPU alone. That they are heard shows that others would be."""


class Waits(TorchDispatchMode):
    """Notes which files of the package wait for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.files: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        chosen = args[1] if name.startswith("index") and isinstance(args[1], list | tuple) else ()
        by_mask = any(isinstance(i, Tensor) and i.dtype == torch.bool for i in chosen)
        if name in WAITING or by_mask:
            places = [Path(f.filename) for f in traceback.extract_stack()]
            inside = [
                p.relative_to(PACKAGE).as_posix() for p in places if p.is_relative_to(PACKAGE)
            ]
            self.files |= set(inside[-1:])
        return func(*args, **(kwargs or {}))


class Steps(Run):
    """A run that listens to all steps but the first and the last."""

    def __init__(self, folder: Path, config: Any):
        super().__init__(folder, config, {})
        self.waits = Waits()

    def progress(self, start: int, steps: int):
        for step in super().progress(start, steps):
            if 0 < step < steps - 1:
                with self.waits:
                    yield step
            else:
                yield step


class Ready(Dataset):
    """Batches that need no more work."""

    def __init__(self, batches: list[Clip]):
        self.batches = batches

    def __getitem__(self, number: int) -> Clip:
        return self.batches[number]


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_no_step_waits_for_the_device(tmp_path, pool, video, average):
    config = replace(
        BOTH, steps=3, texture=TextureWeights(1.0), anchor=AnchorWeights(1.0, 1.0, 1.0),
        optimiser=replace(BOTH.optimiser, average=average, clip_norm=0.5), workers=0,
        log_every=100, checkpoint_every=100,
    )  # fmt: skip
    listening = Steps(tmp_path, config)
    stills, pairs = (Ready([drawn[k] for k in range(3)]) for drawn in data(config, pool, video))
    train(config, network(), open_body(), stills, pairs, listening, CPU)
    assert listening.waits.files == set(CHECKED)


def unusable(state: TrainState) -> Tensor:
    """A finite loss whose gradient is not."""
    return (0 * state.network.regressor.camera.bias).abs().sum().sqrt()


def test_a_gradient_that_is_not_finite_changes_nothing(tmp_path):
    config = replace(BOTH, optimiser=replace(BOTH.optimiser, average=0.9))
    state = TrainState(config, network(), CPU)
    state.update(state.network.regressor.camera.bias.square().sum())
    before = {k: v.clone() for k, v in state.network.state_dict().items()}
    log = Run(tmp_path, config, {})
    found = state.update(unusable(state))
    assert torch.isfinite(found["total"])
    assert not torch.isfinite(found["gradient"])
    assert all(torch.equal(v, before[k]) for k, v in state.network.state_dict().items())
    with pytest.raises(NonFiniteLoss, match=r"gradient: got nan .* is intact"):
        log.log(config.log_every - 1, found, state)
    assert not log.checkpoint.exists()


def test_a_gradient_is_logged_as_long_as_it_was_before_clipping():
    config = replace(BOTH, optimiser=replace(BOTH.optimiser, clip_norm=0.01))
    state = TrainState(config, network(), CPU)
    bias = state.network.regressor.camera.bias
    found = state.update(3 * bias[0] + 4 * bias[1])
    assert float(found["gradient"]) == pytest.approx(5)
