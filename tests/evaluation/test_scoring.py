from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from atd.errors import UserError
from atd.evaluation.scoring import Job, ScoredSet, attack_scores, attack_sets
from atd.evaluation.tiers import Member
from atd.evaluation.worst import Attack

EPSILON = 8 / 255


def score(
    detector: nn.Module,
    images: object,
    kind: str = "pgd",
    steps: int = 5,
    restarts: int = 1,
    **more,
) -> ScoredSet:
    fields = {field.name for field in dataclasses.fields(Attack)}
    members = () if kind == "none" else (Member(kind, steps, restarts),)
    attack = {key: value for key, value in more.items() if key in fields}
    rest = {key: value for key, value in more.items() if key not in fields}
    chosen = Attack(**{"members": members, "epsilon": EPSILON} | attack)
    return attack_scores(detector, images, chosen, **{"direction": 1} | rest)


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


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_batch_size_changes_nothing_but_rounding(convolutional, images, batch_size) -> None:
    sample = images("any", 0, 256, 13)
    whole = score(convolutional, sample, batch_size=13)
    split = score(convolutional, sample, batch_size=batch_size)
    np.testing.assert_allclose(split.clean, whole.clean, atol=1e-5)
    np.testing.assert_allclose(split.attacked, whole.attacked, atol=1e-4)
    np.testing.assert_array_equal(split.example_index, whole.example_index)
    np.testing.assert_array_equal(split.example_clean, whole.example_clean)


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


class Saturated(nn.Module):
    """Half of the images get a score through a step function: no gradient at all."""

    def logits(self, images: Tensor) -> Tensor:
        mean = images.flatten(1).mean(1)
        return torch.where(torch.arange(len(images)) % 2 == 0, mean, mean.round() + 0 * mean)


class Detached(nn.Module):
    """Brightness that passes no gradient at all."""

    def logits(self, images: Tensor) -> Tensor:
        return images.detach().flatten(1).mean(1)


def test_scores_without_a_gradient_are_attacked_all_the_same(images) -> None:
    sample = images("any", 60, 190, 10)
    assert score(Detached(), sample, "pgd").zero_gradient.all()
    gained = score(Detached(), sample, "square", 200)
    assert (gained.attacked - gained.clean > 0.5 * EPSILON).all()


class Breaking(nn.Module):
    """Brightness, but NaN above a limit: an attack would run into it."""

    def logits(self, images: Tensor) -> Tensor:
        mean = images.flatten(1).mean(1)
        return torch.where(mean > 0.45, torch.nan, mean)


def test_images_that_break_the_detector_are_counted(images) -> None:
    scored = score(Breaking(), images("any", 60, 110, 10), "pgd", epsilon=0.2)
    assert scored.broken.all()
    assert np.isfinite(scored.attacked).all()
    assert (scored.attacked <= 0.45).all()
    assert not score(Breaking(), images("any", 60, 90, 10), "pgd", epsilon=0.01).broken.any()


def test_the_member_that_won_is_recorded(convolutional, images) -> None:
    members = (Member("noise"), Member("pgd", 20))
    scored = score(convolutional, images("any", 0, 256, 10), members=members)
    assert scored.members == ("noise-1x1", "pgd-20x1")
    assert (scored.member == 1).all()
    still = score(convolutional, images("any", 0, 256, 10), epsilon=0.0)
    assert (still.member == -1).all()


def test_work_done_adds_up(convolutional, images) -> None:
    done: list[int] = []
    score(convolutional, images("any", 0, 256, 10), batch_size=4, tick=done.append)
    assert sum(done) == 10 * Attack(members=(Member("pgd", 5),), epsilon=0.1).passes


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
            case "number":
                return values.sum()
            case _:
                return values.tolist()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("nan", "4 of 4 scores .* NaN"),
        ("column", r"shape \(4, 1\), .* \(4,\)"),
        ("number", "shape Tensor"),
        ("list", "shape list"),
    ],
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
        {"kind": "fgsm"},
        {"norm": "l2"},
        {"stop": -5.0},
        {"draws": 2},
        {"targets": torch.rand(2, 3, 8, 8)},
        {"sources": (nn.Linear(1, 1),)},
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


class Stopping(nn.Module):
    """Gives up after some calls, as a user may."""

    def __init__(self, inner: nn.Module, calls: int) -> None:
        super().__init__()
        self.inner = inner
        self.left = calls

    def __repr__(self) -> str:
        return "Stopping"

    def logits(self, images: Tensor) -> Tensor:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return self.inner.logits(images)


