"""Losses of bodies in consecutive frames (HPOF): acceleration, and the motion discriminator's."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from flowhmr.losses.motion import about_hips


@dataclass(frozen=True)
class AccelerationWeights:
    """The weight; its name is that of `AccelerationTerms`. HPOF has 60."""

    acceleration: float = 0.0
    """Acceleration of the joints."""


@dataclass(frozen=True, eq=False)
class AccelerationTerms:
    """One value per clip."""

    acceleration: Float[Tensor, "b"]
    """Squared difference of accelerations, coordinate by coordinate, (metres/frame^2)^2."""


def acceleration_terms(
    joints_m: Float[Tensor, "b n 24 3"], target_m: Float[Tensor, "b n 24 3"]
) -> AccelerationTerms:
    """How joints accelerate against how they should (Eq. 12), both about their own mid-hip.

    Args:
        joints_m: of the estimated bodies in consecutive frames, camera axes.
        target_m: of the true ones.

    Raises:
        ValueError: fewer than three frames.
    """
    if joints_m.shape[1] < 3:
        raise ValueError(
            f"acceleration: got {joints_m.shape[1]} frames; expected at least 3; use longer clips, "
            "or set its weight to 0"
        )
    off = about_hips(joints_m) - about_hips(target_m)
    return AccelerationTerms(off.diff(n=2, dim=1).square().mean((1, 2, 3)))


@dataclass(frozen=True)
class RealismWeights:
    """The weight; its name is that of `RealismTerms`. HPOF has .5."""

    realism: float = 0.0
    """Of passing for true motion; at 0 there is no discriminator."""


@dataclass(frozen=True, eq=False)
class RealismTerms:
    """One value per clip."""

    realism: Float[Tensor, "b"]
    """Squared distance of the discriminator's score from that of true motion."""


def realism_terms(made_scores: Float[Tensor, "b"]) -> RealismTerms:
    """What a network is told by the discriminator (Eq. 15).

    Args:
        made_scores: of its motions, with a gradient to them and none to the discriminator.
    """
    return RealismTerms((made_scores - 1).square())


@dataclass(frozen=True)
class DiscriminatorWeights:
    """The weight; its name is that of `DiscriminatorTerms`."""

    told_apart: float = 1.0
    """The discriminator learns by itself: only the rate matters."""


@dataclass(frozen=True, eq=False)
class DiscriminatorTerms:
    """One value per pair of a true and a made clip."""

    told_apart: Float[Tensor, "b"]
    """Squared distances of scores from 1 for true and 0 for made motion, together."""


def discriminator_terms(
    true_scores: Float[Tensor, "b"],
    made_scores: Float[Tensor, "b"],
    true_weights: Float[Tensor, "b"] | None = None,
) -> DiscriminatorTerms:
    """What the discriminator learns by (Eq. 14).

    Args:
        true_scores: of true motions.
        made_scores: of a network's, with no gradient to it.
        true_weights: what each of the true ones counts, 0 where the motion is not known; ones by
            default.
    """
    true = (true_scores - 1).square()
    return DiscriminatorTerms(
        (true if true_weights is None else true_weights * true) + made_scores.square()
    )
