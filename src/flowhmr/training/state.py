"""What a checkpoint must hold for a resumed run to end where the interrupted one would have."""

import copy
import json
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from flowhmr.distributed import average_gradients, broadcast, whole_batch
from flowhmr.networks import ContextHmr, Hmr, HmrOutput
from flowhmr.training.config import LoopConfig, TrainConfig


class CheckpointError(ValueError):
    """A checkpoint that cannot be continued from."""


N = TypeVar("N", bound=nn.Module)


class LoopState(Generic[N]):
    """Network, optimiser, moving average and random state of a run.

    Args:
        config: the run's.
        network: where to start; copied.
        device: where to compute.
        fixed: says which parameters of the copy stay as they are.
    """

    def __init__(
        self,
        config: LoopConfig,
        network: N,
        device: torch.device,
        fixed: Callable[[N], Iterable[nn.Parameter]] = lambda network: (),
    ):
        torch.manual_seed(config.seed)
        self.config, self.device = config, device
        self.network = copy.deepcopy(network).to(device).train().requires_grad_(True)
        for parameter in fixed(self.network):
            parameter.requires_grad_(False)
        self.average = self._frozen(network) if config.optimiser.average else None
        self._averaged = self._tensors_of(self.average) if self.average is not None else []
        self.parameters = {k: p for k, p in self.network.named_parameters() if p.requires_grad}
        # One kernel for all parameters: the others ask each of them how many steps it has made.
        self.optimiser = torch.optim.AdamW(
            self.parameters.values(),
            lr=config.optimiser.learning_rate,
            weight_decay=config.optimiser.weight_decay,
            fused=True,
        )

    def _frozen(self, network: N) -> N:
        return copy.deepcopy(network).to(self.device).eval().requires_grad_(False)

    def _tensors_of(self, average: N) -> list[tuple[Tensor, Tensor]]:
        """Each tensor of the average beside the network's; both are only ever changed in place."""
        return [
            *zip(average.state_dict().values(), self.network.state_dict().values(), strict=True)
        ]

    def begin_step(self, step: int) -> None:
        """Set the learning rate and the random state of a step."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.config, step)
        # One stream per step: what a step draws does not depend on where the run was resumed.
        torch.manual_seed(self.config.seed * 1_000_003 + step)

    @contextmanager
    def forward_pass(self) -> Iterator[None]:
        """How the network's forward pass runs: in mixed precision, if the config asks for it; on
        one of several processes, as on the whole batch."""
        mixed = self.config.precision == "bfloat16"
        precision = torch.autocast(self.device.type, torch.bfloat16) if mixed else nullcontext()
        with whole_batch(), precision:
            yield

    def update(self, loss: Float[Tensor, ""]) -> dict[str, Float[Tensor, ""]]:
        """One step of the optimiser, and of the average; the gradient is that of all processes.

        Where it is not finite, the weights stay as they are. Nothing waits for the device.

        Returns:
            For the log: the loss, and the length of its gradient before it is clipped.
        """
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(self.parameters.values())
        length = torch.nn.utils.clip_grad_norm_(
            list(self.parameters.values()), self.config.optimiser.clip_norm or math.inf
        )
        # As torch.amp.GradScaler tells a fused optimiser to leave a step out.
        setattr(self.optimiser, "found_inf", (~torch.isfinite(length)).float())  # noqa: B010
        self.optimiser.step()
        self._follow()
        return {"total": loss.detach(), "gradient": length}

    @torch.no_grad()
    def _follow(self) -> None:
        """The average goes a part of the way to where the network is."""
        follow = get_ema_multi_avg_fn(self.config.optimiser.average)
        moving = [pair for pair in self._averaged if pair[0].is_floating_point()]
        if moving:
            means, now = zip(*moving, strict=True)
            follow([*means], [*now], 0)
        for mean, now in self._averaged:
            if not mean.is_floating_point():
                mean.copy_(now)

    def result(self) -> N:
        """The network to use, in evaluation mode on the CPU."""
        chosen = self.average if self.average is not None else self.network
        return copy.deepcopy(chosen).cpu().eval().requires_grad_(True)

    def save(self, path: Path, step: int) -> None:
        """Write everything; ``step`` updates are done."""
        tensors = {
            f"{part}/{k}": v
            for part, module in self._modules().items()
            for k, v in module.state_dict().items()
        }
        for name, parameter in self.parameters.items():
            for key, value in self.optimiser.state.get(parameter, {}).items():
                tensors[f"optimiser/{name}/{key}"] = value
        # Tied or strided tensors are copied: safetensors refuses shared memory.
        tensors = {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}
        save_file(tensors, path, {"step": str(step), "config": json.dumps(asdict(self.config))})

    def load(self, path: Path) -> int:
        """Continue from a checkpoint; returns how many updates are done.

        Raises:
            CheckpointError: damaged, or of a run with another config.
        """
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata()
                tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise CheckpointError(
                f"{path}: got a damaged checkpoint ({error}); expected one this run wrote; delete "
                "it to start again"
            ) from error
        step = int(metadata["step"])
        # A setting younger than the checkpoint: its default is what was done before there was one.
        then = _plain(type(self.config)()) | json.loads(metadata["config"])
        now = _plain(self.config)
        if step <= min(_falls_from(then), _falls_from(now)):
            # Up to here the learning rate has been the same whatever the length.
            then |= {"steps": now["steps"]}
            then["optimiser"] |= {"decay": now["optimiser"]["decay"]}
        changed = [k for k in now if then.get(k) != now[k] and k not in _MAY_CHANGE]
        if changed:
            raise CheckpointError(
                f"{path}: got a run with other {', '.join(changed)}; expected the same settings "
                "to continue it; use them, or another --run folder"
            )
        for part, module in self._modules().items():
            prefix = f"{part}/"
            module.load_state_dict(
                {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
            )
        for name, parameter in self.parameters.items():
            prefix = f"optimiser/{name}/"
            entries = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
            if entries:
                # The fused kernel takes moments to lie in memory as their parameter does.
                moments = {k: torch.empty_like(parameter, requires_grad=False) for k in entries}
                moments["step"] = torch.empty_like(entries["step"], device=self.device)
                self.optimiser.state[parameter] = {
                    k: moments[k].copy_(v) for k, v in entries.items()
                }
        return step

    def spread(self) -> None:
        """Give all processes the networks of the first: theirs may differ in the last bit."""
        for module in self._modules().values():
            broadcast(module.state_dict().values())

    def _modules(self) -> dict[str, N]:
        modules = {"network": self.network}
        return modules if self.average is None else modules | {"average": self.average}


class TrainState(LoopState[Hmr | ContextHmr]):
    """The state of a run that has a teacher: the initial network, or the moving average.

    Args:
        config: the run's.
        network: where to start; copied.
        device: where to compute.
    """

    def __init__(self, config: TrainConfig, network: Hmr | ContextHmr, device: torch.device):
        def fixed(copied: Hmr | ContextHmr) -> Iterable[nn.Parameter]:
            hmr = copied.hmr if isinstance(copied, ContextHmr) else copied
            return hmr.backbone.early(config.fixed_levels)

        super().__init__(config, network, device, fixed)
        self.initial = self._frozen(network)
        self._from_average = config.teacher == "average"

    def teacher(self, frames: Tensor) -> HmrOutput:
        """What the anchor holds the video's estimates to."""
        average = self.average if self._from_average else None
        return (self.initial if average is None else average)(frames)

    def _modules(self) -> dict[str, Hmr | ContextHmr]:
        return super()._modules() | {"initial": self.initial}


# Settings that do not change what is computed.
_MAY_CHANGE = ("threads", "workers", "checkpoint_every", "log_every")


def _plain(config: LoopConfig) -> dict[str, Any]:
    """As it comes back from a checkpoint."""
    return json.loads(json.dumps(asdict(config)))


def _falls_from(config: dict[str, Any]) -> int:
    """The step from which the length of a run matters: its learning rate begins to fall."""
    return max(0, config["steps"] - config["optimiser"]["decay"])


def learning_rate(config: LoopConfig, step: int) -> float:
    """The learning rate of a step: linear warm-up, constant, then 1 - sqrt down to zero.

    The shape of the fall is that of Hägele et al., 2024 (arXiv 2405.18392): most of it comes early.
    """
    optimiser = config.optimiser
    rising = (step + 1) / max(1, optimiser.warmup)
    # Shorter runs fall all along: to begin in the middle of the fall would be to learn little.
    fallen = (step - _falls_from(asdict(config))) / max(1, min(optimiser.decay, config.steps))
    return optimiser.learning_rate * min(1.0, rising, 1 - math.sqrt(max(0.0, fallen)))
