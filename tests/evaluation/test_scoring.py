"""The scores of one set, clean and attacked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scored import EPSILON, assert_same, score
from torch import Tensor
from toys import Toy

from atd.attacks.suite import member
from atd.errors import UserError
from atd.evaluation.worst import Attack


@pytest.mark.parametrize("direction", [1, -1])
def test_attack_reaches_the_known_worst_case(brightness, images, direction) -> None:
    scored = score(brightness, images("grey", 60, 190, 20), direction=direction, steps=10)
    expected = scored.clean + direction * 10 * EPSILON
    np.testing.assert_allclose(scored.attacked, expected, atol=1e-5)


KINDS = ["pgd", "momentum", "apgd", "square", "fgsm", "noise", "saturating"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("direction", [1, -1])
def test_attacked_is_never_better_for_the_defender(convolutional, images, kind, direction) -> None:
    scored = score(convolutional, images("any", 0, 256, 12), kind, direction=direction)
    assert (direction * (scored.attacked - scored.clean) >= 0).all()
    assert scored.attacked.dtype == scored.clean.dtype == np.float64


def test_no_attack_returns_the_clean_scores_of_the_detector(convolutional, images) -> None:
    sample = images("any", 0, 256, 12)
    scored = score(convolutional, sample, "none")
    expected = convolutional.eval().logits(sample.pixels / 255.0).detach().double().numpy()
    np.testing.assert_allclose(scored.clean, expected, atol=1e-6)
    np.testing.assert_array_equal(scored.attacked, scored.clean)


def test_more_restarts_only_help_the_attacker(convolutional, images) -> None:
    sample = images("any", 0, 256, 16)
    once = score(convolutional, sample, steps=2, restarts=1).attacked
    thrice = score(convolutional, sample, steps=2, restarts=3).attacked
    assert (thrice >= once).all()
    assert (thrice > once).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_batch_size_changes_not_a_bit(convolutional, images, kind, batch_size) -> None:
    sample = images("any", 0, 256, 13)
    whole = score(convolutional, sample, kind, batch_size=13)
    assert_same(score(convolutional, sample, kind, batch_size=batch_size), whole)


@pytest.mark.parametrize("direction", [1, -1])
def test_examples_are_the_worst_adversarial_images(convolutional, images, direction) -> None:
    sample = images("any", 0, 256, 30)
    scored = score(convolutional, sample, batch_size=7, direction=direction)
    worst = np.sort(np.argsort(-direction * scored.attacked)[:6])
    np.testing.assert_array_equal(scored.example_index, worst)
    np.testing.assert_array_equal(scored.example_clean, sample.pixels[scored.example_index].numpy())
    change = scored.example_attacked - scored.example_clean.astype(np.float32) / 255
    assert 0 < np.abs(change).max() <= EPSILON + 1e-6
    assert scored.example_attacked.min() >= 0
    assert scored.example_attacked.max() <= 1
    again = convolutional.eval().logits(torch.from_numpy(scored.example_attacked)).detach().numpy()
    np.testing.assert_allclose(again, scored.attacked[scored.example_index], atol=1e-4)


def test_detector_is_left_as_it_was(convolutional, images) -> None:
    convolutional.train()
    before = {name: value.clone() for name, value in convolutional.state_dict().items()}
    score(convolutional, images("any", 0, 256, 6))
    assert convolutional.training
    assert all(p.requires_grad and p.grad is None for p in convolutional.parameters())
    assert all(
        torch.equal(value, before[name]) for name, value in convolutional.state_dict().items()
    )


class Saturated(Toy):
    """Half of the images get a score through a step function: no gradient at all."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.flatten(1).mean(1)
        return torch.where(torch.arange(len(images)) % 2 == 0, mean, mean.round() + 0 * mean)


class Detached(Toy):
    """Brightness that passes no gradient at all."""

    def forward(self, images: Tensor) -> Tensor:
        return images.detach().flatten(1).mean(1)


def test_scores_without_a_gradient_are_attacked_all_the_same(images) -> None:
    sample = images("any", 60, 190, 10)
    assert score(Detached(), sample, "pgd").zero_gradient.all()
    gained = score(Detached(), sample, "square", 200)
    assert (gained.attacked - gained.clean > 0.5 * EPSILON).all()


class Breaking(Toy):
    """Brightness, but NaN above a limit: an attack would run into it."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.flatten(1).mean(1)
        return torch.where(mean > 0.45, torch.nan, mean)


def test_images_that_break_the_detector_are_counted(images) -> None:
    scored = score(Breaking(), images("any", 60, 110, 10), "pgd", epsilon=0.2)
    assert scored.broken.all()
    assert np.isfinite(scored.attacked).all()
    assert (scored.attacked <= 0.45).all()
    assert not score(Breaking(), images("any", 60, 90, 10), "pgd", epsilon=0.01).broken.any()


def test_the_member_that_won_is_recorded(convolutional, images) -> None:
    members = (member("noise"), member("pgd", 20))
    scored = score(convolutional, images("any", 0, 256, 10), members=members)
    assert scored.members == ("noise-1x1", "pgd-20x1")
    assert (scored.member == 1).all()
    still = score(convolutional, images("any", 0, 256, 10), epsilon=0.0)
    assert (still.member == -1).all()


def test_work_done_adds_up(convolutional, images) -> None:
    done: list[int] = []
    score(convolutional, images("any", 0, 256, 10), batch_size=4, tick=done.append)
    assert sum(done) == 10 * Attack(members=(member("pgd", 5),), epsilon=0.1).passes


def test_zero_gradients_are_counted(images) -> None:
    scored = score(Saturated(), images("any", 0, 256, 10), batch_size=10)
    assert scored.zero_gradient.mean() == 0.5
    assert scored.zero_gradient.tolist() == [False, True] * 5


class Broken(Toy):
    def __init__(self, shape: str) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, images: Tensor) -> Tensor:
        values = images.flatten(1).mean(1)
        match self.shape:
            case "nan":
                return values / 0.0 * 0.0
            case "column":
                return values.unsqueeze(1)
            case "number":
                return values.sum()
            case _:
                return values.tolist()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("nan", "8 of 8 scores .* NaN"),
        ("column", r"shape \(8, 1\), .* \(8,\)"),
        ("number", "shape Tensor"),
        ("list", "shape list"),
    ],
)
def test_unusable_scores_name_the_set(images, fault, message) -> None:
    with pytest.raises(UserError, match=f"food101: .*{message}"):
        score(Broken(fault), images("food101", 0, 256, 8))


def test_empty_set_is_the_users_error(brightness, images) -> None:
    with pytest.raises(UserError, match="nothing: the set is empty"):
        score(brightness, images("nothing", 0, 256, 0))
