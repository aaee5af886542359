"""What is certified holds: in closed form for a linear score, under attack for a curved one."""

from __future__ import annotations

import dataclasses
import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from scored import Counting, Stopping
from toys import TIER, Brightness, Convolutional, Toy, ToyImages, ToySplits, grey

from atd.attacks import pgd
from atd.config import load
from atd.errors import UserError
from atd.evaluation.certificate import certificate_passes, certify
from atd.evaluation.noisy import Noise, NoisyJob, noisy_scores
from atd.evaluation.protocol import evaluate
from atd.evaluation.settings import Settings
from atd.evaluation.smoothing import Smoothing
from atd.evaluation.subset import Sides
from atd.training.processes import Processes

ELEMENTS = 3 * 8 * 8
SMOOTHING = Smoothing(sigma=0.25, draws=400, radii=(0.1, 0.25, 0.5, 0.9), confidence=0.99)


def sets(low=60, high=110) -> ToySplits:
    ood = {"a": grey("a", low + 10, high + 10, 9, 2), "b": grey("b", low + 5, high + 5, 7, 3)}
    return ToySplits(grey("v", low, high, 4), grey("i", low, high, 8, 1), ood, {})


def settings(**more) -> Settings:
    return Settings(**{"tier": TIER, "epsilon": 0.1, "progress": False, **more})


def certificate(detector, splits=None, smoothing=SMOOTHING, tick=lambda count: None, **more):
    splits = splits or sets()
    sides = Sides.of(splits.id_test, list(splits.ood_test.values()), 4)
    names = list(splits.ood_test)
    return certify(detector, splits, names, sides, smoothing, settings(**more), tick)


class Linear(Toy):
    """Its median in noise is its own value, which a radius r moves by at most r |w|."""

    weight = torch.linspace(-1, 2, ELEMENTS)

    def forward(self, images):
        return images.flatten(1) @ self.weight


def linear_pairs(gap: float) -> ToySplits:
    """ID and OOD images whose linear scores differ by about `gap` times the score's slope."""
    slope = float(Linear.weight.norm())
    step = (gap * Linear.weight / slope).view(1, 3, 8, 8)
    base = torch.full((1, 3, 8, 8), 0.5)

    def images(name, shift):
        return ToyImages(
            name, ((base + shift * step) * 255).round().to(torch.uint8).repeat(3, 1, 1, 1)
        )

    return ToySplits(images("v", -0.5), images("i", -0.5), {"o": images("o", 0.5)}, {})


@pytest.mark.parametrize(("gap", "certain"), [(0.5, True), (0.3, False)])
def test_a_linear_score_is_certified_up_to_half_its_gap(gap, certain):
    """The closed form: both sides may close a gap g between them up to the radius g / 2."""
    smoothing = Smoothing(sigma=0.25, draws=20_000, radii=(0.2,), confidence=0.99)
    found = certificate(Linear(), linear_pairs(gap), smoothing, batch_size=4096)
    assert found.mean[-1].both == (1.0 if certain else 0.0)
    assert found.mean[0].both == found.smoothed == 1.0
    assert found.mean[-1].in_ == found.mean[-1].out == 1.0  # one side alone does not close it
    assert found.attempts[0].auroc == (1.0 if certain else 0.0)  # the attack is optimal here


def test_bounds_of_a_linear_score_are_those_of_the_closed_form():
    splits = sets()
    noise = Noise(sigma=0.25, draws=20_000)
    smoothing = Smoothing(sigma=0.25, draws=20_000, radii=(0.1, 0.4), confidence=0.99)
    (scores,) = noisy_scores(
        Linear(), [NoisyJob(splits.id_test, 1)], noise, settings(), lambda count: None
    )
    bounds = smoothing.upper_bounds(scores, images=8)
    slope, exact = float(Linear.weight.norm()), Linear()(splits.id_test.pixels / 255).numpy()
    for row, radius in enumerate(smoothing.at):
        # The order statistics of so many draws lie closely above the percentile.
        share = NormalDist().cdf(radius / 0.25)
        spread = math.sqrt(share * (1 - share) / 20_000) / NormalDist().pdf(radius / 0.25)
        over = (bounds[row] - exact - slope * radius) / (slope * 0.25)
        assert (over > 0).all()
        assert (over < 9 * spread).all()


