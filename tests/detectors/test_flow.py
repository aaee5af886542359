import math

import pytest
import torch

from atd.detectors.flow import Flow, flow_loss
from atd.detectors.flow_training import FlowTraining, train_flow
from atd.errors import UserError


def a_flow(size=5, seed=0):
    flow = Flow()
    flow.reset(size, layers=3, hidden=6, seed=seed)
    torch.manual_seed(seed)
    flow.outer = torch.randn_like(flow.outer)
    flow.outer_bias = torch.randn_like(flow.outer_bias)
    return flow.double()


@pytest.mark.parametrize("size", [2, 5])
def test_the_determinant_is_the_jacobians(size):
    flow, values = a_flow(size), torch.randn(4, size, dtype=torch.float64)
    _, found = flow(values)
    for row, log_determinant in zip(values, found, strict=True):
        jacobian = torch.func.jacrev(lambda one: flow(one[None])[0][0])(row)
        torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, log_determinant)


def test_a_fresh_flow_changes_nothing_and_a_seed_is_a_flow():
    flow, again, other = Flow(), Flow(), Flow()
    for one, seed in ((flow, 1), (again, 1), (other, 2)):
        one.reset(6, layers=2, hidden=4, seed=seed)
    values = torch.randn(3, 6)
    transformed, log_determinant = flow(values)
    assert torch.equal(transformed, values)
    assert not log_determinant.any()
    assert torch.equal(flow.inner, again.inner)
    assert not torch.equal(flow.inner, other.inner)


def test_the_loss_is_a_likelihood_up_to_its_constant():
    flow, values = a_flow(), torch.randn(4, 5, dtype=torch.float64)
    transformed, log_determinant = flow(values)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(transformed).sum(1)
    likelihood = (normal + log_determinant) / 5
    expected = -likelihood - math.log(2 * math.pi) / 2
    torch.testing.assert_close(flow_loss(transformed, log_determinant), expected)


def test_what_lies_far_away_stays_finite():
    flow = Flow()
    flow.reset(8, layers=16, hidden=8, seed=0)
    flow.outer = torch.full_like(flow.outer, 100.0)
    assert flow_loss(*flow(torch.full((1, 8), 1e3))).isfinite().all()


def curved(count, seed):
    one = torch.randn(count, generator=torch.Generator().manual_seed(seed))
    noise = torch.randn(count, generator=torch.Generator().manual_seed(seed + 100))
    return torch.stack([one, (one.square() - 1) / 1.5 + 0.2 * noise], dim=1)


def test_training_learns_a_curve_that_a_gaussian_does_not():
    flow = Flow()
    flow.reset(2, layers=4, hidden=16, seed=0)
    losses = train_flow(flow, curved(600, 0), FlowTraining(epochs=40, lr=1e-2, seed=0))
    on, off = curved(200, 7), curved(200, 8) * torch.tensor([1.0, -1.0])
    on_loss, off_loss = flow_loss(*flow(on)), flow_loss(*flow(off))
    assert float(on_loss.mean()) < -0.1
    assert float(off_loss.median()) > float(on_loss.quantile(0.9))
    assert min(losses) < losses[0]


def test_without_progress_it_ends_early():
    flow = Flow()
    flow.reset(4, layers=2, hidden=64, seed=0)
    values = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    losses = train_flow(flow, values, FlowTraining(epochs=1000, lr=1e-2, seed=0))
    assert len(losses) == losses.index(min(losses)) + 11
    held_out = values[torch.randperm(30, generator=torch.Generator().manual_seed(0))[:3]]
    assert float(flow_loss(*flow(held_out)).mean()) == pytest.approx(min(losses), abs=1e-5)


def test_a_flow_that_diverges_keeps_its_best_state(monkeypatch, capsys):
    flow = Flow()
    flow.reset(4, layers=2, hidden=8, seed=0)
    given = iter([0.5, 0.4, math.nan])
    monkeypatch.setattr("atd.detectors.flow_training._held_out_loss", lambda *_: next(given))
    values = torch.randn(30, 4)
    assert len(train_flow(flow, values, FlowTraining(epochs=9, lr=1e-2, seed=0))) == 3
    said = capsys.readouterr()
    assert "diverged in epoch 3" in said.out + said.err
    assert all(value.isfinite().all() for value in flow.weights().values())


def test_a_flow_that_diverges_at_once_is_one_line():
    flow = Flow()
    flow.reset(4, layers=2, hidden=8, seed=0)
    values = torch.full((30, 4), 1e30)
    with pytest.raises(UserError, match=r"diverged in its first epoch; lower detector.lr=0.01"):
        train_flow(flow, values, FlowTraining(epochs=9, lr=1e-2, seed=0))
