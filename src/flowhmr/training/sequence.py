"""Refinement of the bodies of a video themselves, without a network (of4hmr, appendix G.2)."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import avg_pool1d

from flowhmr.body import COCO_17, BodyModel, BodyParams
from flowhmr.bodyflow import body_flow
from flowhmr.cameras import Crop, WeakCamera, between_crops, project_weak
from flowhmr.data import FlowSource, PairConfig
from flowhmr.flow import FlowPair
from flowhmr.geometry import collate, detach, map_tensors, pick, rotmat_from_axis_angle, to_device
from flowhmr.losses import (
    AnchorWeights,
    FlowLossConfig,
    FlowTerms,
    FlowWeights,
    KeypointLossConfig,
    KeypointWeights,
    anchor_terms,
    flow_terms,
    keypoint_terms,
    weigh,
)
from flowhmr.networks import ContextHmr, Hmr
from flowhmr.records import Estimate, Sequence
from flowhmr.training.refine import FLOW_LOSS
from flowhmr.training.video import surface_weights, where_body

SHAPE_SHARE = 0.1
"""Of a pull on the pose, what pulls the shape: the ratio of a and b in Eq. 8."""


@dataclass(frozen=True)
class SequenceFitConfig:
    """What the bodies of a video are fitted to, and how."""

    steps: int = 60
    """Updates of all bodies."""
    pose_rate: float = 0.02
    """Adam's first step of the joints' turns, radians; all rates fall to zero along a cosine, or
    the steps themselves would be seen as jitter."""
    shape_rate: float = 0.02
    """Adam's first step of the betas."""
    camera_rate: float = 0.01
    """Adam's first step of the cameras: crop half-widths, and those per metre for the scale."""
    flow: float = 0.1
    """Weight of the flow loss of each pair (Eq. 2)."""
    flow_loss: FlowLossConfig = FLOW_LOSS
    """How body flow and image flow are compared."""
    anchor: AnchorWeights = field(default_factory=lambda: AnchorWeights(30.0, 3.0, 30.0))
    """Pull of each frame to its first estimate (Eq. 8); the paper leaves the camera free."""
    smooth: float = 0.0
    """Pull of each frame's pose to its moving average, and a tenth of that of the shape; 0: off."""
    window: int = 30
    """Frames of that average, one half before and one half after each frame (as many as there are
    near the ends)."""
    keypoints: float = 0.0
    """Weight of detected keypoints; 0: off. Not in the paper."""
    keypoint_loss: KeypointLossConfig = field(default_factory=KeypointLossConfig)
    """How keypoints are compared."""
    one_shape: bool = False
    """One shape for all frames, from the mean of the first estimates; the paper lets each frame
    have its own."""
    pairs: PairConfig = field(default_factory=PairConfig)
    """Which frames are compared."""
    on_part_m: float = 0.25
    """Compare flows only where the network saw the vertex's own part of the body, to so many metres
    of the rest pose, if it has a surface map: beside the limb, or on another one, the flow is not
    the vertex's, and the limb would stop swinging. 0: everywhere, as in the paper."""
    chunk: int = 64
    """Pairs (or frames) whose meshes are in memory at a time; changes nothing but rounding."""

    def __post_init__(self) -> None:
        for name in ("steps", "window", "smooth", "keypoints", "flow"):
            if getattr(self, name) < 0:
                raise ValueError(
                    f"sequence fit, {name}: got {getattr(self, name)}; expected 0 or more"
                )
        if self.chunk < 1:
            raise ValueError(f"sequence fit, chunk: got {self.chunk}; expected 1 or more")


@dataclass(frozen=True, eq=False)
class FlowLinks:
    """Image flow between frames of one person's sequence."""

    indices: Int[Tensor, "m 2"]
    """From which frame to which, rows of the sequence."""
    flow: FlowPair
    """``[m]``, pixels of ``flow_crop``; what is not finite does not count."""
    flow_crop: Crop
    """The windows ``[m]`` in which the flow was seen, the same for both frames."""

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True, eq=False)
class SequenceFit:
    """Fitted bodies."""

    estimate: Estimate
    """Bodies and cameras ``[t]``, without gradient."""
    history: tuple[dict[str, float], ...]
    """Each term before weighing, mean over frames or pairs, before each step."""


