"""Our own file of a captured motion: versioned npz, every bit of a `SceneMotion` and back.

Keys (arrays; ``n`` frames of the video, ``t`` frames of a person, ``P`` the person's number):

``format``, ``version``        ``flowhmr-motion`` and 1
``body_id``                    whose betas these are
``size_px`` [2]                width and height of the images
``times_s`` [n]                when each frame of the video was taken
``camera/focal_px``, ``camera/centre_px`` [2]
``people``                     [p] numbers of the people
``P/frame`` [t]                frames of the video, increasing
``P/rotmats`` [t 24 3 3]       parent-relative rotations: what is read back, to the last bit
``P/betas`` [k]                shape, one a person
``P/translation_m`` [t 3]      what is added to the body's points, camera axes
``P/confidence`` [t]           0..1; 0 where filled in
``P/pose`` [t 72]              the same rotations as axis-angle; not read back
``P/joints_m`` [t 24 3]        joints in camera axes, translation included; not read back
``P/joints_px`` [t 24 2]       joints in the image; NaN behind the camera; not read back
"""

import io
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flowhmr.body import BodyModel, BodyParams
from flowhmr.cameras import PerspectiveCamera
from flowhmr.capture.export.readings import check_scene, readings, write_bytes
from flowhmr.records import PersonMotion, SceneMotion

FORMAT = "flowhmr-motion"
VERSION = 1
SIZES = {"n": "frames of the video", "t": "frames of the person", "k": "betas", "p": "people"}


class MotionFileError(ValueError):
    """A motion file that cannot be used; says why."""


def save_motion(path: Path | str, scene: SceneMotion, body: BodyModel) -> Path:
    """Write a motion as npz; the file appears when it is complete, its folder is made.

    Args:
        path: the file, by custom ``.npz``.
        scene: the motion, camera axes, metres.
        body: the body of its people.

    Returns:
        The path.

    Raises:
        BodyIdentityError: a person has another body.
        ValueError: numbers that are not finite, or a person whose shape changes.
        OSError: the file cannot be written; nothing is left behind.
    """
    check_scene(scene, body)
    arrays: dict[str, np.ndarray] = {
        "format": np.array(FORMAT),
        "version": np.array(VERSION),
        "body_id": np.array(body.body_id),
        "size_px": np.array(scene.size_px),
        "times_s": _array(scene.times_s),
        "camera/focal_px": _array(scene.camera.focal_px),
        "camera/centre_px": _array(scene.camera.centre_px),
        "people": np.array([p.person for p in scene.people], np.int64),
    }
    for person in scene.people:
        read = readings(person, scene, body)
        values = {
            "frame": person.frame_indices,
            "rotmats": person.params.rotmats,
            "betas": person.params.betas[0],
            "translation_m": person.translation_m,
            "confidence": person.confidence,
            "pose": read.pose,
            "joints_m": read.joints_m,
            "joints_px": read.joints_px,
        }
        arrays |= {f"{person.person}/{key}": _array(value) for key, value in values.items()}
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # pyright: ignore[reportArgumentType]
    return write_bytes(Path(path), content.getvalue())


def load_motion(path: Path | str) -> SceneMotion:
    """Read a motion back, equal to what was saved, on the CPU.

    The betas are those of the body named by ``params.body_id``; ``body.check_identity`` says
    whether a body is that one.

    Raises:
        MotionFileError (a ValueError): no such file, another format, a newer version, a damaged
            file, or arrays that do not fit together.
    """
    path = Path(path)
    try:
        return _scene(_read(path))
    except MotionFileError as error:
        raise MotionFileError(f"{path}: {error}") from error.__cause__
    except OSError as error:
        raise MotionFileError(
            f"{path}: got {error.strerror or error}; expected a motion file; check its name"
        ) from error


def _array(values: Tensor) -> np.ndarray:
    return values.detach().cpu().numpy()


