"""Weighing terms, and the anchor."""

from dataclasses import dataclass, fields, replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from flowhmr.body import BodyParams
from flowhmr.cameras import WeakCamera
from flowhmr.losses import (
    AnchorTerms,
    AnchorWeights,
    FlowTerms,
    FlowWeights,
    NonFiniteLoss,
    SupervisedTerms,
    SupervisedWeights,
    anchor_terms,
    weigh,
)
from flowhmr.records import Estimate


@dataclass(frozen=True, eq=False)
class Terms:
    pose: Tensor
    shape: Tensor | None
    fact: Tensor


@dataclass(frozen=True)
class Weights:
    pose: float = 2.0
    shape: float = 0.5


@dataclass(frozen=True)
class WeightsOverall(Weights):
    overall: float = 60.0


POSE, SHAPE, FACT = (torch.tensor(x) for x in ([1.0, 3.0], [4.0, 8.0], [9.0, 9.0]))
TERMS = Terms(POSE, SHAPE, FACT)


def test_the_total_is_the_weighted_sum_of_means():
    objective = weigh(TERMS, Weights())
    assert objective.total == 2 * 2 + 0.5 * 6
    assert objective.logged == {"pose": 2, "shape": 6}


def test_without_any_weight_the_total_is_a_zero_where_the_terms_are():
    assert weigh(TERMS, Weights(0.0, 0.0)).total == 0
    elsewhere = Terms(*(torch.empty(2, device="meta") for _ in range(3)))
    assert weigh(elsewhere, Weights(0.0, 0.0)).total.device.type == "meta"


def test_overall_multiplies_the_sum_and_not_the_log():
    objective = weigh(TERMS, WeightsOverall())
    assert objective.total == 60 * 7
    assert objective.logged == {"pose": 2, "shape": 6}


def test_the_total_does_not_depend_on_the_batch_size():
    twice = Terms(*(torch.cat([x, x]) for x in (POSE, SHAPE, FACT)))
    assert weigh(twice, Weights()).total == weigh(TERMS, Weights()).total


def test_terms_without_weight_are_logged_and_have_no_gradient():
    terms = replace(TERMS, shape=SHAPE.clone().requires_grad_())
    objective = weigh(terms, Weights(shape=0.0))
    assert objective.total == 4
    assert objective.logged["shape"] == 6
    assert not objective.total.requires_grad
    assert weigh(TERMS, Weights(pose=0.0, shape=0.0)).total == 0


def test_gradients_are_the_weights_over_the_batch():
    pose = POSE.clone().requires_grad_()
    total = weigh(replace(TERMS, pose=pose), WeightsOverall()).total
    assert torch.autograd.grad(total, pose)[0].tolist() == [60, 60]


def test_a_missing_term_without_weight_is_left_out():
    objective = weigh(replace(TERMS, shape=None), Weights(shape=0.0))
    assert objective.total == 4
    assert "shape" not in objective.logged


def test_a_missing_term_with_a_weight_is_refused():
    with pytest.raises(ValueError, match=r"term 'shape': got none .* its weight is 0\.5"):
        weigh(replace(TERMS, shape=None), Weights())


@pytest.mark.parametrize("weight", [0.0, 2.0])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_what_is_not_finite_stops_with_its_term_and_sample(value, weight):
    pose = torch.tensor([1.0, float(value), float(value)])
    with pytest.raises(NonFiniteLoss, match=rf"term 'pose': got {value} for sample 1 of the batch"):
        weigh(replace(TERMS, pose=pose), Weights(pose=weight))


def test_what_is_not_weighed_may_be_anything():
    assert weigh(replace(TERMS, fact=torch.tensor([float("nan")] * 2)), Weights()).total == 7


@pytest.mark.parametrize(
    ("weights", "terms"),
    [
        (SupervisedWeights, SupervisedTerms),
        (FlowWeights, FlowTerms),
        (AnchorWeights, AnchorTerms),
    ],
)
def test_names_of_weights_are_names_of_terms(weights, terms):
    names = {f.name for f in fields(weights)} - {"overall"}
    assert names
    assert names <= {f.name for f in fields(terms)}


def estimate(offset: float = 0.0) -> Estimate:
    generator = torch.Generator().manual_seed(0)
    rotmats = torch.randn(2, 24, 3, 3, generator=generator) + offset
    betas = torch.randn(2, 10, generator=generator) + offset
    camera = torch.randn(2, 3, generator=generator) + offset
    for tensor in (rotmats, betas, camera):
        tensor.requires_grad_()
    return Estimate(BodyParams(rotmats, betas, "a body"), WeakCamera(camera))


def test_at_the_start_the_anchor_does_not_pull():
    current = estimate()
    terms = anchor_terms(current, estimate())
    for values in vars(terms).values():
        assert values.tolist() == [0, 0]
    total = weigh(terms, AnchorWeights(anchor_camera=1.0)).total
    inputs = current.params.rotmats, current.params.betas, current.camera.params
    for gradient in torch.autograd.grad(total, inputs):
        assert not gradient.any()


def test_the_anchor_pulls_back():
    current = estimate(0.5)
    terms = anchor_terms(current, estimate())
    for values in vars(terms).values():
        assert_close(values, torch.full((2,), 0.25))
    total = weigh(terms, AnchorWeights(anchor_camera=1.0)).total
    inputs = current.params.rotmats, current.params.betas, current.camera.params
    for gradient in torch.autograd.grad(total, inputs):
        assert (gradient > 0).all()


def test_each_anchor_holds_its_own_part():
    initial = estimate()
    params = initial.params
    moved = {
        "anchor_pose": Estimate(replace(params, rotmats=params.rotmats + 1), initial.camera),
        "anchor_shape": Estimate(replace(params, betas=params.betas + 1), initial.camera),
        "anchor_camera": Estimate(params, WeakCamera(initial.camera.params + 1)),
    }
    for name, current in moved.items():
        for term, values in vars(anchor_terms(current, initial)).items():
            assert_close(values, torch.full((2,), float(term == name)))