def test_no_perturbation_passes_the_bounds_of_a_curved_score():
    """Medians of attacked images, from fresh noise, stay within the bounds of clean ones."""
    detector, splits, radius = Convolutional().eval(), sets(), 0.2
    smoothing = Smoothing(sigma=0.1, draws=2000, radii=(0.1, radius), confidence=0.99)
    noise = Noise(sigma=0.1, draws=2000)
    (scores,) = noisy_scores(
        detector, [NoisyJob(splits.id_test, 1)], noise, settings(), lambda count: None
    )
    found = smoothing.upper_bounds(scores, images=8)
    bounds = dict(zip(smoothing.at, found, strict=True))
    generator = torch.Generator().manual_seed(5)
    images = splits.id_test.pixels / 255
    own = 0.1 * torch.randn(64, *images.shape[1:], generator=generator)

    def mean(moved):
        return detector.logits((moved[:, None] + own).flatten(0, 1)).view(len(moved), 64).mean(1)

    fresh = 0.1 * torch.randn(4000, *images.shape[1:], generator=generator)
    gained = []
    for reach in (0.1, radius):
        moved = pgd(mean, images, epsilon=reach, steps=30, norm="l2", bounds=None).images
        with torch.no_grad():
            medians = torch.stack(
                [detector.logits(image + fresh).median() for image in moved]
            ).numpy()
        assert (medians < bounds[reach]).all()
        gained.append((medians - np.median(scores, axis=1)) / (bounds[reach] - bounds[0.0]))
    assert np.min(gained) > 0.8  # the attack comes near, or the test would show nothing


def test_certified_falls_with_the_radius_and_lies_below_what_attacks_leave():
    found = certificate(Convolutional(), sets(40, 200))
    for at in found.datasets.values():
        for key in ("in_", "out", "both"):
            values = [getattr(point, key) for point in at]
            assert values == sorted(values, reverse=True)
        assert all(point.both <= min(point.in_, point.out) for point in at)
    for point, attempt in zip(found.mean[1:], found.attempts, strict=True):
        assert point.radius == attempt.radius
        assert attempt.certified <= attempt.auroc
        assert point.linf == pytest.approx(point.radius / math.sqrt(ELEMENTS))
    assert found.mean[0].both <= found.smoothed
    assert found.error == pytest.approx(0.01 / (24 * 5))
    assert found.images == 24
    mean = [np.mean([found.datasets[name][3].in_ for name in "ab"])]
    assert found.mean[3].in_ == pytest.approx(mean[0])


def test_sets_of_a_single_image_are_certified_too():
    splits = ToySplits(grey("v", 0, 9, 2), grey("i", 0, 9, 1), {"o": grey("o", 90, 99, 1)}, {})
    found = certificate(Linear(), splits)
    assert found.mean[0].both == found.attempts[0].certified == found.smoothed == 1.0


def test_no_bound_counts_against_the_detector():
    """Radius 0.9 is out of reach of 400 draws at sigma 0.25."""
    last = certificate(Brightness(1000.0), sets(0, 20)).mean[-1]
    assert (last.radius, last.abstained, last.both, last.in_, last.out) == (0.9, 1.0, 0, 0, 0)


def test_scores_that_are_not_finite_count_against_the_detector():
    class Breaking(Brightness):
        def forward(self, images):
            scores = super().forward(images)
            return torch.where(images.flatten(1)[:, 0] > 0, scores, torch.nan)

    splits = linear_pairs(0.5)
    whole, broken = certificate(Brightness(), splits), certificate(Breaking(), splits)
    assert broken.mean[0].abstained == whole.mean[0].abstained == 0
    assert broken.mean[1].abstained == 0
    # At 0.5, the bounds are among the last draws, some of which are not finite.
    assert broken.mean[3].abstained == 1.0 > whole.mean[3].abstained


@pytest.mark.parametrize("batch_size", [7, 64, 1024])
@pytest.mark.parametrize("radius", [0.0, 0.3])
def test_batch_size_changes_not_a_bit(batch_size, radius):
    noise, jobs = Noise(sigma=0.2, draws=50, radius=radius), [NoisyJob(sets().id_test, 1)]
    found = [
        noisy_scores(Convolutional(), jobs, noise, settings(batch_size=size), lambda count: None)[0]
        for size in (256, batch_size)
    ]
    np.testing.assert_array_equal(*found)
    assert len(np.unique(found[0])) == found[0].size