def sequence_links(sequence: Sequence, size_px: int, source: FlowSource) -> FlowLinks:
    """The flow from each frame to the one that ``source`` compares it with.

    Near the end, where that one would lie beyond it, the last frame takes its place.

    Args:
        sequence: a person's images.
        size_px: of the windows: the crop of the estimates.
        source: its gap and reach say which frames are compared.
    """
    last = len(sequence) - 1
    cut = []
    for start in range(last):
        near = replace(source.config, gap=min(source.config.gap, last - start))
        cut.append(FlowSource(near, source.flow_between).link(sequence, start, size_px))
    if not cut:
        return _no_links(size_px)
    return FlowLinks(
        torch.tensor([[start, link.end] for start, link in enumerate(cut)]),
        collate([link.flow for link in cut]),
        collate([link.window for link in cut]),
    )


def _no_links(size_px: int) -> FlowLinks:
    none, map_px = torch.zeros(0), torch.zeros(0, size_px, size_px, 2)
    flow = FlowPair(map_px, map_px, map_px[..., 0].bool(), map_px[..., 0].bool())
    crop = Crop(torch.zeros(0, 2), none, none, none, size_px)
    return FlowLinks(torch.zeros(0, 2, dtype=torch.long), flow, crop)


@torch.no_grad()
def surface_of(
    network: Hmr | ContextHmr,
    frames: UInt8[Tensor, "t 3 s s"],
    device: torch.device,
    batch: int = 64,
) -> Float[Tensor, "t 4 h w"] | None:
    """A network's surface maps of some crops, for `fit_sequence`; None if it makes none."""
    network = network.to(device).eval()
    maps = [network(part.to(device)).surface for part in frames.split(batch)]
    return None if any(m is None for m in maps) else torch.cat([m for m in maps if m is not None])