@pytest.mark.parametrize("batch_size", [4, 3, 9])
def test_interrupted_set_goes_on_after_the_last_batch(
    convolutional, images, tmp_path: Path, batch_size
) -> None:
    sample = images("any", 0, 256, 10)
    whole = score(convolutional, sample)
    with pytest.raises(KeyboardInterrupt):
        score(Stopping(convolutional, 10), sample, batch_size=4, cache=tmp_path)
    counting = Stopping(convolutional, 1000)
    resumed = score(counting, sample, batch_size=batch_size, cache=tmp_path)
    np.testing.assert_allclose(resumed.attacked, whole.attacked, atol=1e-5)
    np.testing.assert_array_equal(resumed.example_index, whole.example_index)
    fresh = Stopping(convolutional, 1000)
    score(fresh, sample, batch_size=batch_size)
    assert fresh.left < counting.left
    assert [file.suffix for file in tmp_path.iterdir()] == [".npz"]


def test_damaged_cache_is_computed_again(convolutional, images, tmp_path: Path) -> None:
    sample = images("any", 0, 256, 5)
    first = score(convolutional, sample, cache=tmp_path)
    (file,) = tmp_path.iterdir()
    for damage in (b"", b"not a zip", file.read_bytes()[:200]):
        file.write_bytes(damage)
        assert_same(score(convolutional, sample, cache=tmp_path), first)


def jobs(images, **attack) -> list[Job]:
    chosen = Attack(**{"members": (Member("pgd", 5),), "epsilon": EPSILON} | attack)
    sets = [images("a", 0, 256, 7), images("b", 0, 256, 4, seed=1), images("c", 90, 200, 9, seed=2)]
    stops = (None, -0.2, 0.1)
    return [
        Job(some, direction, dataclasses.replace(chosen, stop=stop))
        for some, direction, stop in zip(sets, (1, -1, 1), stops, strict=True)
    ]


@pytest.mark.parametrize("batch_size", [5, 8, 64])
def test_sets_scored_together_are_those_scored_alone(convolutional, images, batch_size) -> None:
    together = attack_sets(convolutional, jobs(images), batch_size=batch_size)
    for job, found in zip(jobs(images), together, strict=True):
        alone = attack_scores(convolutional, job.images, job.attack, direction=job.direction)
        for name, value in dataclasses.asdict(alone).items():
            if isinstance(value, np.ndarray):
                np.testing.assert_allclose(getattr(found, name), value, atol=1e-4, err_msg=name)
            else:
                assert getattr(found, name) == value


@pytest.mark.parametrize("calls", [4, 10, 16])
def test_sets_scored_together_go_on_where_they_stopped(
    convolutional, images, tmp_path: Path, calls
) -> None:
    whole = attack_sets(convolutional, jobs(images))
    options = {"batch_size": 5, "cache": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        attack_sets(Stopping(convolutional, calls), jobs(images), **options)
    resumed = attack_sets(Stopping(convolutional, 1000), jobs(images), **options)
    for one, two in zip(whole, resumed, strict=True):
        np.testing.assert_allclose(two.attacked, one.attacked, atol=1e-4)
        np.testing.assert_array_equal(two.example_index, one.example_index)
    # Each set is found again alone.
    counting = Stopping(convolutional, 0)
    for job, found in zip(jobs(images), resumed, strict=True):
        assert_same(attack_sets(counting, [job], cache=tmp_path)[0], found)


def test_sets_scored_together_need_one_attack(convolutional, images) -> None:
    first, second, _ = jobs(images)
    other = dataclasses.replace(second.attack, epsilon=0.5)
    with pytest.raises(ValueError, match="stop and targets only"):
        attack_sets(convolutional, [first, dataclasses.replace(second, attack=other)])


def test_feature_targets_are_those_of_each_side(images) -> None:
    class Featured(nn.Module):
        def features(self, images: Tensor) -> Tensor:
            return images.mean((2, 3))

        def logits(self, images: Tensor) -> Tensor:
            return self.features(images).detach().sum(1)

    sets = [images("grey", 100, 150, 5), images("grey too", 100, 150, 6, seed=1)]
    both = []
    for some, direction, shade in zip(sets, (1, -1), (1.0, 0.0), strict=True):
        targets = torch.full((2, 3, 8, 8), shade)
        attack = Attack(members=(Member("features", 20),), epsilon=EPSILON, targets=targets)
        both.append(Job(some, direction, attack))
    raised, lowered = attack_sets(Featured(), both)
    assert (raised.attacked - raised.clean > 2 * EPSILON).all()
    assert (lowered.clean - lowered.attacked > 2 * EPSILON).all()
