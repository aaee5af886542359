"""Losses against independent restatements of the papers' equations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atd.training.losses import (
    crowding,
    discriminator_loss,
    generator_loss,
    hat_loss,
    kl_per_sample,
    moment_distance,
    trades_loss,
)

logits = st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=6).map(torch.tensor)


def softmax(values):
    powers = np.exp(values.double().numpy())
    return powers / powers.sum(1, keepdims=True)


def cross_entropy(values, labels, smoothing=0.0):
    classes = values.shape[1]
    wanted = (1 - smoothing) * np.eye(classes)[labels.numpy()] + smoothing / classes
    return -(wanted * np.log(softmax(values))).sum(1).mean()


def kl(values, others):
    p, q = softmax(values), softmax(others)
    return (p * np.log(p / q)).sum(1)


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return torch.randn(3, 6, 4), torch.randint(4, (2, 6))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_trades_is_its_equation(batch, smoothing):
    (clean, attacked, _), (labels, _) = batch
    expected = cross_entropy(clean, labels, smoothing) + 6 * kl(clean, attacked).mean()
    assert float(trades_loss(clean, attacked, labels, 6.0, smoothing)) == pytest.approx(expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_hat_is_its_equation(batch, smoothing):
    (clean, attacked, reached), (labels, helper) = batch
    expected = (
        cross_entropy(clean, labels, smoothing)
        + 2.5 * kl(clean, attacked).mean()
        + 0.5 * cross_entropy(reached, helper)
    )
    loss = hat_loss(clean, attacked, reached, labels, helper, 2.5, 0.5, smoothing)
    assert float(loss) == pytest.approx(expected)


def test_kl_is_its_equation_zero_for_equals_and_finite_far_out(batch):
    (clean, attacked, _), _ = batch
    np.testing.assert_allclose(kl_per_sample(clean, attacked), kl(clean, attacked), rtol=1e-5)
    torch.testing.assert_close(kl_per_sample(clean, clean), torch.zeros(6))
    far = kl_per_sample(torch.tensor([[200.0, -200.0]]), torch.tensor([[-200.0, 200.0]]))
    assert float(far) == pytest.approx(400.0)


def probability_of_id(values):
    """The paper's D(x) = sigmoid(-logit)."""
    return 1 / (1 + np.exp(values.double().numpy()))


@given(inside=logits, outside=logits, generated=logits, alpha=st.floats(0, 1))
def test_discriminator_loss_is_equation_9(inside, outside, generated, alpha):
    d_in, d_out, d_fake = map(probability_of_id, (inside, outside, generated))
    expected = (
        -np.log(d_in).mean()
        - alpha * np.log(1 - d_out).mean()
        - (1 - alpha) * np.log(1 - d_fake).mean()
    )
    loss = discriminator_loss(inside, outside, generated, alpha)
    assert float(loss) == pytest.approx(expected, rel=1e-4, abs=1e-5)


@given(inside=logits, outside=logits)
def test_without_a_generator_outliers_carry_the_full_weight(inside, outside):
    expected = -np.log(probability_of_id(inside)).mean()
    expected -= np.log(1 - probability_of_id(outside)).mean()
    loss = discriminator_loss(inside, outside, None, 0.3)
    assert float(loss) == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("generated", [torch.zeros(3), None])
def test_an_undecided_discriminator_loses_two_log_two(generated):
    loss = discriminator_loss(torch.zeros(4), torch.zeros(2), generated, 0.3)
    assert float(loss) == pytest.approx(2 * math.log(2))


def test_losses_stay_finite_and_keep_a_gradient_where_a_sigmoid_saturates():
    inside, outside = (torch.tensor([x], requires_grad=True) for x in (200.0, -200.0))
    loss = discriminator_loss(inside, outside, None, 0.5)
    loss.backward()
    assert loss.item() == pytest.approx(400.0)
    assert (float(inside.grad), float(outside.grad)) == (1.0, -1.0)


@given(generated=logits)
def test_deceiving_is_minus_log_d(generated):
    expected = -np.log(probability_of_id(generated)).mean()
    loss = generator_loss(generated)
    assert float(loss) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_crowding_is_minus_the_mean_log_distance_to_the_nearest():
    torch.manual_seed(0)
    samples = torch.randn(6, 5)
    apart = np.linalg.norm(samples[:, None].numpy() - samples[None].numpy(), axis=2)
    apart[np.arange(6), np.arange(6)] = np.inf
    expected = -np.log(apart.min(1) / math.sqrt(5)).mean()
    assert float(crowding(samples)) == pytest.approx(expected, rel=1e-4)


@given(seed=st.integers(0, 1000), factor=st.floats(1.5, 100))
def test_crowding_falls_as_samples_spread(seed, factor):
    samples = torch.randn(8, 2, 3, generator=torch.Generator().manual_seed(seed))
    assert crowding(factor * samples) < crowding(samples)


def test_crowding_drives_coincident_samples_no_further_than_finite():
    samples = torch.zeros(4, 3, requires_grad=True)
    crowding(samples).backward()
    assert samples.grad.isfinite().all()


def test_moment_distance_sees_means_and_deviations() -> None:
    real = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    assert moment_distance(real, real) == 0
    torch.testing.assert_close(moment_distance(real + 2, real), torch.tensor(4.0))
    doubled = real.mean(0) + 2 * (real - real.mean(0))
    torch.testing.assert_close(moment_distance(doubled, real), real.std(0).square().mean())
