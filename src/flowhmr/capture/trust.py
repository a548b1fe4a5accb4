"""Which bodies of a captured video can be trusted: those that agree with what the picture says."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from flowhmr.body import COCO_17, BodyModel
from flowhmr.cameras import PerspectiveCamera
from flowhmr.capture.engine import Captured
from flowhmr.capture.refine import LIMBS, Evidence
from flowhmr.records import PersonMotion, SceneMotion

_LIMB_KEYPOINTS = list(COCO_17.indices_of(LIMBS))


@dataclass(frozen=True)
class TrustConfig:
    """Which frames of a captured video count as labelled. Distances are pixels of a crop of 224."""

    seen: float = 0.7
    """Least share of the limbs' keypoints that must have been found."""
    sure: float = 0.3
    """Confidence from which a keypoint counts as found."""
    keypoints_px: float = 12.0
    """Largest mean distance of the body's joints from the keypoints."""
    flow_px: float = 6.0
    """Largest mean distance of the bones' motion from the flow; the last frame before a gap has no
    flow, and is judged by the keypoints alone."""


def trusted(found: Captured, body: BodyModel, config: TrustConfig) -> SceneMotion:
    """The scene with how much each body is trusted as its confidence.

    It is the mean confidence of the limbs' keypoints where they were found and body, keypoints and
    flow agree, else 0, as in frames that were filled in.

    Args:
        found: what was captured.
        body: of its people.
        config: what agreement is.
    """
    people = tuple(
        replace(
            person,
            confidence=_trust(
                person, found.evidence[person.person], found.scene.camera, body, config
            ),
        )
        for person in found.scene.people
    )
    return replace(found.scene, people=people)


def _trust(
    person: PersonMotion,
    evidence: Evidence,
    camera: PerspectiveCamera,
    body: BodyModel,
    config: TrustConfig,
) -> Float[Tensor, "t"]:
    joints_cam = body.joints(person.params) + person.translation_m[:, None]
    sure = evidence.keypoints_px[:, _LIMB_KEYPOINTS, 2]
    seen = (sure >= config.sure).float().mean(-1) >= config.seen
    near = evidence.apart_px(joints_cam, camera) <= config.keypoints_px
    # What is not known (NaN) does not count against a body.
    against = evidence.flow_apart_px(joints_cam, camera) > config.flow_px
    kept = seen & near & ~against & (person.confidence > 0)
    return torch.where(kept, sure.mean(-1), torch.zeros_like(sure[:, 0]))
