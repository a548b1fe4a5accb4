"""The losses of networks over the static features of a video."""

from dataclasses import astuple, dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from flowhmr.body import BodyModel
from flowhmr.cameras import between_crops, project_weak
from flowhmr.geometry import map_tensors
from flowhmr.losses import (
    AccelerationWeights,
    AnchorWeights,
    DiscriminatorWeights,
    Objective,
    PredictedMaps,
    RasterFlowConfig,
    RasterFlowTerms,
    RasterFlowWeights,
    RealismWeights,
    SupervisedTerms,
    SupervisedWeights,
    acceleration_terms,
    anchor_terms,
    discriminator_terms,
    gradient_colours,
    raster_flow_terms,
    realism_terms,
    supervised_terms,
    weigh,
)
from flowhmr.networks import (
    BodyHead,
    MotionDiscriminator,
    MotionDiscriminatorConfig,
    TemporalOutput,
    windows_around,
)
from flowhmr.records import FeatureClip, Labels, known_bodies, without_unknown
from flowhmr.training.config import LoopConfig


@dataclass(frozen=True)
class TemporalLoopConfig(LoopConfig):
    """The training loop; ``batch`` counts clips."""

    weights: SupervisedWeights = field(default_factory=SupervisedWeights)
    """Of the losses; the defaults are TCMR's and VIBE's too (2D 300, 3D 300, pose 60, shape .06)
    with HMR's guard on the camera."""
    anchor: AnchorWeights = field(default_factory=lambda: AnchorWeights(0.0, 0.0, 0.0))
    """Pull of bodies to what the single-frame network says of the same features: not in the papers;
    keeps a network over the features of few clips from learning their people by heart."""
    anchor_reach: int = 0
    """Frames to either side over which that is averaged, so that its jumps are not learnt."""
    acceleration: AccelerationWeights = field(default_factory=AccelerationWeights)
    """Of joints; for networks that say consecutive frames, as are the next."""
    realism: RealismWeights = field(default_factory=RealismWeights)
    """Of a motion discriminator, which learns beside the network at the same rate, from the true
    motions of the same clips."""
    discriminator: MotionDiscriminatorConfig = field(default_factory=MotionDiscriminatorConfig)
    """Its architecture."""
    raster: RasterFlowWeights = field(default_factory=lambda: RasterFlowWeights(0.0))
    """Of the raster flow loss, on one pair of neighbouring frames of each clip."""
    raster_loss: RasterFlowConfig = field(default_factory=RasterFlowConfig)
    """How bodies are compared with flow."""
    keypoint_share: float = 0.0
    """Share of clips with 2D keypoints alone, where video has such. What asks for bodies weighs as
    much more in the others."""

    def __post_init__(self) -> None:
        if not 0 <= self.keypoint_share < 1:
            raise ValueError(
                f"keypoint_share: got {self.keypoint_share}; expected 0 or more, and less than 1"
            )

    @property
    def rarer(self) -> float:
        """How much more what asks for bodies weighs."""
        return 1 / (1 - self.keypoint_share)

    @property
    def scaled(self) -> SupervisedWeights:
        """The weights of the losses, for batches of which `keypoint_share` has no bodies."""
        w, more = self.weights, self.rarer
        return replace(w, joints=w.joints * more, pose=w.pose * more, shape=w.shape * more)


def temporal_objectives(
    output: TemporalOutput,
    clip: FeatureClip,
    body: BodyModel,
    config: TemporalLoopConfig,
    alone: BodyHead | None = None,
) -> list[Objective]:
    """What labels, and the single-frame network, say of a network's bodies.

    Args:
        output: of the network.
        clip: what it was asked.
        body: the body that it estimates.
        config: weights.
        alone: the single-frame network's regressor, where the anchor has a weight.

    Raises:
        ValueError: clips without labels, or a weight on consecutive frames for a network that
            does not say such.
    """
    objectives = [weigh(temporal_terms(output, clip, body), config.scaled)]
    if alone is not None and any(astuple(config.anchor)):
        with torch.no_grad():
            held = alone(averaged(clip.features, config.anchor_reach)[:, list(output.frames)])
        found, held = (map_tensors(e, lambda t: t.flatten(0, 1)) for e in (output.estimate, held))
        objectives.append(weigh(anchor_terms(found, held), config.anchor))
    if config.acceleration.acceleration:
        labels = _consecutive_labels(output, clip)
        joints_m = body.joints(output.estimate.params)
        terms = acceleration_terms(joints_m, labels.joints_m)
        share = _known_motion(labels) * config.rarer
        terms = replace(terms, acceleration=terms.acceleration * share)
        objectives.append(weigh(terms, config.acceleration))
    if config.raster.raster_flow:
        raster = raster_terms(output, clip, body, config.raster_loss)
        objectives.append(weigh(raster, config.raster))
    return objectives


