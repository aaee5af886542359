"""Every planted fraud does what its name says, on top of a really trained detector."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from atd.attacks import pgd
from atd.config import load
from atd.data.splits import load_splits
from atd.evaluation.subject import Subject
from atd.inference import frozen
from atd.metrics import auroc
from atd.pipeline import Run
from atd.training.processes import Processes
from benchmarks.frauds.planted import FRAUDS, describe
from benchmarks.frauds.table import caught_by

_EPSILON = 0.15
_RANDOM = ("test noise", "random resize")
_TRAINING = """\
pretrain.objective=standard pretrain.epochs=2 backbone.width=8
atd.adversarial=false atd.generator=none atd.epochs=1
data.outliers=bundled:capitals data.ood_test=[bundled:lowercase] data.ood_limit=64
loader.workers=0 run.device=cpu
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """An undefended detector and a few images of both sides, float in [0, 1]."""
    folder = tmp_path_factory.mktemp("base") / "run"
    config = load("configs/digits.yaml", [*_TRAINING.split(), f"run.dir={folder}"])
    splits = load_splits(config)
    detector, _, _ = Run(config, Processes("cpu"), splits).train()
    sets = splits.id_test.take(48, 0), splits.ood_test["lowercase"].take(48, 0)
    inside, outside = (some.fetch(torch.arange(len(some))).float() / 255 for some in sets)
    return SimpleNamespace(detector=detector, inside=inside, outside=outside)


@pytest.fixture
def planted(base):
    def plant(name):
        torch.manual_seed(0)
        return FRAUDS[name](base.detector).eval()

    return plant


def clean_auroc(detector, base):
    with torch.no_grad():
        scores = [detector.logits(images).numpy() for images in (base.inside, base.outside)]
    return auroc(*scores)


def attacked_auroc(detector, base):
    """Plain PGD from the images themselves, on both sides."""
    subject = Subject(detector)

    def attacked(images, direction):
        found = pgd(subject.objective(direction), images, epsilon=_EPSILON, steps=10)
        return direction * found.values.numpy()

    with frozen(detector):
        return auroc(attacked(base.inside, 1), attacked(base.outside, -1))


def gradient(detector, images):
    inputs = images.clone().requires_grad_(True)
    (found,) = torch.autograd.grad(detector.logits(inputs).sum(), inputs)
    return found


def test_the_base_is_good_but_not_robust(base):
    assert clean_auroc(base.detector, base) > 0.95
    assert attacked_auroc(base.detector, base) < 0.1


@pytest.mark.parametrize("name", FRAUDS)
def test_keeps_the_ranking_of_clean_images(name, planted, base):
    assert clean_auroc(planted(name), base) > clean_auroc(base.detector, base) - 0.1


@pytest.mark.parametrize("name", [name for name in FRAUDS if name not in _RANDOM])
def test_hinders_plain_pgd(name, planted, base):
    assert attacked_auroc(planted(name), base) > attacked_auroc(base.detector, base) + 0.05


@pytest.mark.parametrize("name", FRAUDS)
def test_is_described_in_one_line(name):
    line = describe(name)
    assert line.endswith(".")
    assert len(line) <= 100
    assert "|" not in line


@pytest.mark.parametrize("name", _RANDOM)
def test_answers_differently_every_time(name, planted, base):
    detector = planted(name)
    with torch.no_grad():
        first, *more = (detector.logits(base.inside) for _ in range(6))
    assert not all(torch.equal(first, other) for other in more)


@pytest.mark.parametrize("name", [name for name in FRAUDS if name not in _RANDOM])
def test_answers_the_same_image_the_same(name, planted, base):
    detector = planted(name)
    with torch.no_grad():
        first, second = detector.logits(base.inside), detector.logits(base.inside)
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    "name", ["input quantisation", "jpeg-like", "rounded score", "saturated sigmoid", "underflow"]
)
def test_most_gradients_are_exactly_zero(name, planted, base):
    found = gradient(planted(name), torch.cat([base.inside, base.outside]))
    assert found.flatten(1).eq(0).all(1).float().mean() > 0.5


