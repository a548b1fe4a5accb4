"""The losses of unannotated video: flow, texture, detected keypoints."""

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flowhmr.body import COCO_17, BodyModel, Mesh
from flowhmr.bodyflow import body_flow
from flowhmr.cameras import Crop, between_crops, project_weak, sample_map
from flowhmr.flow import FlowPair, RaftFlow, resize_pair
from flowhmr.geometry import map_tensors
from flowhmr.losses import (
    FlowTerms,
    Objective,
    flow_terms,
    keypoint_terms,
    texture_terms,
    weigh,
)
from flowhmr.networks import ContextHmr, Hmr, HmrOutput, context_vectors
from flowhmr.raster import visible_vertices
from flowhmr.records import Clip
from flowhmr.training.config import TrainConfig


@dataclass(frozen=True, eq=False)
class VideoLosses:
    """What a batch of unannotated video says of a network."""

    objectives: dict[str, Objective]
    """Weighted terms, by name."""
    facts: dict[str, Float[Tensor, ""]]
    """Measures for the log; no gradient."""


AT_ONCE = 16
"""Pairs of frames between which flow is estimated at once."""


def with_flow(clip: Clip, estimator: RaftFlow | None) -> Clip:
    """A batch ``[p, n]`` of windows with the flow that its workers left to be estimated.

    Args:
        clip: the batch; one that has its flow is returned as it is.
        estimator: on the device of the run.
    """
    if clip.flow_frames is None or estimator is None:
        return clip
    size_px = clip.frames.shape[-1]
    found = [
        resize_pair(estimator.pairs(part), size_px, size_px)
        for part in clip.flow_frames.flatten(0, 1).split(AT_ONCE)
    ]
    maps = (
        torch.cat([getattr(pair, f.name) for pair in found]).unflatten(
            0, clip.flow_frames.shape[:2]
        )
        for f in fields(FlowPair)
    )
    return replace(clip, flow=FlowPair(*maps), flow_frames=None)


def estimate_video(
    network: Hmr | ContextHmr, clip: Clip, frames: Float[Tensor, "p n 3 s s"]
) -> HmrOutput:
    """Bodies in all frames of a batch ``[p, n]``, in a row.

    Where the clip has what was before each frame, a network with temporal context is told what it
    says itself of these frames alone, without gradient (of4hmr, Eq. 5).

    Args:
        network: in the state in which it is to be used.
        clip: the batch.
        frames: its frames as the network sees them (with colour noise).
    """
    if clip.before is None or not isinstance(network, ContextHmr):
        return network(frames.flatten(0, 1))
    earlier = clip.before.frames.flatten(0, 1)
    with torch.no_grad():
        alone = context_vectors(network(earlier.flatten(0, 1)).estimate)
    # PyTorch before 2.11 would use the weights that it has just cast again, without gradient.
    torch.clear_autocast_cache()
    before = alone.unflatten(0, earlier.shape[:2])
    return network.conditioned(
        network.hmr.encode(frames.flatten(0, 1)), before, clip.before.count.flatten()
    )


def video_losses(
    output: HmrOutput,
    clip: Clip,
    body: BodyModel,
    vertex_weights: Float[Tensor, "v"],
    config: TrainConfig,
) -> VideoLosses:
    """All losses of a batch ``[p, n]`` of windows; ``output`` has their frames in a row.

    Args:
        output: of the network.
        clip: frames, crops and flow; keypoints if they have a weight.
        body: whose parameters these are.
        vertex_weights: what each vertex counts.
        config: weights and settings.

    Raises:
        ValueError: a weight asks for what the clip does not have.
    """
    size_px, n = clip.frames.shape[-1], clip.frames.shape[1]
    estimate = output.estimate
    mesh = body.mesh(estimate.params)
    seen = _seen_vertices(output, mesh, clip, body, config)
    flow = _link_terms(seen, clip, body, vertex_weights, config)
    objectives = {"video": weigh(flow, config.flow)}
    facts = {
        "flow_kept": flow.kept.float().mean(),
        "disagreement_px": flow.disagreement_px.mean(),
        "image_flow_px": flow.image_flow_px.mean(),
    }
    if config.texture.texture:
        flat_px = seen.verts_px.flatten(0, 1).detach()
        visible = visible_vertices(flat_px, body.faces, size_px, size_px).unflatten(0, (-1, n))
        visible = visible if seen.on_body is None else visible & seen.on_body
        points_px = seen.verts_px[..., :2]
        texture = texture_terms(
            points_px, visible, clip.frames, vertex_weights, config.texture_loss
        )
        objectives["texture"] = weigh(texture, config.texture)
    if config.keypoints.keypoints2d:
        if clip.detected_px is None:
            raise ValueError(
                "keypoints: got video without detected keypoints; expected some, since their "
                f"weight is {config.keypoints.keypoints2d}; give --people.keypoints or a detector, "
                "or set the weight to 0"
            )
        joints_m = body.keypoints(mesh, COCO_17)
        points_px = project_weak(joints_m, estimate.camera, size_px)[..., :2]
        detected_px = clip.detected_px.flatten(0, 1)
        found = keypoint_terms(points_px, detected_px, size_px, config.keypoint_loss)
        objectives["keypoints"] = weigh(found, config.keypoints)
        facts["keypoints_apart_px"] = found.apart_px.mean()
    return VideoLosses(objectives, facts)


