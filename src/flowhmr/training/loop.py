"""The training loop: pre-training, refinement and fitting are one loop with different parts."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import astuple, replace

import cv2
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from flowhmr.body import BodyModel, BodyParams
from flowhmr.bodyflow import body_flow
from flowhmr.cameras import WeakCamera, between_crops, project_weak, sample_map
from flowhmr.evaluation import Estimator
from flowhmr.geometry import map_tensors, to_device
from flowhmr.losses import (
    FlowTerms,
    Objective,
    PredictedMaps,
    anchor_terms,
    flow_terms,
    supervised_terms,
    weigh,
)
from flowhmr.networks import Hmr, HmrOutput
from flowhmr.records import Clip, Estimate
from flowhmr.training.config import TrainConfig
from flowhmr.training.run import Run
from flowhmr.training.state import TrainState


def train(
    config: TrainConfig,
    network: Hmr,
    body: BodyModel,
    stills: Dataset | None,
    pairs: Dataset | None,
    run: Run,
    device: torch.device,
) -> Hmr:
    """Train ``network`` and return it (averaged, if the config asks for that), in eval mode.

    Continues from the run folder's checkpoint if there is one: killed and resumed, a run ends
    with the weights it would have had.

    Args:
        config: the run.
        network: where to start; left untouched.
        body: the body the network estimates.
        stills: batches ``[b, 1]`` of labelled crops, by number; None when ``config.batch`` is 0.
        pairs: batches ``[p, 2]`` of pairs with flow; None when ``config.pairs`` is 0.
        run: folder, log, checkpoints.
        device: where to compute.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    body = body.to(device)
    state = TrainState(config, network, device)
    start = run.resume(state)
    labelled = batches(stills, start, config) if stills is not None and config.batch else None
    unlabelled = batches(pairs, start, config) if pairs is not None and config.pairs else None
    vertex_weights = surface_weights(body)

    for step in run.progress(start, config.steps):
        state.begin_step(step)
        objectives: dict[str, Objective] = {}
        facts: dict[str, float] = {}

        if labelled is not None:
            clip = to_device(next(labelled), device)
            labelled_pass = frozen_statistics if config.frozen else nullcontext
            with labelled_pass(state.network), state.autocast():
                output = state.network(clip.frames[:, 0])
            if clip.labels is None:
                raise ValueError("got stills without labels; expected batches of a StillBatches")
            labels = map_tensors(clip.labels, lambda t: t[:, 0])
            joints_m = body.joints(output.estimate.params)
            size_px = clip.frames.shape[-1]
            maps = PredictedMaps(output.heatmap_logits, output.surface)
            terms = supervised_terms(output.estimate, joints_m, maps, labels, size_px)
            objectives["supervised"] = weigh(terms, config.supervised)

        if unlabelled is not None:
            clip = to_device(next(unlabelled), device)
            frames = colour_noise(clip.frames, config.colour_noise)
            with frozen_statistics(state.network), state.autocast():
                output = state.network(frames.flatten(0, 1))
            video = video_terms(output, clip, body, vertex_weights, config)
            objectives["video"] = weigh(video, config.flow)
            facts |= {
                "flow_kept": float(video.kept.float().mean()),
                "disagreement_px": float(video.disagreement_px.mean()),
                "image_flow_px": float(video.image_flow_px.mean()),
            }
            if any(astuple(config.anchor)):
                with torch.no_grad(), state.autocast():
                    initial = state.initial(clip.frames.flatten(0, 1)).estimate
                objectives["anchor"] = weigh(anchor_terms(output.estimate, initial), config.anchor)

        scale = {"supervised": config.supervised_scale, "video": 1.0, "anchor": 1.0}
        total = torch.stack([scale[k] * o.total for k, o in objectives.items()]).sum()
        state.update(total)
        for objective in objectives.values():
            facts |= objective.logged
        run.log(step, {"total": float(total.detach()), **facts}, state)

    return state.result()


