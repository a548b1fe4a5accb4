"""Draws a stage in tensor operations, all frames at once, on any device; made for GPUs.

The readable twin of `flowhmr.synth.drawing`: the same maps but for rounding. The host waits for
the device where lists are made of what pixels show, where the rasteriser checks its input, and
where a super-pixel may hide somebody.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float32
from torch import Tensor

from flowhmr.body import BodyModel
from flowhmr.raster import Fragments, rasterise
from flowhmr.synth.drawing import (
    Drawing,
    Maps,
    find_occluder,
    media_drift,
    noise_volume,
    shadow_middle,
)
from flowhmr.synth.lighting import things_shadow
from flowhmr.synth.shading import SUPERSAMPLE
from flowhmr.synth.stage import Stage
from flowhmr.synth.tensors.flow import flow_between, pair_tensors
from flowhmr.synth.tensors.fused import fusing
from flowhmr.synth.tensors.light import ground_shadow
from flowhmr.synth.tensors.people import Cast, dress
from flowhmr.synth.tensors.shading import Paints, paint
from flowhmr.synth.tensors.things import SceneTensors, Seen, merge_body, scene_tensors, trace


@torch.no_grad()
def draw_torch(
    stage: Stage, body: BodyModel, device: torch.device | str, fused: bool = False
) -> Drawing:
    """Draw all frames of a stage on a device.

    Args:
        stage: the clip.
        body: the body its people have.
        device: where to draw, and where the drawing stays.
        fused: compile chains of operations: slow at first, then faster on a GPU.

    Raises:
        ValueError: clothes of a texture that the place does not have.
    """
    textures = len(stage.place.textures)
    if max(stage.fabrics) >= textures:
        raise ValueError(
            f"drawing: got fabrics {stage.fabrics} of {textures} textures; expected rows of the "
            "place's textures; paint the fabrics before the place is collected"
        )
    with fusing(fused):
        return _draw(stage, body, torch.device(device))


def _draw(stage: Stage, body: BodyModel, device: torch.device) -> Drawing:
    scene = scene_tensors(stage.place, stage.scene_shot, device)
    cast = dress(stage, body, device)
    # Large transfers before large computations: they would wait for these.
    paints = _paints(stage, cast)
    size = stage.config.size_px
    sketch = _sketch(scene, cast, size, 1)
    hidden = torch.zeros((len(stage), size, size), dtype=torch.bool, device=device)
    maps = _merge(sketch, cast, None)
    if stage.try_superpixel:
        subject = (maps.ids >= 0) & (maps.ids < len(cast.body.faces))
        mask = find_occluder(stage, subject.cpu().numpy())
        if mask is not None:
            hidden = torch.from_numpy(mask).to(device)
            maps = _merge(sketch, cast, hidden)
    fine_hidden = hidden.repeat_interleave(SUPERSAMPLE, 1).repeat_interleave(SUPERSAMPLE, 2)
    fine = _merge(_sketch(scene, cast, size, SUPERSAMPLE), cast, fine_hidden)
    images = paint(scene, cast, paints, Seen(fine.ids, fine.depth_m), fine.weights)
    flow, valid = _flows(stage, cast, maps)
    steps = len(stage) - 1
    return Drawing(
        images=images,
        maps=maps,
        forward=flow[:steps],
        backward=flow[steps:],
        forward_valid=valid[:steps],
        backward_valid=valid[steps:],
        hidden=hidden,
        dressed_cam=cast.dressed_cam,
    )


def _sketch(scene: SceneTensors, cast: Cast, size: int, scale: int) -> tuple[Seen, Fragments]:
    """Scene and people, each as if the others were not there."""
    side = size * scale
    return trace(scene, size, scale), rasterise(cast.seen_px(scale), cast.body.faces, side, side)


def _merge(
    sketch: tuple[Seen, Fragments], cast: Cast, hidden: Bool[Tensor, "t h w"] | None
) -> Maps:
    seen, bodies = sketch
    weights = torch.zeros((*seen.ids.shape, 3), device=seen.ids.device)
    faces = cast.body.faces
    for number, inverse_depth in enumerate((1 / cast.dressed_cam[..., 2])[:, :, faces]):
        seen, weights = merge_body(
            seen, weights, bodies.face_ids[number], bodies.barycentrics[number], inverse_depth,
            number * len(faces), hidden,
        )  # fmt: skip
    return Maps(seen.ids, seen.depth_m, weights)


def _paints(stage: Stage, cast: Cast) -> Paints:
    device, middle_m = cast.normals.device, shadow_middle(stage)
    everybody = cast.dressed_world.transpose(0, 1).flatten(1, 2)
    thrown = ground_shadow(stage.lighting, everybody, middle_m)
    standing = torch.from_numpy(things_shadow(stage.place, middle_m)).to(device)
    backdrop = None
    if stage.backdrop is not None:
        backdrop = torch.from_numpy(stage.backdrop.images).to(device).float() / 255
    return Paints(
        textures=torch.from_numpy(stage.place.textures).to(device),
        noise=torch.from_numpy(noise_volume()).to(device),
        light=torch.from_numpy(stage.lighting.table).to(device),
        shadow=1 - (1 - thrown) * (1 - standing),
        shadow_middle_m=middle_m,
        backdrop=backdrop,
    )


def _flows(
    stage: Stage, cast: Cast, maps: Maps
) -> tuple[Float32[Tensor, "p h w 2"], Bool[Tensor, "p h w"]]:
    """All frames to the next, then all but the first to the one before."""
    before = np.arange(len(stage) - 1)
    pairs = np.concatenate([np.stack([before, before + 1], 1), np.stack([before + 1, before], 1)])
    drift_px = np.array([media_drift(stage, *pair) for pair in pairs.tolist()]).reshape(-1, 3)
    tensors = pair_tensors(
        stage.place,
        stage.scene_shot,
        stage.shot,
        cast.dressed_cam,
        cast.body.faces,
        pairs,
        drift_px,
    )
    return flow_between(tensors, maps.ids, maps.depth_m, maps.weights)
