"""A seeded sample of adults whose stature and body-mass index follow real populations."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from .bodies import DENSITY_KG_M3, BodyMaker, Phenotypes, batches, stature_m, volume_m3

_BATCH = 200
_TRIAL_HEIGHTS = (0.2, 0.6)
"""`Phenotypes.height` values between which stature is taken as linear."""


@dataclass(frozen=True)
class SexStatistics:
    """Distributions of one sex's adults."""

    stature_mean_m: float
    """Mean of the normal distribution of stature."""
    stature_sd_m: float
    """Its standard deviation."""
    bmi_median: float
    """Median of the log-normal distribution of body-mass index, kg/m^2."""
    bmi_log_sd: float
    """Standard deviation of the index's logarithm."""


MEN = SexStatistics(1.75, 0.075, 25.5, 0.16)
WOMEN = SexStatistics(1.62, 0.07, 24.8, 0.19)
YEARS = (18, 80)
CANDIDATES_PER_PERSON = 5


def sample_adults(maker: BodyMaker, count: int, rng: np.random.Generator) -> Phenotypes:
    """``count`` adults, half of them women (``count`` even).

    Candidates with broad phenotypes are resampled to the body-mass index of their sex, then their
    height is solved for a stature drawn from their sex's.
    """
    people, is_woman = _draw_candidates(count * CANDIDATES_PER_PERSON, rng)
    log_bmi = np.log(_body_mass_index(maker, people))
    chosen = [
        _resample(np.flatnonzero(is_woman == (sex is WOMEN)), log_bmi, sex, count // 2, rng)
        for sex in (MEN, WOMEN)
    ]
    order = rng.permutation(np.concatenate(chosen))
    people, is_woman = people.rows(order), is_woman[order]
    mean_m = np.where(is_woman, WOMEN.stature_mean_m, MEN.stature_mean_m)
    sd_m = np.where(is_woman, WOMEN.stature_sd_m, MEN.stature_sd_m)
    wanted_m = mean_m + sd_m * np.clip(rng.standard_normal(len(order)), -3, 3)
    return people.with_height(_height_for_stature(maker, people, wanted_m))


def _draw_candidates(
    count: int, rng: np.random.Generator
) -> tuple[Phenotypes, Bool[np.ndarray, "n"]]:
    """Adults with broad phenotypes, and which of them are women."""
    is_woman = rng.random(count) < 0.5
    ambiguity = rng.beta(1.2, 8, count)
    years = rng.uniform(*YEARS, count)
    race = rng.dirichlet([0.6] * 3, count)
    young, young_years, old_years = 2 / 3, 25, 90
    people = Phenotypes(
        gender=np.where(is_woman, 1 - ambiguity, ambiguity),
        age=young + np.clip(years - young_years, 0, None) / (old_years - young_years) / 3,
        muscle=rng.beta(1.3, 1.7, count),
        weight=rng.beta(1.2, 1.0, count),
        height=np.full(count, 0.4),
        proportions=rng.beta(2, 2, count),
        cupsize=rng.beta(2, 2, count),
        firmness=rng.beta(2, 2, count),
        race=race,
    )
    return people, is_woman


def _body_mass_index(maker: BodyMaker, people: Phenotypes) -> Float[np.ndarray, "n"]:
    """Mass of the rest body (at constant density) over stature squared, kg/m^2."""
    index = np.empty(len(people))
    for rows in batches(len(people), _BATCH):
        verts_m, _ = maker.make(people.rows(rows))
        mass_kg = volume_m3(verts_m, maker.skin.faces) * DENSITY_KG_M3
        index[rows] = mass_kg / stature_m(verts_m) ** 2
    return index


def _resample(
    candidates: np.ndarray,
    log_bmi: Float[np.ndarray, "n"],
    sex: SexStatistics,
    count: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """``count`` of the candidates, weighted from their own density of BMI to their sex's."""
    log_bmi = log_bmi[candidates]
    histogram, edges = np.histogram(log_bmi, 60, density=True)
    density = np.interp(log_bmi, (edges[1:] + edges[:-1]) / 2, histogram) + 1e-3
    deviation = (log_bmi - np.log(sex.bmi_median)) / sex.bmi_log_sd
    weights = np.exp(-0.5 * deviation**2) / density
    return rng.choice(candidates, count, replace=False, p=weights / weights.sum())


def _height_for_stature(
    maker: BodyMaker, people: Phenotypes, wanted_m: Float[np.ndarray, "n"]
) -> Float[np.ndarray, "n"]:
    """The ``height`` phenotype which gives each person the wanted stature, within [0, 1]."""
    low, high = _TRIAL_HEIGHTS
    height = np.empty(len(people))
    for rows in batches(len(people), _BATCH):
        some = people.rows(rows)
        low_m, high_m = (stature_m(maker.make(some.with_height(h))[0]) for h in _TRIAL_HEIGHTS)
        height[rows] = low + (high - low) * (wanted_m[rows] - low_m) / (high_m - low_m)
    return np.clip(height, 0, 1)
