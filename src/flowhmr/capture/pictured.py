"""Bodies that a network sees in the crops of people, and where they stand before the camera."""

from dataclasses import replace
from pathlib import Path

import torch

from flowhmr.body import BodyModel
from flowhmr.cameras import PerspectiveCamera, crop_from_box, project_weak, warp_image
from flowhmr.capture.taken import Start, before_pinhole
from flowhmr.data import PersonTrack, open_video
from flowhmr.geometry import pick
from flowhmr.networks import ContextHmr, Hmr, TemporalHmr
from flowhmr.records import Clip, PersonMotion, Track, gaps_in, join_estimates
from flowhmr.training import estimator_of

BATCH = 64


def bodies_along(
    source: Path,
    tracks: list[PersonTrack],
    network: Hmr | ContextHmr | TemporalHmr,
    device: torch.device,
) -> dict[int, Track]:
    """Bodies of each person, frame by frame; needs memory for crops only, not for the video.

    Args:
        source: the video.
        tracks: where people are in it.
        network: from crops to bodies.
        device: where to compute.

    Returns:
        By the number of the person; who is in no frame misses.
    """
    size_px = network.size_px
    estimator = estimator_of(network, device, BATCH)
    rows = {t.person: {int(f): i for i, f in enumerate(t.frame_indices)} for t in tracks}
    crops = {t.person: crop_from_box(t.boxes_px, size_px) for t in tracks}
    found: dict[int, list[tuple[int, float, torch.Tensor]]] = {t.person: [] for t in tracks}
    with open_video(source) as video:
        for frame in video:
            for person, row in rows.items():
                if frame.index in row:
                    crop = pick(crops[person], row[frame.index])
                    pixels = torch.from_numpy(warp_image(frame.image, crop).transpose(2, 0, 1))
                    found[person].append((frame.index, frame.time_s, pixels.contiguous()))
    results = {}
    for person, seen in found.items():
        if not seen:
            continue
        indices = torch.tensor([i for i, _, _ in seen])
        crop = pick(crops[person], torch.tensor([rows[person][int(i)] for i in indices]))
        clip = Clip(torch.stack([p for _, _, p in seen]), crop, labels=None, flow=None)
        times_s = torch.tensor([t for _, t, _ in seen])
        # A network that looks at several frames must not look across a gap.
        estimate = join_estimates([estimator(pick(clip, rows)) for rows in gaps_in(indices)])
        results[person] = Track(indices, times_s, crop, estimate)
    return results


def pictured(
    source: Path,
    starts: list[Start],
    network: Hmr | ContextHmr | TemporalHmr,
    camera: PerspectiveCamera,
    body: BodyModel,
    device: torch.device,
) -> list[Start]:
    """The same people, each with the motion that a network says of his crops.

    Args:
        source: the video.
        starts: people found in it.
        network: from crops to bodies.
        camera: of the video.
        body: the body that it estimates.
        device: where to compute.
    """
    body.check_identity("model", network.body_id)
    found = bodies_along(source, [start.track for start in starts], network, device)
    out = []
    for start in starts:
        track = start.track
        if track.person not in found:
            continue
        seen = found[track.person]
        motion = standing(seen, track.person, camera, body)
        kept = torch.isin(track.frame_indices, seen.frame_indices)
        out.append(replace(start, track=pick(track, kept), motion=motion))
    return out


def standing(seen: Track, person: int, camera: PerspectiveCamera, body: BodyModel) -> PersonMotion:
    """Bodies in crops, before the video's camera; all with the mean of their shapes.

    Rotations are copied. The middle of the joints comes to lie where the weak camera sees it, as
    far away as makes a metre there as large in the image.
    """
    betas = seen.estimate.params.betas
    shape = betas.mean(0).expand_as(betas).contiguous()
    params = body.params(seen.estimate.params.rotmats, shape)
    own_m = body.joints(params).mean(1)
    weak, crop = seen.estimate.camera, seen.crop
    seen_px = crop.to_image(project_weak(own_m[:, None], weak, crop.size_px)[..., :2])[:, 0]
    px_per_m = weak.scale.clamp(min=1e-3) * crop.side_px / 2
    where_m = before_pinhole(own_m, seen_px, px_per_m, camera)
    return PersonMotion(person, seen.frame_indices, params, where_m, torch.ones(len(where_m)))