def averaged(features: Float[Tensor, "b t f"], reach: int) -> Float[Tensor, "b t f"]:
    """Each frame's features averaged with those around it; at the ends the last is repeated.

    Args:
        features: of consecutive frames.
        reach: frames to either side; 0 changes nothing.
    """
    rows = windows_around(features.shape[1], reach, reach).to(features.device)
    return features[:, rows].mean(2)


def raster_terms(
    output: TemporalOutput, clip: FeatureClip, body: BodyModel, config: RasterFlowConfig
) -> RasterFlowTerms:
    """The raster flow loss of each clip's pair of frames, drawn in the flow's window.

    Raises:
        ValueError: clips without flow, or a network that does not say consecutive frames.
    """
    if clip.link is None:
        raise ValueError("raster flow: got clips without flow; expected batches with links")
    begin = _begin(output)
    link, pairs = clip.link, torch.stack([clip.link.first, clip.link.first + 1], 1) - begin
    rows = torch.arange(len(pairs), device=pairs.device)[:, None]
    # Both frames of all pairs in a row; then side by side again.
    found = map_tensors(output.estimate, lambda t: t[rows, pairs].flatten(0, 1).float())
    verts_px = project_weak(body.mesh(found.params).verts, found.camera, clip.size_px)
    window = map_tensors(link.window, lambda t: t[:, None])
    seen_px = between_crops(verts_px.unflatten(0, (-1, 2)), link.crops, window)
    colours = gradient_colours(body.v_template)
    return raster_flow_terms(seen_px[:, 0], seen_px[:, 1], body.faces, colours, link.flow, config)


def adversarial_objectives(
    output: TemporalOutput,
    clip: FeatureClip,
    discriminator: MotionDiscriminator,
    config: TemporalLoopConfig,
) -> list[Objective]:
    """The network's objective and the discriminator's; neither has a gradient to the other.

    Args:
        output: of the network.
        clip: what it was asked; its labels are the true motion.
        discriminator: on the same device.
        config: weights.

    Raises:
        ValueError: as `temporal_objectives`.
    """
    labels = _consecutive_labels(output, clip)
    true = labels.params.rotmats
    made = output.estimate.params.rotmats
    # What a score depends on is settled when it is computed.
    discriminator.requires_grad_(False)
    fooled = realism_terms(discriminator(made))
    discriminator.requires_grad_(True)
    share = _known_motion(labels) * config.rarer
    learnt = discriminator_terms(discriminator(true), discriminator(made.detach()), share)
    return [weigh(fooled, config.realism), weigh(learnt, DiscriminatorWeights())]


def _consecutive_labels(output: TemporalOutput, clip: FeatureClip) -> Labels:
    """The truth ``[b n]`` about the frames of a network that says one after the other; zeros for
    bodies that are not known."""
    begin = _begin(output)
    if clip.labels is None:
        raise ValueError("got clips without labels; expected some to learn from")
    rows = slice(begin, begin + len(output.frames))
    return without_unknown(map_tensors(clip.labels, lambda t: t[:, rows]))


def _known_motion(labels: Labels) -> Float[Tensor, "b"]:
    """1 for clips of which all bodies are known, else 0."""
    known = known_bodies(labels)
    return known.all(1).to(labels.joints_m.dtype)


def _begin(output: TemporalOutput) -> int:
    """The first of the consecutive frames of a network's bodies."""
    frames = output.frames
    if frames != tuple(range(frames[0], frames[0] + len(frames))):
        raise ValueError(
            f"got bodies of the frames {frames} of a clip; expected consecutive ones; set the "
            "weights of acceleration, realism and raster flow to 0 for this network"
        )
    return frames[0]


def temporal_terms(output: TemporalOutput, clip: FeatureClip, body: BodyModel) -> SupervisedTerms:
    """The losses of all that a network said, ``[b n]`` one after the other.

    Raises:
        ValueError: clips without labels.
    """
    if clip.labels is None:
        raise ValueError("got clips without labels; expected some to learn from")
    rows = list(output.frames)
    found = map_tensors(output.estimate, lambda t: t.flatten(0, 1).float())
    labels = map_tensors(clip.labels, lambda t: t[:, rows].flatten(0, 1))
    joints_m = body.joints(found.params)
    return supervised_terms(found, joints_m, PredictedMaps(None, None), labels, clip.size_px)
