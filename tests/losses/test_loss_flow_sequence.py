"""RAFT's loss: what counts, what does not, and how much."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from flowhmr.losses import FlowSequenceConfig, flow_sequence_terms
from flowhmr.records import FlowExample


def example(batch: int = 2, size: int = 6) -> FlowExample:
    """A textured person, displaced by (3, -2) px before a scene that is displaced by (1, 0)."""
    generator = torch.Generator().manual_seed(0)
    person = torch.zeros(batch, size, size, dtype=torch.bool)
    person[:, 1:4, 2:4] = True
    known = torch.ones_like(person)
    known[:, :, -1] = False
    known[:, 3, 2] = False
    flow_px = torch.where(person[..., None], torch.tensor([3.0, -2.0]), torch.tensor([1.0, 0.0]))
    frames = torch.randint(256, (batch, 2, 3, size, size), generator=generator).byte()
    return FlowExample(frames, flow_px * known[..., None], known, person)


def found(truth: FlowExample, updates: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(truth.flow_px.shape, generator=generator) for _ in range(updates)]


def test_unknown_pixels_have_no_gradient() -> None:
    """Whatever is found there, and whatever stands there."""
    truth = example()
    hidden = truth.flow_px.clone()
    hidden[~truth.known] = torch.nan
    truth = replace(truth, flow_px=hidden)
    flows = [flow.requires_grad_() for flow in found(truth)]
    terms = flow_sequence_terms(flows, truth, FlowSequenceConfig())
    terms.sequence.sum().backward()
    for flow in flows:
        assert flow.grad is not None
        assert (flow.grad[~truth.known] == 0).all()
        assert (flow.grad[truth.known] != 0).all()
    assert all(bool(v.isfinite().all()) for v in vars(terms).values())


def test_it_is_the_papers_sum() -> None:
    """Eq. 7: 0.8 to the power of the updates that follow, times the mean L1 distance."""
    truth, config = example(), FlowSequenceConfig(person=1.0)
    flows = found(truth)
    expected = torch.zeros(len(truth.known))
    for sample in range(len(expected)):
        for number, flow in enumerate(flows):
            apart = (flow - truth.flow_px)[sample][truth.known[sample]].abs().sum(-1)
            expected[sample] += 0.8 ** (len(flows) - 1 - number) * apart.mean()
    torch.testing.assert_close(flow_sequence_terms(flows, truth, config).sequence, expected)


def test_people_count_more() -> None:
    """A pixel of theirs as much as four of the scene's."""
    truth = example(1)
    wrong = torch.zeros_like(truth.flow_px)
    wrong[truth.person] = 1.0
    terms = flow_sequence_terms([truth.flow_px + wrong], truth, FlowSequenceConfig(person=4.0))
    people = int((truth.known & truth.person).sum())
    others = int(truth.known.sum()) - people
    assert float(terms.sequence) == pytest.approx(2 * 4 * people / (4 * people + others))
    assert float(terms.on_people) == pytest.approx(2**0.5)
    assert float(terms.endpoint) == pytest.approx(2**0.5 * people / (people + others))


def test_samples_do_not_know_each_other() -> None:
    truth, config = example(3), FlowSequenceConfig()
    flows = found(truth)
    whole = flow_sequence_terms(flows, truth, config).sequence
    for row in range(3):
        one = FlowExample(*(v[row : row + 1] for v in vars(truth).values()))
        alone = flow_sequence_terms([f[row : row + 1] for f in flows], one, config).sequence
        torch.testing.assert_close(alone, whole[row : row + 1])


def test_a_pair_without_known_flow_counts_nothing() -> None:
    truth = example()
    truth = replace(truth, known=torch.zeros_like(truth.known))
    flows = [flow.requires_grad_() for flow in found(truth)]
    terms = flow_sequence_terms(flows, truth, FlowSequenceConfig())
    assert (terms.sequence == 0).all()
    terms.sequence.sum().backward()
    assert all(bool((f.grad == 0).all()) for f in flows if f.grad is not None)
