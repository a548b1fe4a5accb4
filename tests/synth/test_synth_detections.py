from dataclasses import replace

import numpy as np
import pytest
import torch

from flowhmr.body import SMPL_24, BodyModel
from flowhmr.synth.detections import LEGS, detected_joints
from flowhmr.synth.places import PlaceConfig
from flowhmr.synth.stage import SynthConfig
from flowhmr.synth.truth import SynthClip, synth_clip

CONFIG = SynthConfig(size_px=48, frames=6, place=PlaceConfig(textures=3), drops=1.0, occluder=1.0)


@pytest.fixture(scope="module")
def clip(body: BodyModel) -> SynthClip:
    return synth_clip(CONFIG, 2, body)


def test_without_noise_it_is_the_truth(clip: SynthClip) -> None:
    rng = np.random.default_rng(0)
    assert torch.equal(detected_joints(clip, rng, legs=0.0, flips=0.0), clip.joint_visible)


def test_hidden_legs_are_reported(clip: SynthClip) -> None:
    legs = list(SMPL_24.indices_of(LEGS))
    hidden = replace(clip, joint_visible=torch.zeros_like(clip.joint_visible))
    found = detected_joints(hidden, np.random.default_rng(0), legs=1.0, flips=0.0)
    inside = ((clip.joints_px >= 0) & (clip.joints_px < 48)).all(-1) & ~clip.dropped[:, None]
    assert torch.equal(found[:, legs], inside[:, legs])
    assert found[:, legs].any()
    others = [k for k in range(24) if k not in legs]
    assert not found[:, others].any()


def test_states_are_turned_round_at_the_rate(clip: SynthClip) -> None:
    rng = np.random.default_rng(1)
    plain = replace(clip, dropped=torch.zeros(6, dtype=torch.bool))
    plain = replace(plain, joints_px=torch.full_like(clip.joints_px, 20.0))
    changed = [
        (detected_joints(plain, rng, legs=0.0, flips=0.05) != plain.joint_visible).float().mean()
        for _ in range(100)
    ]
    assert float(torch.stack(changed).mean()) == pytest.approx(0.05, abs=0.01)


def test_nothing_is_detected_where_nothing_can_be(clip: SynthClip) -> None:
    found = detected_joints(clip, np.random.default_rng(2), legs=1.0, flips=0.5)
    assert clip.dropped.any()
    assert not found[clip.dropped].any()
    far = replace(clip, joints_px=clip.joints_px + 1000)
    assert not detected_joints(far, np.random.default_rng(2), legs=1.0, flips=0.5).any()