def _read(path: Path) -> dict[str, np.ndarray]:
    remedy = "copy the file again, or write it anew with `flowhmr capture`"
    try:
        with zipfile.ZipFile(path) as archive:
            # Whole, and not by np.load: it stops before the end, where the checksum is compared.
            content = {name: archive.read(name) for name in archive.namelist()}
        arrays = {
            name.removesuffix(".npy"): np.load(io.BytesIO(array), allow_pickle=False)
            for name, array in content.items()
        }
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError) as error:
        raise MotionFileError(
            f"got a file that is no npz, or a damaged one ({error}); expected a file written by "
            f"save_motion; {remedy}"
        ) from error
    found = str(arrays.get("format", np.array("no format")))
    if found != FORMAT:
        keys = ", ".join(list(arrays)[:6]) or "none"
        raise MotionFileError(
            f"got an npz of format {found!r} with the keys {keys}; expected {FORMAT!r}, written "
            "by save_motion; give the motion file"
        )
    version = str(arrays.get("version", np.array("none")))
    if version != str(VERSION):
        raise MotionFileError(
            f"got version {version}; expected {VERSION}; the file comes from another version of "
            "flowhmr: read it with that one, or install it here"
        )
    return arrays


def _scene(arrays: dict[str, np.ndarray]) -> SceneMotion:
    sizes: dict[str, int] = {}
    body_id = str(_take(arrays, "body_id", "U", "", sizes))
    width, height = _take(arrays, "size_px", "i", "2", sizes).tolist()
    times_s = torch.from_numpy(_take(arrays, "times_s", "f", "n", sizes))
    camera = PerspectiveCamera(
        torch.from_numpy(_take(arrays, "camera/focal_px", "f", "", sizes)),
        torch.from_numpy(_take(arrays, "camera/centre_px", "f", "2", sizes)),
    )
    numbers = _take(arrays, "people", "i", "p", sizes).tolist()
    try:
        people = tuple(_person(arrays, number, body_id) for number in numbers)
        return SceneMotion(people, camera, (width, height), times_s)
    except MotionFileError:
        raise
    except ValueError as error:
        raise MotionFileError(str(error)) from error


def _person(arrays: dict[str, np.ndarray], number: int, body_id: str) -> PersonMotion:
    sizes: dict[str, int] = {}

    def take(key: str, kind: str, shape: str) -> Tensor:
        return torch.from_numpy(_take(arrays, f"{number}/{key}", kind, shape, sizes))

    frames = take("frame", "i", "t")
    rotmats = take("rotmats", "f", "t 24 3 3")
    betas = take("betas", "f", "k").expand(len(frames), -1).contiguous()
    return PersonMotion(
        person=number,
        frame_indices=frames,
        params=BodyParams(rotmats, betas, body_id),
        translation_m=take("translation_m", "f", "t 3"),
        confidence=take("confidence", "f", "t"),
    )


def _take(
    arrays: dict[str, np.ndarray], key: str, kind: str, shape: str, sizes: dict[str, int]
) -> np.ndarray:
    """An array of this kind (numpy's letter) and shape; named sizes must agree."""
    if key not in arrays:
        raise MotionFileError(
            f"got no {key!r}; expected it beside {', '.join(list(arrays)[:6])}; the file was "
            "changed by another program: write it anew"
        )
    array = arrays[key]
    expected = [int(word) if word.isdecimal() else sizes.get(word, word) for word in shape.split()]
    fits = array.ndim == len(expected) and array.dtype.kind == kind
    for size, wanted in zip(array.shape, expected) if fits else ():
        if isinstance(wanted, str):
            sizes[wanted] = size
        fits &= isinstance(wanted, str) or size == wanted
    if fits and kind == "f" and not np.isfinite(array).all():
        raise MotionFileError(
            f"got {key!r} with numbers that are not finite; expected none; the file was changed "
            "by another program: write it anew"
        )
    if not fits:
        names = [SIZES.get(word, word) if isinstance(word, str) else word for word in expected]
        raise MotionFileError(
            f"got {key!r} of shape {list(array.shape)} and type {array.dtype}; expected {names} "
            f"of numpy kind {kind!r}; the file was changed by another program: write it anew"
        )
    return array
