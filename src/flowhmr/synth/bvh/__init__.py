"""Users' own motion capture: BVH files -> `Motion`.

A file's skeleton is not ours: other names, more joints, another rest pose, other axes. What is
carried over is how each joint has turned away from a stance that both skeletons can take:

1. The file's reference pose is its rest pose if a body stands there (T-pose, A-pose, arms hanging),
   else the frame nearest to a T-pose.
2. Limb by limb, from the torso outwards, the smallest turns bring that reference into our T-pose.
   The torso and the head are taken to be upright in both, the soles flat on the floor.
3. Our joint's rotation is theirs away from the reference, after the turn back from our T-pose.
   Thighs, shins, upper arms and forearms thus point exactly where theirs point; the twist about
   them is theirs.

Our three spine joints are spread evenly over theirs, however many these are, and our neck lies
halfway between chest and head; what a joint of theirs without a counterpart does (fingers, twist
bones) is part of its ancestor.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from flowhmr.synth.bvh.files import BvhError, parse_bvh
from flowhmr.synth.bvh.retarget import Up, resample, retarget
from flowhmr.synth.motion import Motion


def read_bvh(
    path: str | Path,
    *,
    fps: float = 30.0,
    units_m: float | None = None,
    names: Mapping[str, str] | None = None,
    up: Up | None = None,
) -> Motion:
    """A BVH file as the motion of our body.

    Args:
        path: the file.
        fps: frames per second of the result; rotations are interpolated on their arcs.
        units_m: metres per unit of length in the file; positions then are the performer's own.
            None: what makes the file's legs (hip to knee to ankle) as long as the open body's, so
            that feet stand still on the open body whatever the file's unit and the performer's
            size.
        names: their joint name -> ours (one of ``SMPL_24.names``), for files whose names are not
            known or are taken wrongly. Unnamed joints go by the tables.
        up: the file's vertical axis. None: y, as the format has it, unless the skeleton stands
            along z.

    Returns:
        The motion; its name is the file's, its action the name without a number at the end. The
        midpoint of the hips is where the file has it.

    Raises:
        BvhError (a ValueError): no BVH file or a damaged one, joints missing, no reference pose,
            or options that do not fit.
    """
    path = Path(path)
    if not 0 < fps < float("inf"):
        raise BvhError(f"fps: got {fps}; expected a positive number")
    if up not in (None, "y", "z"):
        raise BvhError(f"up: got {up!r}; expected 'y', 'z' or None")
    file = resample(parse_bvh(path), fps)
    try:
        rotmats, trans_world_m = retarget(file, units_m, names, up)
    except BvhError as error:
        raise BvhError(f"{path}: {error}") from None
    action = re.sub(r"[\W\d_]+$", "", path.stem) or path.stem
    return Motion(rotmats.float(), trans_world_m.float(), float(fps), path.stem, action)


def load_bvh_folder(
    folder: str | Path,
    *,
    fps: float = 30.0,
    units_m: float | None = None,
    names: Mapping[str, str] | None = None,
    up: Up | None = None,
) -> tuple[Motion, ...]:
    """All ``.bvh`` files in a folder and in the folders below, by name; see `read_bvh`.

    Returns:
        At least one motion, named by its path in the folder without the ending.

    Raises:
        BvhError (a ValueError): no folder, no BVH files in it, or one that `read_bvh` refuses.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BvhError(f"{folder}: got no folder; expected one with .bvh files; check its name")
    inside = sorted(path for path in folder.rglob("*") if path.is_file())
    paths = [path for path in inside if path.suffix.lower() == ".bvh"]
    if not paths:
        shown = ", ".join(path.name for path in inside[:5]) + ", ..." * (len(inside) > 5)
        raise BvhError(
            f"{folder}: got {len(inside)} files ({shown or 'none'}), none of them .bvh; expected "
            "at least one; give the folder that holds the BVH files"
        )
    return tuple(
        replace(
            read_bvh(path, fps=fps, units_m=units_m, names=names, up=up),
            name=path.relative_to(folder).with_suffix("").as_posix(),
        )
        for path in paths
    )
