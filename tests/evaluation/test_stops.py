"""An evaluation that stops early and shrinks its batches has the metrics of one that does not."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from toys import Toy, ToyImages, ToySplits

from atd.attacks import default_step_size
from atd.attacks.starts import start_noise
from atd.attacks.suite import member
from atd.evaluation.probes import Probes
from atd.evaluation.rounds import attack_rounds
from atd.evaluation.settings import Settings
from atd.evaluation.stops import stops
from atd.evaluation.subset import Sides
from atd.evaluation.tiers import Tier
from atd.metrics import METRICS, metrics

scores = st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=12)


@given(inside=scores, outside=scores, threshold=st.floats(-10, 10), data=st.data())
def test_what_lies_past_the_stop_changes_no_metric(inside, outside, threshold, data) -> None:
    clean_in, clean_out = np.array(inside), np.array(outside)
    above, below = stops(clean_in, clean_out, threshold)

    def moved(clean: np.ndarray, sign: int) -> np.ndarray:
        gains = data.draw(st.lists(st.floats(0, 30), min_size=len(clean), max_size=len(clean)))
        return clean + sign * np.array(gains)

    def otherwise(attacked: np.ndarray, past: np.ndarray, beyond: float) -> np.ndarray:
        """Past the stop any values, equal where they were equal.

        In any order, except that groups of equal scores keep theirs: the points of a
        precision-recall curve lie between such groups, so AUPR depends on their order.
        """
        distinct, ranks = np.unique(attacked[past], return_inverse=True)
        tied = len(distinct) < len(ranks)
        orders = st.just(range(len(distinct))[:: int(np.sign(beyond))])
        order = np.array(
            data.draw(orders if tied else st.permutations(range(len(distinct)))), dtype=float
        )
        changed = attacked.copy()
        changed[past] = beyond * (1 + order[ranks])
        return changed

    raised, lowered = moved(clean_in, 1), moved(clean_out, -1)
    less_raised = otherwise(raised, raised > above, 50.0)
    less_lowered = otherwise(lowered, lowered < below, -50.0)
    pairs = [
        ((raised, clean_out), (less_raised, clean_out)),
        ((clean_in, lowered), (clean_in, less_lowered)),
        ((raised, lowered), (less_raised, less_lowered)),
    ]
    for (one_in, one_out), (two_in, two_out) in pairs:
        one, two = (metrics(a, b, resamples=3) for a, b in ((one_in, one_out), (two_in, two_out)))
        assert all(one[key] == pytest.approx(two[key], abs=1e-12) for key in METRICS)
        assert ((one_in <= threshold) == (two_in <= threshold)).all()
        assert ((one_out <= threshold) == (two_out <= threshold)).all()


class Network(Toy):
    """A small convolutional detector, trained to tell low from high digits."""

    def __init__(self) -> None:
        super().__init__(channels=1)
        self.net = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(),
            nn.Linear(128, 1),
        )  # fmt: skip
        self.images = 0

    def forward(self, images: Tensor) -> Tensor:
        # Copies that fill up a block do not count.
        self.images += len(images.detach().unique(dim=0))
        return self.net(images).squeeze(1)


@pytest.fixture(scope="module")
def digits() -> SimpleNamespace:
    """`splits`, and two `detectors`: one that its attack leaves in between, one that it breaks."""
    from sklearn.datasets import load_digits

    data = load_digits()
    pixels = torch.tensor(data.images * 255 / 16).round().to(torch.uint8)[:, None]
    target = torch.tensor(data.target)
    inside, outside = pixels[target < 5], pixels[target >= 5]
    torch.manual_seed(0)
    network = Network()
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(120):
        batches = [side[torch.randint(500, (64,))] / 255 for side in (inside, outside)]
        loss = sum(
            nn.functional.softplus(sign * network.logits(images)).mean()
            for images, sign in zip(batches, (1, -1), strict=True)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    splits = ToySplits(
        id_val=ToyImages("val", inside[:100]),
        id_test=ToyImages("low", inside[-150:]),
        ood_test={
            "5-9": ToyImages("high", outside[-120:]),
            "upside down": ToyImages("upside down", outside[-70:].flip(2)),
        },
        roles={},
    )
    return SimpleNamespace(splits=splits, network=network.eval())


def plain(network: nn.Module, images: ToyImages, sign: int, settings: Settings) -> np.ndarray:
    """PGD restated: contiguous images, parameter gradients, no early stop, batch by batch."""
    steps = settings.tier.steps
    size, found = default_step_size(settings.epsilon, steps), []
    for rows in torch.arange(len(images)).split(settings.batch_size):
        clean = images.fetch(rows).float() / 255
        lower = (clean - settings.epsilon).clamp_min(0)
        upper = (clean + settings.epsilon).clamp_max(1)
        worst = (sign * network.logits(clean)).detach()
        noise = start_noise(clean.shape[1:], rows, settings.seed, 0)
        moved = torch.minimum(torch.maximum(clean + settings.epsilon * noise, lower), upper)
        for _ in range(steps):
            moved = moved.detach().requires_grad_(True)
            value = sign * network.logits(moved)
            value.sum().backward()
            worst = torch.maximum(worst, value.detach())
            moved = moved.detach() + size * moved.grad.sign()
            moved = torch.minimum(torch.maximum(moved, lower), upper)
        found.append(torch.maximum(worst, (sign * network.logits(moved)).detach()))
    return (sign * torch.cat(found)).double().numpy()


@pytest.mark.parametrize(("epsilon", "share"), [(0.02, 1.1), (0.1, 1.1), (0.6, 0.6)])
def test_all_metrics_are_those_of_the_plain_attack(digits, epsilon: float, share: float) -> None:
    network, splits = digits.network, digits.splits
    settings = Settings(
        tier=Tier("custom", (member("pgd", 40),)), epsilon=epsilon, batch_size=64, progress=False
    )
    network.images = 0
    rounds = attack_rounds(network, splits, settings, (), lambda count: None)
    ours, network.images = network.images, 0
    raised = plain(network, splits.id_test, 1, settings)
    lowered = {name: plain(network, s, -1, settings) for name, s in splits.ood_test.items()}
    assert ours < share * network.images
    inside = rounds.id_test
    for name, outside in rounds.ood.items():
        for mine, theirs in (
            ((inside.attacked, outside.clean), (raised, outside.clean)),
            ((inside.clean, outside.attacked), (inside.clean, lowered[name])),
            ((inside.attacked, outside.attacked), (raised, lowered[name])),
        ):
            found, expected = metrics(*mine, resamples=20), metrics(*theirs, resamples=20)
            for key, value in expected.items():
                np.testing.assert_allclose(found[key], value, atol=1e-6, err_msg=key)


@pytest.mark.parametrize(
    "tried", [member("apgd", 12), member("saturating", 12), member("square", 60)]
)
@pytest.mark.parametrize("factor", [1.0, 4.0])
def test_curves_are_those_of_probes_that_never_stop(
    digits, monkeypatch, tried, factor: float
) -> None:
    settings = Settings(
        tier=Tier("custom", (member("pgd", 10),)), epsilon=0.1, batch_size=64, progress=False
    )
    sides = Sides.of(digits.splits.id_test, list(digits.splits.ood_test.values()), 40)

    def conditions() -> tuple[dict[str, float], int]:
        digits.network.images = 0
        probes = Probes(digits.network, sides, settings)
        return probes.aurocs(tried, factor), digits.network.images

    short, fewer = conditions()
    monkeypatch.setattr("atd.evaluation.probes.stops", lambda *_: (None, None))
    whole, images = conditions()
    assert short == pytest.approx(whole, abs=1e-6)
    assert fewer < images or factor == 1.0
