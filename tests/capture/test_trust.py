"""Trust: bodies that agree with keypoints and flow count, others do not."""

from dataclasses import replace

import pytest
import torch
from captured_people import BODY, captured_scene

from flowhmr.body import COCO_17
from flowhmr.capture import Captured, Evidence, GroundMotion, TrustConfig, trusted
from flowhmr.capture.refine import LIMBS, _bone_flow
from flowhmr.records import SceneMotion

LIMB_ROWS = list(COCO_17.indices_of(LIMBS))
CONFIG = TrustConfig()


def agreed(scene: SceneMotion) -> Captured:
    """A scene with evidence that says the same as its bodies."""
    evidence = {}
    for person in scene.people:
        mesh = BODY.mesh(person.params)
        moved_m = person.translation_m[:, None]
        mesh = replace(mesh, verts=mesh.verts + moved_m, joints=mesh.joints + moved_m)
        keypoints_px = scene.camera.project(BODY.keypoints(mesh, COCO_17))
        keypoints_px = torch.cat([keypoints_px[..., :2], torch.full((len(person), 17, 1), 0.8)], -1)
        flow_px = _bone_flow(scene.camera.project(mesh.joints)[..., :2])
        known = torch.cat([flow_px, torch.ones_like(flow_px[..., :1])], -1)
        ground = GroundMotion(torch.eye(3).expand(len(person), 3, 3), torch.ones(len(person)))
        evidence[person.person] = Evidence(
            keypoints_px,
            torch.cat([known, torch.zeros_like(known[:1])]),
            torch.full((len(person),), 224.0),
            torch.zeros(len(person), 4),
            ground,
        )
    return Captured(scene, evidence, {})


def sure(scene: SceneMotion) -> SceneMotion:
    people = (replace(p, confidence=torch.ones(len(p))) for p in scene.people)
    return replace(scene, people=tuple(people))


@pytest.fixture
def found() -> Captured:
    return agreed(sure(captured_scene({0: range(8), 3: (0, 1, 4, 5, 7)})))


def trust_of(found: Captured, person: int = 0) -> torch.Tensor:
    scene = trusted(found, BODY, CONFIG)
    return next(p.confidence for p in scene.people if p.person == person)


def changed(found: Captured, **values: torch.Tensor) -> Captured:
    """Other evidence of person 0."""
    return replace(found, evidence=found.evidence | {0: replace(found.evidence[0], **values)})


def test_what_agrees_is_trusted_as_the_keypoints_are(found):
    for person, frames in ((0, 8), (3, 5)):
        assert torch.allclose(trust_of(found, person), torch.full((frames,), 0.8))
    scene = trusted(found, BODY, CONFIG)
    assert torch.equal(scene.people[0].params.rotmats, found.scene.people[0].params.rotmats)


def test_frames_with_few_keypoints_are_left_out(found):
    keypoints_px = found.evidence[0].keypoints_px.clone()
    keypoints_px[2, LIMB_ROWS[:5]] = 0
    keypoints_px[3, LIMB_ROWS[:3]] = 0
    trust = trust_of(changed(found, keypoints_px=keypoints_px))
    assert trust[2] == 0
    assert float(trust[3]) == pytest.approx(0.8 * 9 / 12)
    assert (trust_of(changed(found, keypoints_px=keypoints_px), 3) > 0).all()


def test_bodies_off_their_keypoints_are_left_out(found):
    keypoints_px = found.evidence[0].keypoints_px.clone()
    keypoints_px[4, :, 0] += 1.3 * CONFIG.keypoints_px
    keypoints_px[5, :, 0] += 0.7 * CONFIG.keypoints_px
    trust = trust_of(changed(found, keypoints_px=keypoints_px))
    assert (trust > 0).tolist() == [True] * 4 + [False] + [True] * 3


def test_bodies_that_move_against_the_flow_are_left_out(found):
    flow_px = found.evidence[0].limb_flow_px.clone()
    flow_px[1, :, 1] += 1.3 * CONFIG.flow_px
    flow_px[6, :, 1] += 0.7 * CONFIG.flow_px
    trust = trust_of(changed(found, limb_flow_px=flow_px))
    assert (trust > 0).tolist() == [True, False] + [True] * 6


def test_frames_that_were_filled_in_are_left_out(found):
    (first, second) = found.scene.people
    confidence = torch.tensor([1.0, 1, 0, 0, 1, 1, 1, 1])
    people = (replace(first, confidence=confidence), second)
    trust = trust_of(replace(found, scene=replace(found.scene, people=people)))
    assert torch.equal(trust > 0, confidence > 0)