def fit_sequence(
    estimate: Estimate,
    crops: Crop,
    links: FlowLinks,
    body: BodyModel,
    config: SequenceFitConfig,
    keypoints_px: Float[Tensor, "t 17 3"] | None = None,
    surface: Float[Tensor, "t 4 h w"] | None = None,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> SequenceFit:
    """Move the bodies of one person's video so that they move as the image does.

    Minimises, over all frames' poses, shapes and cameras at once, the flow loss of all pairs and
    the anchor of all frames (Eq. 8), summed, so that a frame's share does not depend on the length
    of the video. Deterministic. Frames that no pair holds stay at their first estimate.

    Args:
        estimate: first estimates ``[t]``, one for each frame.
        crops: the windows ``[t]`` that they belong to.
        links: image flow between these frames, in windows of the same images.
        body: whose parameters they are.
        config: weights and steps.
        keypoints_px: detected COCO keypoints, x and y in pixels of the crops, confidence 0..1.
            Missing ones may be NaN.
        surface: the network's surface maps of the frames (`HmrOutput.surface`), for
            ``config.on_part_m``.
        on_step: told (steps made, terms) after each step.

    Raises:
        BodyIdentityError: estimates of another body.
        ValueError: frames, crops, links and keypoints that do not belong together; a weight of
            keypoints without keypoints.
        NonFiniteLoss: the estimates have numbers that are not finite.
    """
    body.check_identity("sequence fit", estimate.params.body_id)
    count = _check(estimate, crops, links, config, keypoints_px)
    device = estimate.params.rotmats.device
    body, crops = body.to(device), to_device(crops, device)
    surface = None if surface is None else surface.to(device)
    links = _without_nan(to_device(links, device), config.flow_loss)
    vertex_weights = surface_weights(body)
    first = detach(estimate)
    bodies = _Bodies(first, config)
    frames, pairs = (torch.arange(n, device=device) for n in (count, len(links)))
    history = []

    for step in range(config.steps):
        bodies.begin_step(step / config.steps)
        sums = _Sums()
        # Each part has a graph of its own, so that its meshes can go before the next.
        sums.add(anchor_terms(bodies.estimate(), first), config.anchor, count, count)
        if config.smooth:
            now = bodies.estimate()
            pull = AnchorWeights(config.smooth, SHAPE_SHARE * config.smooth, 0.0)
            calm = anchor_terms(now, moving_average(detach(now), config.window))
            sums.add(calm, pull, count, count, "smooth")
        if config.flow and len(links):
            for part in pairs.split(config.chunk):
                terms = link_terms(
                    bodies.estimate(), crops, pick(links, part), body, vertex_weights,
                    config.flow_loss, surface, config.on_part_m,
                )  # fmt: skip
                sums.add(terms, FlowWeights(config.flow), len(part), len(links))
        if config.keypoints and keypoints_px is not None:
            for part in frames.split(config.chunk):
                one = pick(bodies.estimate(), part)
                points_m = body.keypoints(body.mesh(one.params), COCO_17)
                points_px = project_weak(points_m, one.camera, crops.size_px)[..., :2]
                detected_px = keypoints_px.to(device)[part]
                terms = keypoint_terms(points_px, detected_px, crops.size_px, config.keypoint_loss)
                sums.add(terms, KeypointWeights(config.keypoints), len(part), count)
        bodies.update()
        history.append(sums.means)
        if on_step is not None:
            on_step(step + 1, sums.means)
    return SequenceFit(detach(bodies.estimate()), tuple(history))


def link_terms(
    estimate: Estimate,
    crops: Crop,
    links: FlowLinks,
    body: BodyModel,
    vertex_weights: Float[Tensor, "v"],
    config: FlowLossConfig,
    surface: Float[Tensor, "t 4 h w"] | None = None,
    on_part_m: float = 0.0,
) -> FlowTerms:
    """The flow loss of each link, for bodies ``[t]`` estimated in the crops ``[t]``.

    See `fit_sequence`; ``surface`` and ``on_part_m`` say which vertices may count.
    """
    frames, rows = links.indices.unique(return_inverse=True)
    seen = pick(estimate, frames)
    verts_px = project_weak(body.mesh(seen.params).verts, seen.camera, crops.size_px)
    windows = map_tensors(links.flow_crop, lambda t: t[:, None])
    in_window_px = between_crops(verts_px[rows], pick(crops, links.indices), windows)
    moved = body_flow(in_window_px[:, 0], in_window_px[:, 1], body.faces, windows.size_px)
    if surface is not None and on_part_m:
        flat_px, rest_m = verts_px[..., :2].detach(), body.v_template
        there = where_body(surface[frames], flat_px, crops.size_px, rest_m, on_part_m)[rows]
        moved = replace(moved, visible=moved.visible & there[:, 0] & there[:, 1])
    return flow_terms(moved, links.flow, vertex_weights, config)


@torch.no_grad()
def flow_disagreement(
    estimate: Estimate,
    crops: Crop,
    links: FlowLinks,
    body: BodyModel,
    config: SequenceFitConfig,
) -> Float[Tensor, "m"]:
    """Mean distance of body flow and image flow at the visible vertices, for each link.

    Pixels of the links' windows; NaN where the flow loss drops the pair. Arguments as in
    `fit_sequence`.
    """
    device = estimate.params.rotmats.device
    body, crops = body.to(device), to_device(crops, device)
    links = _without_nan(to_device(links, device), config.flow_loss)
    plain = body.v_template.new_ones(len(body.v_template))
    if not len(links):
        return plain[:0]
    apart_px = []
    for part in torch.arange(len(links), device=device).split(config.chunk):
        terms = link_terms(estimate, crops, pick(links, part), body, plain, config.flow_loss)
        apart_px.append(torch.where(terms.kept, terms.disagreement_px, torch.nan))
    return torch.cat(apart_px)


def moving_average(estimate: Estimate, window: int) -> Estimate:
    """Mean pose, shape and camera of the frames around each one.

    Rotations are averaged as rotations: the one that is nearest, in the squares of its entries, to
    those of the window.

    Args:
        estimate: of consecutive frames ``[t]``.
        window: how many, one half on each side of the frame itself; less at the ends.
    """
    import roma

    params = estimate.params
    mean_rotmats = roma.special_procrustes(_mean_around(params.rotmats, window))
    assert isinstance(mean_rotmats, Tensor)
    return Estimate(
        BodyParams(
            mean_rotmats,
            _mean_around(params.betas, window),
            params.body_id,
        ),
        WeakCamera(_mean_around(estimate.camera.params, window)),
    )


def _mean_around(values: Float[Tensor, "t *n"], window: int) -> Float[Tensor, "t *n"]:
    half = window // 2
    flat = values.flatten(1).T[None]
    mean = avg_pool1d(flat, 2 * half + 1, stride=1, padding=half, count_include_pad=False)
    return mean[0].T.reshape(values.shape)


class _Bodies:
    """The free variables: a turn of each joint from its first rotation, shapes, cameras."""

    def __init__(self, first: Estimate, config: SequenceFitConfig):
        self.first, self.config = first, config
        rotmats, betas = first.params.rotmats, first.params.betas
        start = betas.mean(0, keepdim=True) if config.one_shape else betas.clone()
        self.turns_rad = torch.zeros_like(rotmats[..., 0]).requires_grad_()
        self.betas = start.requires_grad_()
        self.camera = first.camera.params.clone().requires_grad_()
        free = (self.turns_rad, self.betas, self.camera)
        rates = (config.pose_rate, config.shape_rate, config.camera_rate)
        groups = [{"params": [v], "lr": r} for v, r in zip(free, rates, strict=True)]
        # Adam steps as far for rounding errors as for errors, down to its epsilon.
        self.adam = torch.optim.Adam(groups, eps=1e-5)
        self.rates = rates

    def estimate(self) -> Estimate:
        """Bodies and cameras ``[t]``, with gradient."""
        params = self.first.params
        rotmats = params.rotmats @ rotmat_from_axis_angle(self.turns_rad)
        betas = self.betas.expand_as(params.betas)
        return Estimate(BodyParams(rotmats, betas, params.body_id), WeakCamera(self.camera))

    def begin_step(self, done: float) -> None:
        """Gradients to zero, rates as they are when this share of the steps is done."""
        self.adam.zero_grad()
        for group, rate in zip(self.adam.param_groups, self.rates, strict=True):
            group["lr"] = rate * (1 + math.cos(math.pi * done)) / 2

    def update(self) -> None:
        """One step."""
        self.adam.step()


class _Sums:
    """What one step sums up: gradients of sums in the variables, means for the history."""

    def __init__(self) -> None:
        self.means: dict[str, float] = {}

    def add(self, terms: Any, weights: Any, part: int, whole: int, rename: str = "") -> None:
        """Terms of ``part`` of all ``whole`` frames or pairs."""
        objective = weigh(terms, weights)
        if objective.total.requires_grad:
            (objective.total * part).backward()
        for name, mean in objective.logged.items():
            name = name.replace("anchor", rename) if rename else name
            self.means[name] = self.means.get(name, 0.0) + float(mean) * part / whole


def _without_nan(links: FlowLinks, config: FlowLossConfig) -> FlowLinks:
    """Flow that is not finite made zero and invalid: NaN times nothing is NaN."""
    flow = links.flow
    known = [torch.isfinite(f).all(-1) for f in (flow.forward, flow.backward)]
    if all(bool(k.all()) for k in known):
        return links
    if not config.consistent:
        raise ValueError(
            "sequence fit: got flow that is not finite, with flow_loss.consistent off; expected "
            "finite flow: only the check of consistency leaves parts of a map out; switch it on"
        )
    forward, backward = (
        torch.where(k[..., None], f, 0.0) for k, f in zip(known, (flow.forward, flow.backward))
    )
    valid = flow.forward_valid & known[0], flow.backward_valid & known[1]
    return replace(links, flow=FlowPair(forward, backward, *valid))


def _check(
    estimate: Estimate,
    crops: Crop,
    links: FlowLinks,
    config: SequenceFitConfig,
    keypoints_px: Tensor | None,
) -> int:
    """How many frames there are."""
    shape = tuple(estimate.camera.params.shape)
    if len(shape) != 2 or shape[0] == 0 or crops.side_px.shape != shape[:1]:
        raise ValueError(
            f"sequence fit: got estimates of shape {shape[:-1]} and crops of shape "
            f"{tuple(crops.side_px.shape)}; expected one of each for each frame of one sequence, "
            "[t]; fit people and videos one by one"
        )
    count = shape[0]
    indices = links.indices
    bad = ((indices < 0) | (indices >= count)).any(-1) | (indices[:, 0] == indices[:, 1])
    if bool(bad.any()):
        raise ValueError(
            f"sequence fit: got flow from frame {indices[bad][0, 0]} to {indices[bad][0, 1]}; "
            f"expected two frames out of 0..{count - 1}; links count the rows of the estimates"
        )
    if not len(links) == len(links.flow.forward) == len(links.flow_crop.side_px):
        raise ValueError(
            f"sequence fit: got {len(links)} links with {len(links.flow.forward)} flows in "
            f"{len(links.flow_crop.side_px)} windows; expected one of each for each link"
        )
    if config.keypoints and keypoints_px is None:
        raise ValueError(
            f"sequence fit: got no keypoints for a weight of {config.keypoints}; expected those of "
            "each frame; detect them, or set the weight to 0"
        )
    if keypoints_px is not None and len(keypoints_px) != count:
        raise ValueError(
            f"sequence fit: got keypoints of {len(keypoints_px)} frames; expected {count}, "
            "confidence 0 where there are none"
        )
    return count
