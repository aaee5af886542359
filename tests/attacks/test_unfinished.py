"""Samples that have reached enough leave the batch; no sample's result depends on when."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from atd.attacks import Attacked, PerSample, apgd, pgd, square
from atd.attacks.unfinished import Unfinished

SHAPE = (2, 6, 6)


def uniform(*shape: int, seed: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def hilly(images: Tensor, waves: Tensor) -> Tensor:
    """A landscape of its own for each sample, with many hills; computed per sample alone."""
    return torch.stack(
        [(4 * w * x).sin().mul(w).mean() for x, w in zip(images, waves, strict=True)]
    )


class Watched:
    """Each sample's landscape, and what was asked of it."""

    def __init__(self, count: int, seed: int) -> None:
        self.seen: list[Tensor] = []
        self.rows: list[Tensor] = []
        self.objective = PerSample(
            self.value, (uniform(count, *SHAPE, seed=seed), torch.arange(count))
        )

    def value(self, images: Tensor, waves: Tensor, rows: Tensor) -> Tensor:
        values = hilly(images, waves)
        self.seen.append(values.detach())
        self.rows.append(rows)
        return values

    def of(self, sample: int) -> list[float]:
        """Values that the sample had, in order."""
        return [
            float(values[rows == sample])
            for values, rows in zip(self.seen, self.rows, strict=True)
            if sample in rows
        ]


def attacks(count: int, seed: int) -> dict[str, Callable[..., Attacked]]:
    noise = 2 * uniform(count, *SHAPE, seed=seed + 1) - 1
    ball = {"epsilon": 0.2, "noise": noise}
    random = {
        "draws": uniform(count, 40, 4, seed=seed + 2),
        "stripes": 2 * uniform(count, 2, 6, seed=seed + 3) - 1,
    }
    return {
        "pgd": partial(pgd, steps=30, **ball),
        "momentum": partial(pgd, steps=30, momentum=0.9, **ball),
        "l2": partial(pgd, steps=30, norm="l2", **ball),
        "apgd": partial(apgd, steps=30, **ball),
        "square": partial(square, epsilon=0.2, **random),
    }


KINDS = list(attacks(1, 0))


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 1000), share=st.floats(0, 1), own=st.booleans())
def test_each_sample_gets_its_first_iterate_past_enough_else_its_best(
    kind: str, seed: int, share: float, own: bool
) -> None:
    count = 7
    attack, images = attacks(count, seed)[kind], uniform(count, *SHAPE, seed=seed + 4)
    watched = Watched(count, seed)
    whole = attack(watched.objective, images)
    enough = float(whole.values.quantile(share))
    limits = enough + 0.01 * uniform(count, seed=seed + 5) if own else enough
    some = attack(Watched(count, seed).objective, images, enough=limits)
    for sample, limit in enumerate(torch.as_tensor(limits).expand(count).tolist()):
        values = watched.of(sample)
        expected = next((value for value in values if value > limit), max(values))
        assert float(some.values[sample]) == expected
    going_on = ~(whole.values > torch.as_tensor(limits))
    assert torch.equal(some.images[going_on], whole.images[going_on])
    waves = watched.objective.known[0]
    assert torch.equal(hilly(some.images, waves), some.values)


@pytest.mark.parametrize("kind", KINDS)
def test_an_unreachable_value_changes_no_bit(kind: str) -> None:
    attack, images = attacks(5, 1)[kind], uniform(5, *SHAPE, seed=6)
    plain = attack(Watched(5, 1).objective, images)
    watched = attack(Watched(5, 1).objective, images, enough=torch.inf)
    assert torch.equal(plain.images, watched.images)
    assert torch.equal(plain.values, watched.values)


@pytest.mark.parametrize("kind", KINDS)
def test_the_batch_shrinks_and_the_attack_ends_with_it(kind: str) -> None:
    count = 8
    attack, images = attacks(count, 2)[kind], uniform(count, *SHAPE, seed=7)
    easy = torch.arange(count) < 5
    watched = Watched(count, 2)
    attack(watched.objective, images, enough=torch.where(easy, -torch.inf, torch.inf))
    sizes = [len(values) for values in watched.seen]
    assert sizes[0] == count
    assert set(sizes[6:]) == {3}
    assert len(sizes) > 30
    watched = Watched(count, 2)
    attack(watched.objective, images, enough=-torch.inf)
    assert len(watched.seen) <= 5


def test_a_few_that_are_finished_are_carried_along() -> None:
    values = torch.zeros(100)
    values[:5] = 2
    unfinished = Unfinished(1.0)
    assert unfinished.left(4, Attacked(values, values)) is None
    values[:20] = 2
    assert unfinished.left(5, Attacked(values, values)) is None  # looks every fourth step only
    rows = unfinished.left(8, Attacked(values, values))
    assert rows is not None
    assert rows.tolist() == list(range(20, 100))


def test_nan_is_never_enough() -> None:
    nan = torch.full((2, *SHAPE), torch.nan)
    found = pgd(lambda x: x.sum((1, 2, 3)), nan, epsilon=0.1, steps=8, enough=0.0)
    assert found.values.isnan().all()


def test_the_last_iterate_and_enough_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="keep='best' only"):
        pgd(torch.sum, torch.zeros(1, 2), epsilon=0.1, steps=1, keep="last", enough=0.0)


def test_a_function_of_an_objective_knows_its_samples() -> None:
    doubled = PerSample(lambda x, scale: scale * x.sum(1), (torch.tensor([1.0, 2.0, 3.0]),))
    shifted = doubled.then(lambda values: values + 1)
    assert shifted(torch.ones(3, 2)).tolist() == [3, 5, 7]
    assert shifted.only(torch.tensor([2, 0]))(torch.ones(2, 2)).tolist() == [7, 3]