def test_each_image_has_its_own_noise_of_the_right_size():
    class Corner(Toy):
        def forward(self, images):
            return images[:, 0, 0, 0]

    splits, noise = sets(), Noise(sigma=0.2, draws=5000)
    (scores,) = noisy_scores(
        Corner(), [NoisyJob(splits.id_test, 1)], noise, settings(), lambda count: None
    )
    added = scores - splits.id_test.pixels[:, 0, 0, 0].numpy()[:, None] / 255
    np.testing.assert_allclose(added.mean(1), 0, atol=0.012)
    np.testing.assert_allclose(added.std(1), 0.2, rtol=0.05)
    assert added.min() < -0.5  # nothing is clipped
    assert np.abs(np.corrcoef(added) - np.eye(8)).max() < 0.08
    other = noisy_scores(
        Corner(), [NoisyJob(splits.id_test, 1)], noise, settings(seed=1), lambda count: None
    )[0]
    assert (other != scores).all()


def test_an_interrupted_certificate_goes_on_where_it_stopped(tmp_path):
    detector, smoothing = Convolutional(), dataclasses.replace(SMOOTHING, radii=(0.2,))
    whole = certificate(detector, smoothing=smoothing)
    with pytest.raises(KeyboardInterrupt):
        certificate(Stopping(detector, 20), smoothing=smoothing, cache=tmp_path)
    again = Stopping(detector, 10_000)
    assert certificate(again, smoothing=smoothing, cache=tmp_path) == whole
    fresh = Stopping(detector, 10_000)
    certificate(fresh, smoothing=smoothing)
    assert again.left > fresh.left
    counting = Counting(detector)
    certificate(counting, smoothing=smoothing, cache=tmp_path)
    calls = counting.calls
    assert calls > 0  # another class is another detector
    # Other radii and another confidence ask nothing new of clean images.
    other = dataclasses.replace(smoothing, confidence=0.9)
    certificate(counting, smoothing=other, cache=tmp_path)
    assert counting.calls == calls
    for changed in ({"sigma": 0.3}, {"draws": 401}):
        certificate(counting, smoothing=dataclasses.replace(smoothing, **changed), cache=tmp_path)
        assert counting.calls > calls
        calls = counting.calls
    files = sorted(file.suffix for file in tmp_path.iterdir())
    assert set(files) == {".npz"}


def test_work_is_counted():
    done = []
    certificate(Convolutional(), tick=done.append)
    assert sum(done) == certificate_passes(SMOOTHING, sets(), 4)


def certified_twice(processes: Processes, cache):
    """The second time from the cache; with noise, attack and all."""
    return [
        certificate(Convolutional(), accelerator=processes.accelerator, cache=cache)
        for _ in range(2)
    ]


@pytest.mark.dist
def test_two_processes_find_the_same_as_one(pool, tmp_path):
    alone = certificate(Convolutional())
    first, second = pool(certified_twice, tmp_path)
    assert first == second == [alone, alone]


def test_what_has_no_gradient_is_certified_too():
    class Rounded(Linear):
        def forward(self, images):
            return super().forward(images).mul(50).round().detach()

    found = certificate(Rounded(), linear_pairs(0.5))
    assert found.mean[1].both == found.attempts[0].auroc == 1.0


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("certify_sigma=0", "it must be above 0"),
        ("certify_draws=29", "it must be from 30 to 1000000"),
        ("certify_draws=many", "it must be a whole number"),
        ("certify_radii=[]", "it must be 1 to 100 radii"),
        ("certify_radii=0.1,-0.5", "out of range"),
        ("certify_radii=0.1,wide", "it must be a number"),
        ("certify_confidence=1", "out of range"),
        ("certify=maybe", "it must be true or false"),
        ("certify_sigm=1", "did you mean evaluate.certify_sigma?"),
    ],
)
def test_options_have_ranges(option, message):
    with pytest.raises(UserError) as caught:
        load(None, [f"evaluate.{option}"])
    assert message in str(caught.value)
    assert f"evaluate.{option.partition('=')[0]}" in str(caught.value)


def test_the_cost_is_told_before_it_starts(capsys):
    smoothing = dataclasses.replace(SMOOTHING, draws=30, radii=(0.1,))
    evaluate(Brightness(), sets(), settings(progress=True, smoothing=smoothing), name="toy")
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith(
        "certificate: 24 images x 30 noisy copies, and for each radius an attack"
    )
    assert f"{certificate_passes(smoothing, sets(), 64):,} passes, about " in first