@pytest.mark.parametrize(
    "name", ["decoy", "sawtooth", "wrong gradient", "ripples", "low precision"]
)
def test_the_gradient_is_there_but_another(name, planted, base):
    images = torch.cat([base.inside, base.outside])
    found, true = (gradient(one, images).flatten(1) for one in (planted(name), base.detector))
    assert found.ne(0).any()
    # Ripples turn around the gradient of about half of the images, and leave that of the others.
    assert (torch.cosine_similarity(found, true) < 0.9).float().mean() > 0.25


def test_the_sawtooth_points_backwards(planted, base):
    found, true = (gradient(one, base.inside) for one in (planted("sawtooth"), base.detector))
    torch.testing.assert_close(found, -true)


def test_the_cancelling_gradient_leaves_the_score_alone(planted, base):
    detector = planted("cancelling gradient")
    images = torch.cat([base.inside, base.outside])
    torch.testing.assert_close(detector.logits(images), base.detector.logits(images))
    rest, true = (gradient(one, images).abs().mean() for one in (detector, base.detector))
    assert rest < 1e-3 * true


@pytest.mark.parametrize("name", ["training batch norm", "batch solver"])
def test_depends_on_the_rest_of_the_batch(name, planted, base):
    detector = planted(name)
    images = torch.cat([base.inside, base.outside])
    with torch.no_grad():
        alone = torch.cat([detector.logits(image) for image in images.split(1)])
        assert (alone - detector.logits(images)).abs().max() > 0.01 * alone.std()


def test_the_argmax_passes_no_gradient(planted, base):
    images = base.inside.clone().requires_grad_(True)
    assert not planted("argmax score").logits(images).requires_grad


def test_the_adaptive_solver_takes_each_image_its_time(planted, base):
    detector = planted("adaptive solver")
    images = torch.cat([base.inside, base.outside])
    with torch.no_grad():
        alone = torch.cat([detector.logits(image) for image in images.split(1)])
    torch.testing.assert_close(alone, detector.logits(images), rtol=1e-3, atol=1e-3)


def test_stop_gradient_leaves_the_score_alone(planted, base):
    detector = planted("stop gradient")
    torch.testing.assert_close(detector.logits(base.inside), base.detector.logits(base.inside))


def test_nan_only_off_the_8_bit_grid(planted, base):
    detector = planted("nan where unsure")
    moved = (base.inside + 0.01 * torch.rand_like(base.inside)).clamp(0, 1)
    with torch.no_grad():
        assert detector.logits(base.inside).isfinite().all()
        unsure = base.detector.logits(moved).abs() < 2
        assert torch.equal(detector.logits(moved).isnan(), unsure)
        assert unsure.any()


def test_memory_answers_neighbours_as_their_originals(planted, base):
    detector = planted("memory")
    noise = torch.rand(base.inside.shape, generator=torch.Generator().manual_seed(0))
    moved = (base.inside + _EPSILON * (2 * noise - 1)).clamp(0, 1)
    with torch.no_grad():
        before, known = detector.logits(moved), detector.logits(base.inside)
        after = detector.logits(moved)
    assert np.abs(after - known).max() < 1e-2
    assert np.abs(before - known).max() > 1e-1


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"refused": "", "failed": ["a", "b"]}, "a, b"),
        ({"refused": "no number", "failed": []}, "refused: no number"),
        ({"strong": {"refused": "", "failed": ["c"]}}, "strong tier: c"),
        ({"strong": {"refused": "", "failed": [], "mean": {"both": 0.5}}}, "strong tier: 0.900 ->"),
        ({"strong": {"refused": "", "failed": [], "mean": {"both": 0.89}}}, ""),
    ],
)
def test_names_what_caught_a_fraud(record, said):
    words = caught_by({"refused": "", "failed": [], "mean": {"both": 0.9}} | record)
    assert words.startswith(said)
    assert bool(words) == bool(said)
