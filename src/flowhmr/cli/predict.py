"""Bodies in an image or a video: an npz with poses, shapes and cameras, and an overlay."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image

from flowhmr.body import SMPL_24, BodyModel
from flowhmr.capture import bodies_along
from flowhmr.cli.shared import console, device_of, estimator_and_body, make_folder
from flowhmr.data import PeopleConfig, VideoFrame, open_video, people_of, write_video
from flowhmr.geometry import axis_angle_from_rotmat, pick
from flowhmr.records import Track
from flowhmr.view import bodies_in_image, draw_body, draw_joints

COLOURS = ((90, 170, 250), (250, 150, 80), (120, 210, 120), (220, 120, 220), (240, 220, 90))


@dataclass(frozen=True)
class Arguments:
    """Flags of ``flowhmr predict``."""

    source: tyro.conf.Positional[Path]
    """A video, an image, or a folder of images."""
    people: PeopleConfig = field(default_factory=PeopleConfig)
    """Where the people are in it."""
    out: Path = Path("out/predict")
    """Folder for the results."""
    network: Path | None = None
    """The network; the shipped one by default."""
    skeleton: bool = False
    """Draw the joints instead of the body."""
    device: str = "auto"
    """cpu, cuda or auto."""


def run(arguments: Arguments) -> None:
    """Estimate, write ``bodies.npz`` and ``overlay.mp4`` (or ``overlay.png``)."""
    device = device_of(arguments.device)
    network, body = estimator_and_body(arguments.network)
    with open_video(arguments.source) as video:
        tracks = people_of(video, arguments.people, device)
    make_folder(arguments.out)
    results = bodies_along(arguments.source, tracks, network, device)
    target = save_tracks(arguments.out / "bodies.npz", results, body)
    overlay = write_overlay(arguments.source, results, body, arguments.out, arguments.skeleton)
    console.print(f"bodies:  {target}\noverlay: {overlay}")


def save_tracks(path: Path, tracks: dict[int, Track], body: BodyModel) -> Path:
    """All people in one npz, keys ``<person>/<name>``.

    ``pose`` [t 72] axis-angle in radians, camera axes; ``betas`` [t k]; ``camera`` [t 3] weak
    perspective (s, tx, ty) of the crop; ``crop_centre_px`` [t 2], ``crop_side_px`` [t];
    ``frame`` [t], ``time_s`` [t]; ``joints_m`` [t 24 3]; ``joints_px`` [t 24 2] in the image.
    ``body_id`` names the body the numbers belong to.
    """
    arrays: dict[str, np.ndarray] = {"body_id": np.array(body.body_id), "format": np.array(1)}
    for person, track in tracks.items():
        params, camera = track.estimate.params, track.estimate.camera
        joints_m = body.joints(params)
        values = {
            "frame": track.frame_indices,
            "time_s": track.times_s,
            "pose": axis_angle_from_rotmat(params.rotmats).flatten(-2),
            "betas": params.betas,
            "camera": camera.params,
            "crop_centre_px": track.crop.centre_px,
            "crop_side_px": track.crop.side_px,
            "joints_m": joints_m,
            "joints_px": bodies_in_image(joints_m, camera, track.crop)[..., :2],
        }
        arrays |= {f"{person}/{k}": v.numpy() for k, v in values.items()}
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    return path


def write_overlay(
    source: Path, tracks: dict[int, Track], body: BodyModel, folder: Path, skeleton: bool
) -> Path:
    """The source with bodies over it: a PNG for an image, an MP4 for a video."""
    with open_video(source) as video:
        images = overlay_frames(video, tracks, body, skeleton)
        first = list(islice(images, 2))
        if len(first) == 1:
            target = folder / "overlay.png"
            Image.fromarray(first[0]).save(target)
            return target
        target = folder / "overlay.mp4"
        write_video(target, chain(first, images), video.fps)
        return target


def overlay_frames(
    video: Iterable[VideoFrame],
    tracks: dict[int, Track],
    body: BodyModel,
    skeleton: bool = False,
) -> Iterator[np.ndarray]:
    """Each image with everyone who is in it."""
    rows = {p: {int(f): i for i, f in enumerate(t.frame_indices)} for p, t in tracks.items()}
    for frame in video:
        image = frame.image
        for number, (person, track) in enumerate(tracks.items()):
            if frame.index not in rows[person]:
                continue
            one = pick(track, torch.tensor([rows[person][frame.index]]))
            mesh = body.mesh(one.estimate.params)
            if skeleton:
                joints = bodies_in_image(mesh.joints, one.estimate.camera, one.crop)
                image = draw_joints(image, joints[0, :, :2], SMPL_24)
            else:
                verts = bodies_in_image(mesh.verts, one.estimate.camera, one.crop)
                image = draw_body(image, verts[0], body.faces, COLOURS[number % len(COLOURS)])
        yield image
