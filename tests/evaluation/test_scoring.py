from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from atd.errors import UserError
from atd.evaluation.scoring import ScoredSet, attack_scores, start_noise

EPSILON = 8 / 255


def score(detector: nn.Module, images: object, **options: object) -> ScoredSet:
    defaults = {"direction": 1, "epsilon": EPSILON, "steps": 5, "progress": False}
    return attack_scores(detector, images, **(defaults | options))


@pytest.mark.parametrize("direction", [1, -1])
def test_attack_reaches_the_known_worst_case(brightness, images, direction) -> None:
    scored = score(brightness, images("grey", 60, 190, 20), direction=direction, steps=10)
    expected = scored.clean + direction * 10 * EPSILON
    np.testing.assert_allclose(scored.attacked, expected, atol=1e-5)


@pytest.mark.parametrize("method", ["pgd", "fgsm", "noise"])
@pytest.mark.parametrize("direction", [1, -1])
def test_attacked_is_never_better_for_the_defender(
    convolutional, images, method, direction
) -> None:
    scored = score(convolutional, images("any", 0, 256, 12), direction=direction, method=method)
    assert (direction * (scored.attacked - scored.clean) >= 0).all()
    assert scored.attacked.dtype == scored.clean.dtype == np.float64


def test_no_attack_returns_the_clean_scores_of_the_detector(convolutional, images) -> None:
    sample = images("any", 0, 256, 12)
    scored = score(convolutional, sample, method="none")
    expected = convolutional.eval().logits(sample.pixels / 255.0).detach().double().numpy()
    np.testing.assert_allclose(scored.clean, expected, atol=1e-6)
    np.testing.assert_array_equal(scored.attacked, scored.clean)


def test_more_restarts_only_help_the_attacker(convolutional, images) -> None:
    sample = images("any", 0, 256, 16)
    once = score(convolutional, sample, steps=2, restarts=1).attacked
    thrice = score(convolutional, sample, steps=2, restarts=3).attacked
    assert (thrice >= once).all()
    assert (thrice > once).any()


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_batch_size_changes_nothing_but_rounding(convolutional, images, batch_size) -> None:
    sample = images("any", 0, 256, 13)
    whole = score(convolutional, sample, batch_size=13)
    split = score(convolutional, sample, batch_size=batch_size)
    np.testing.assert_allclose(split.clean, whole.clean, atol=1e-5)
    np.testing.assert_allclose(split.attacked, whole.attacked, atol=1e-4)
    np.testing.assert_array_equal(split.example_index, whole.example_index)
    np.testing.assert_array_equal(split.example_clean, whole.example_clean)


def test_start_is_a_function_of_seed_restart_and_index() -> None:
    both = start_noise((3, 4, 4), torch.tensor([7, 2]), seed=1, restart=0)
    alone = start_noise((3, 4, 4), torch.tensor([2]), seed=1, restart=0)
    assert torch.equal(both[1], alone[0])
    others = [(2, 0, 2), (1, 1, 2), (1, 0, 3)]
    for seed, restart, index in others:
        other = start_noise((3, 4, 4), torch.tensor([index]), seed=seed, restart=restart)
        assert not torch.equal(other, alone)
    many = start_noise((3, 8, 8), torch.arange(50), seed=0, restart=0)
    assert many.abs().max() <= 1
    assert abs(many.mean()) < 0.02
    assert many.std() == pytest.approx(3**-0.5, abs=0.02)


def test_examples_are_adversarial_and_inside_the_ball(convolutional, images) -> None:
    sample = images("any", 0, 256, 30)
    scored = score(convolutional, sample, batch_size=7)
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


class Saturated(nn.Module):
    """Half of the images get a score through a step function: no gradient at all."""

    def logits(self, images: Tensor) -> Tensor:
        mean = images.flatten(1).mean(1)
        return torch.where(torch.arange(len(images)) % 2 == 0, mean, mean.round() + 0 * mean)


def test_zero_gradients_are_counted(images) -> None:
    scored = score(Saturated(), images("any", 0, 256, 10), batch_size=10)
    assert scored.zero_gradient_share == 0.5
    assert scored.zero_gradient.tolist() == [False, True] * 5


class Broken(nn.Module):
    def __init__(self, shape: str) -> None:
        super().__init__()
        self.shape = shape

    def logits(self, images: Tensor) -> Tensor:
        values = images.flatten(1).mean(1)
        match self.shape:
            case "nan":
                return values / 0.0 * 0.0
            case "column":
                return values.unsqueeze(1)
            case _:
                return values.detach()


@pytest.mark.parametrize(
    ("fault", "message"), [("nan", "NaN"), ("column", "shape"), ("detached", "not differentiable")]
)
def test_unusable_scores_name_the_set(images, fault, message) -> None:
    with pytest.raises(UserError, match=f"food101: .*{message}"):
        score(Broken(fault), images("food101", 0, 256, 4))


def test_empty_set_is_the_users_error(brightness, images) -> None:
    with pytest.raises(UserError, match="nothing: the set is empty"):
        score(brightness, images("nothing", 0, 256, 0))


class Counting(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.calls = 0

    def logits(self, images: Tensor) -> Tensor:
        self.calls += 1
        return self.inner.logits(images)


def assert_same(one: ScoredSet, two: ScoredSet) -> None:
    for name, value in dataclasses.asdict(one).items():
        np.testing.assert_array_equal(value, getattr(two, name), err_msg=name)


def test_finished_sets_are_not_scored_again(convolutional, images, tmp_path: Path) -> None:
    counting, sample = Counting(convolutional), images("a/b c", 0, 256, 9)
    first = score(counting, sample, cache=tmp_path)
    calls = counting.calls
    assert_same(score(counting, sample, cache=tmp_path), first)
    assert counting.calls == calls
    assert [file.suffix for file in tmp_path.iterdir()] == [".npz"]


@pytest.mark.parametrize(
    "change",
    [
        {"epsilon": 0.1},
        {"steps": 6},
        {"restarts": 2},
        {"seed": 1},
        {"direction": -1},
        {"method": "fgsm"},
    ],
)
def test_cache_tells_attacks_apart(convolutional, images, tmp_path: Path, change) -> None:
    counting, sample = Counting(convolutional), images("any", 0, 256, 5)
    score(counting, sample, cache=tmp_path)
    calls = counting.calls
    assert_same(
        score(counting, sample, cache=tmp_path, **change), score(convolutional, sample, **change)
    )
    assert counting.calls > calls


def test_cache_tells_weights_and_images_apart(convolutional, images, tmp_path: Path) -> None:
    counting, sample = Counting(convolutional), images("any", 0, 256, 5)
    score(counting, sample, cache=tmp_path)
    with torch.no_grad():
        next(convolutional.parameters()).add_(0.1)
    assert_same(score(counting, sample, cache=tmp_path), score(convolutional, sample))
    other = images("any", 0, 256, 5, seed=9)
    assert_same(score(counting, other, cache=tmp_path), score(convolutional, other))


def test_damaged_cache_is_computed_again(convolutional, images, tmp_path: Path) -> None:
    sample = images("any", 0, 256, 5)
    first = score(convolutional, sample, cache=tmp_path)
    (file,) = tmp_path.iterdir()
    for damage in (b"", b"not a zip", file.read_bytes()[:200]):
        file.write_bytes(damage)
        assert_same(score(convolutional, sample, cache=tmp_path), first)