def video_terms(
    output: HmrOutput,
    clip: Clip,
    body: BodyModel,
    vertex_weights: Float[Tensor, "v"],
    config: TrainConfig,
) -> FlowTerms:
    """The flow loss between neighbours of each window, ``[p (n - 1)]``; see `video_losses`.

    Each frame is estimated in its own crop; both bodies are compared in the flow's window.
    """
    seen = _seen_vertices(output, body.mesh(output.estimate.params), clip, body, config)
    return _link_terms(seen, clip, body, vertex_weights, config)


@dataclass(frozen=True, eq=False)
class _SeenVertices:
    verts_px: Float[Tensor, "p n v 3"]
    on_body: Bool[Tensor, "p n v"] | None


def _seen_vertices(
    output: HmrOutput, mesh: Mesh, clip: Clip, body: BodyModel, config: TrainConfig
) -> _SeenVertices:
    """The vertices in each frame's own crop, and where the network sees a body itself."""
    size_px, n = clip.frames.shape[-1], clip.frames.shape[1]
    verts_px = project_weak(mesh.verts, output.estimate.camera, size_px)
    on_body = None
    if config.on_body and output.surface is not None:
        flat_px = verts_px[..., :2].detach()
        rest_m = body.v_template
        on_body = where_body(output.surface, flat_px, size_px, rest_m, config.on_part_m)
        on_body = on_body.unflatten(0, (-1, n))
    return _SeenVertices(verts_px.unflatten(0, (-1, n)), on_body)


def _link_terms(
    seen: _SeenVertices,
    clip: Clip,
    body: BodyModel,
    vertex_weights: Float[Tensor, "v"],
    config: TrainConfig,
) -> FlowTerms:
    if clip.flow is None or clip.flow_crop is None:
        raise ValueError("got pairs without flow; expected batches of a PairBatches")
    first, second = slice(None, -1), slice(1, None)
    ends = [
        between_crops(seen.verts_px[:, k], _frames(clip.crop, k), clip.flow_crop).flatten(0, 1)
        for k in (first, second)
    ]
    moved = body_flow(ends[0], ends[1], body.faces, clip.flow_crop.size_px)
    if seen.on_body is not None:
        both = (seen.on_body[:, first] & seen.on_body[:, second]).flatten(0, 1)
        moved = replace(moved, visible=moved.visible & both)
    flow = map_tensors(clip.flow, lambda t: t.flatten(0, 1))
    return flow_terms(moved, flow, vertex_weights, config.flow_loss)


def _frames(crop: Crop, k: slice) -> Crop:
    return map_tensors(crop, lambda t: t[:, k])


def where_body(
    surface: Float[Tensor, "b 4 h w"],
    points_px: Float[Tensor, "b v 2"],
    size_px: int,
    rest_m: Float[Tensor, "v 3"] | None = None,
    near_m: float = 0.0,
) -> Bool[Tensor, "b v"]:
    """Points at which a network's surface map (`HmrOutput.surface`) sees a body.

    Args:
        surface: the map.
        points_px: vertices, pixels of the crop.
        size_px: of the crop.
        rest_m: the same vertices in the rest pose.
        near_m: only where what the map sees there is, in the rest pose, at most this far from the
            vertex; 0: any part of the body will do.
    """
    cells = points_px * (surface.shape[-1] / size_px)
    seen = sample_map(surface.detach().float().movedim(1, -1), cells)
    on_body = seen[..., 3] > 0
    if not near_m or rest_m is None:
        return on_body
    low, high = rest_m.amin(0), rest_m.amax(0)
    apart_m = (seen[..., :3] * (high - low) + low - rest_m).norm(dim=-1)
    return on_body & (apart_m <= near_m)


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
