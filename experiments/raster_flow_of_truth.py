"""Can the raster flow loss teach a network whose bodies have labels? What it says of the truth.

    python experiments/raster_flow_of_truth.py --network FILE  # run hpof-discriminator's

Neighbouring frames of validation clips, in the window that HPOF's light runs use. The loss of true
bodies under true flow is what clothes and the drawing cost; under estimated flow (DIS), what flow's
errors add. A network is taught only where its own bodies have more than that. Per pair, mean, in
the unit of the training's log:

truth     the labels' bodies under the best weak-perspective camera;
network   what the network says of the video;
still     what it says of the first frame, for both: what no motion at all would have.

Beside it, how far the network's joints are off in each frame, and how far in their motion from one
frame to the next, which is all that flow can see; and the cosine between the way in which the loss
turns the second frame's joints and the way to the truth, or to the first frame's own bodies moved
as the true ones move.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from flowhmr.body import BodyModel, open_body
from flowhmr.cameras import (
    Crop,
    WeakCamera,
    between_crops,
    fit_weak_camera,
    pixel_centres_px,
    project_weak,
    sample_map,
)
from flowhmr.cli.shared import default_cache
from flowhmr.data import PairConfig, frame_crops
from flowhmr.evaluation import Estimator
from flowhmr.flow import FlowPair
from flowhmr.geometry import (
    axis_angle_from_rotmat,
    map_tensors,
    pick,
    rotmat_from_axis_angle,
)
from flowhmr.losses import RasterFlowConfig, gradient_colours, raster_flow_terms
from flowhmr.networks import load_temporal
from flowhmr.records import Estimate, Sequence
from flowhmr.synth import ClipStore, SynthClip, load_split, split_spec
from flowhmr.training import estimator_of, flow_source, light_hpof, with_hpof_losses

CONFIG = with_hpof_losses(light_hpof())


def in_window(clip: SynthClip, frame: int, window: Crop) -> FlowPair:
    """The clip's own flow from a frame to the next, in a window of both."""
    centres_px = pixel_centres_px(window.size_px, window.size_px).reshape(1, -1, 2)
    seen_px = window.to_image(centres_px)
    zoom = window.size_px / window.side_px

    def read(maps: torch.Tensor) -> torch.Tensor:
        found = sample_map(maps[None, ..., None] if maps.dim() == 2 else maps[None], seen_px)
        return found.unflatten(1, (window.size_px, window.size_px))

    flow = pick(clip.flow, frame)
    ways = [read(f) * zoom for f in (flow.forward, flow.backward)]
    known = [read(v.float())[..., 0] > 0.99 for v in (flow.forward_valid, flow.backward_valid)]
    return FlowPair(*ways, *known)


def loss(found: Estimate, crops: Crop, window: Crop, flow: FlowPair, body: BodyModel) -> float:
    """Of the bodies in two frames, each in its own crop."""
    verts_px = project_weak(body.mesh(found.params).verts, found.camera, crops.size_px)
    seen_px = between_crops(verts_px, crops, window)
    terms = raster_flow_terms(
        seen_px[:1], seen_px[1:], body.faces, gradient_colours(body.v_template), flow,
        RasterFlowConfig(),
    )  # fmt: skip
    return terms.raster_flow.sum()


def cosines(
    said: Estimate, true: Estimate, crops: Crop, window: Crop, flow: FlowPair, body: BodyModel
) -> dict[str, float]:
    """Of the loss's pull on the second frame's joints with two ways that it could go."""
    turn = torch.zeros(24, 3, requires_grad=True)
    one, two = said.params.rotmats
    with torch.enable_grad():
        rotmats = torch.stack([one, two @ rotmat_from_axis_angle(turn)])
        found = replace(said, params=replace(said.params, rotmats=rotmats))
        (pull,) = torch.autograd.grad(-loss(found, crops, window, flow, body), turn)
    moved = one @ true.params.rotmats[0].mT @ true.params.rotmats[1]
    ways = {"to the truth": true.params.rotmats[1], "to the true motion": moved}
    out = {}
    for name, there in ways.items():
        way = axis_angle_from_rotmat(two.mT @ there)
        out[f"cosine {name}"] = float(torch.cosine_similarity(pull.flatten(), way.flatten(), 0))
    return out


def measure(
    sequence: Sequence, clip: SynthClip, estimator: Estimator, body: BodyModel, size_px: int
) -> list[dict[str, float]]:
    """All pairs of neighbours of one video."""
    crops = frame_crops(sequence, size_px)
    assert crops.labels is not None
    said, labels = estimator(crops), crops.labels
    camera = fit_weak_camera(labels.joints_m, labels.keypoints_px, size_px)
    true = Estimate(labels.params, WeakCamera(camera.params))
    pairs = PairConfig(gap=1, margin=CONFIG.features.margin, flow_px=CONFIG.flow_px)
    links = flow_source(pairs, CONFIG.flow, None)
    error_m = body.joints(said.params) - labels.joints_m
    rows = []
    for first in range(len(sequence) - 1):
        link = links.link(sequence, first, CONFIG.raster_px)
        window = map_tensors(link.window, lambda t: t[None])
        two = torch.tensor([first, first + 1])
        flows = {"dis": map_tensors(link.flow, lambda t: t[None]),
                 "true": in_window(clip, first, window)}  # fmt: skip
        bodies = {"truth": pick(true, two), "network": pick(said, two),
                  "still": pick(said, two[[0, 0]])}  # fmt: skip
        row = {
            f"{body_of}, {flow_of} flow": float(
                loss(found, pick(crops.crop, two), window, flow, body)
            )
            for flow_of, flow in flows.items()
            for body_of, found in bodies.items()
        }
        row["joints off (mm)"] = 1e3 * float(error_m[first].norm(dim=-1).mean())
        moved = error_m[first + 1] - error_m[first]
        row["their motion off (mm a frame)"] = 1e3 * float(moved.norm(dim=-1).mean())
        for name, flow in flows.items():
            ways = cosines(
                pick(said, two), pick(true, two), pick(crops.crop, two), window, flow, body
            )
            row |= {f"{way}, {name} flow": value for way, value in ways.items()}
        rows.append(row)
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--network", type=Path, required=True, help="of an HPOF run")
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--cache", type=Path, default=default_cache())
    options = parser.parse_args()
    body, both = open_body(), load_temporal(options.network)
    estimator = estimator_of(both, torch.device("cpu"))
    spec = replace(split_spec("val", "small"), count=options.clips)
    sequences, clips = ClipStore(spec, options.cache).sequences(), load_split("val", "small")
    rows = []
    with torch.no_grad():
        for number, sequence in enumerate(sequences):
            rows += measure(sequence, clips[number], estimator, body, both.hmr.size_px)
    print(f"{len(rows)} pairs of {len(sequences)} clips\n\n| | mean |\n|---|---|")
    for name in rows[0]:
        print(f"| {name} | {sum(row[name] for row in rows) / len(rows):.5f} |")


if __name__ == "__main__":
    main()