def video_terms(
    output: HmrOutput,
    clip: Clip,
    body: BodyModel,
    vertex_weights: Float[Tensor, "v"],
    config: TrainConfig,
) -> FlowTerms:
    """The flow loss of a batch of pairs; ``output`` has both frames of each pair in a row.

    Each frame is estimated in its own crop; both bodies are compared in the flow's window.
    """
    if clip.flow is None or clip.flow_crop is None:
        raise ValueError("got pairs without flow; expected batches of a PairBatches")
    size_px = clip.frames.shape[-1]
    estimate = output.estimate
    verts_px = project_weak(body.mesh(estimate.params).verts, estimate.camera, size_px)
    in_window_px = between_crops(verts_px.unflatten(0, (-1, 2)), clip.crop, clip.flow_crop)
    moved = body_flow(in_window_px[:, 0], in_window_px[:, 1], body.faces, clip.flow_crop.size_px)
    if config.on_body and output.surface is not None:
        seen = where_body(output.surface, verts_px[..., :2].detach(), size_px)
        moved = replace(moved, visible=moved.visible & seen[0::2] & seen[1::2])
    flow = map_tensors(clip.flow, lambda t: t[:, 0])
    return flow_terms(moved, flow, vertex_weights, config.flow_loss)


def where_body(
    surface: Float[Tensor, "b 4 h w"], points_px: Float[Tensor, "b v 2"], size_px: int
) -> Bool[Tensor, "b v"]:
    """Points at which a network's surface map (`HmrOutput.surface`) sees a body."""
    logit = surface.detach().float()[:, 3:].movedim(1, -1)
    cells = points_px * (surface.shape[-1] / size_px)
    return sample_map(logit, cells)[..., 0] > 0


def surface_weights(body: BodyModel) -> Float[Tensor, "v"]:
    """The rest pose's surface that each vertex stands for, mean 1.

    Half of the open body's vertices are in head, hands and feet; without weights they would have
    half of the say.
    """
    corners = body.v_template[body.faces]
    sides = corners[:, 1:] - corners[:, :1]
    area = torch.linalg.cross(sides[:, 0], sides[:, 1]).norm(dim=-1) / 2
    share = torch.zeros(len(body.v_template), device=area.device, dtype=area.dtype)
    share.index_add_(0, body.faces.flatten().long(), area.repeat_interleave(3) / 3)
    return (share / share.mean()).float()


def colour_noise(frames: UInt8[Tensor, "*b 3 s s"], strength: float) -> Float[Tensor, "*b 3 s s"]:
    """Each frame's channels times U(1 - strength, 1 + strength), in [0, 1] (of4hmr, section 5)."""
    factor = 1 + strength * (2 * torch.rand(*frames.shape[:-2], 1, 1, device=frames.device) - 1)
    return (frames / 255 * factor).clamp(0, 1)


@contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Batch norm as at test time, and its statistics left alone; dropout off.

    The video's statistics are not those of the labelled frames, and two almost equal frames are
    no batch.
    """
    was = [(m, m.training) for m in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in was:
            module.training = training


def batches(dataset: Dataset, start: int, config: TrainConfig) -> Iterator[Clip]:
    """Batch ``start`` and those after it, prepared ahead by worker processes."""
    rest = Subset(dataset, range(start, config.steps))
    loader = DataLoader(
        rest,
        batch_size=None,
        num_workers=config.workers,
        prefetch_factor=8 if config.workers else None,
        worker_init_fn=_quiet_worker,
    )
    return iter(loader)


def _quiet_worker(_: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def estimator_of(network: Hmr, device: torch.device, batch: int = 64) -> Estimator:
    """A network as `flowhmr.evaluation.Estimator`: frames of a clip ``[t]`` to estimates."""
    network = network.to(device).eval()

    @torch.no_grad()
    def estimate(clip: Clip) -> Estimate:
        parts = [network(f.to(device)).estimate for f in clip.frames.split(batch)]
        return _concatenate(parts)

    return estimate


def _concatenate(parts: list[Estimate]) -> Estimate:
    first = parts[0]
    rotmats = torch.cat([p.params.rotmats for p in parts]).cpu()
    betas = torch.cat([p.params.betas for p in parts]).cpu()
    camera = torch.cat([p.camera.params for p in parts]).cpu()
    return Estimate(BodyParams(rotmats, betas, first.params.body_id), WeakCamera(camera))
