"""What every kind of detector keeps; a new kind is tested by being listed in `KINDS`."""

from __future__ import annotations

import copy
import re
import threading
from typing import Annotated, Literal, get_args, get_origin

import pytest
import torch
from making import line_of

from atd.config.values import option_types
from atd.detectors.base import Detector
from atd.detectors.export import export_detector
from atd.detectors.formats.traced import Scorer, trace
from atd.detectors.kinds import KINDS
from atd.errors import UserError
from atd.evaluation.cache import fingerprint
from atd.metrics import auroc
from tests.detectors.fitted_kinds import (
    SIZE,
    backbone_of,
    fit,
    fit_data,
    fitted,
    id_images,
    ood_images,
    unfitted,
)

OTHER: dict[tuple[str, str], object] = {
    ("confounding_gradients", "label"): [1.0, 0.0, 1.0],
    ("daain", "radius"): 9.0,
    ("knn", "bank"): 60,
    ("vim", "dimension"): 5,
}
"""Another valid value of an option, where none can be found from its type."""


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def detector(kind):
    return fitted(kind)


@pytest.fixture(scope="module")
def images():
    return torch.cat([id_images(2, seed=300)[0], ood_images(6, seed=400)])


def state_of(detector):
    return {name: value.clone() for name, value in detector.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_one_finite_score_per_image(detector, images):
    for some in (images[:1], images[:5], images):
        scores = detector(some)
        assert (scores.shape, scores.dtype) == ((len(some),), torch.float32)
        assert scores.isfinite().all()
    assert torch.equal(detector.score(images), detector.logits(images).detach())
    assert detector.score(images[:0]).shape == (0,)


def test_larger_means_out_of_distribution(detector):
    inside, outside = id_images(40, seed=500)[0], ood_images(120, seed=600)
    assert auroc(detector.score(inside).numpy(), detector.score(outside).numpy()) > 0.9


def test_batch_mates_do_not_matter(detector, images):
    whole = detector.score(images)
    spread = float(whole.std())
    alone = torch.cat([detector.score(image) for image in images])
    turned = detector.score(images.flip(0)).flip(0)
    for scores in (alone, turned, detector.score(images, batch_size=5)):
        torch.testing.assert_close(scores, whole, rtol=1e-4, atol=1e-4 * spread)


def test_gradients_are_the_scores_own_or_a_declared_surrogates(detector, images):
    exact = copy.deepcopy(detector).double()
    points = (images * 0.9 + 0.05).double().requires_grad_(True)
    function = exact.surrogate if detector.info.gradient == "surrogate" else exact
    values = function(points)
    assert values.shape == (len(images),)
    if detector.info.gradient == "none":
        return
    (gradient,) = torch.autograd.grad(values.sum(), points)
    assert gradient.isfinite().all()
    assert (gradient.flatten(1).abs().amax(1) > 0).all()
    step = 1e-6
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(points.shape, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        difference = function(points + step * direction) - function(points - step * direction)
    slope = (gradient * direction).flatten(1).sum(1)
    error = (difference / (2 * step) - slope).abs() / slope.abs().clamp_min(1e-3 * slope.std())
    assert (error < 1e-3).float().mean() > 0.8  # a minimum over classes has kinks


def test_nothing_is_changed_by_scoring(detector, images):
    before, flags = state_of(detector), [part.training for part in detector.modules()]
    watched = images.clone().requires_grad_(True)
    scores = detector(watched)
    if scores.requires_grad:
        scores.sum().backward()
    detector.predict(images, 0.0)
    assert same(state_of(detector), before)
    assert [part.training for part in detector.modules()] == flags
    assert all(parameter.grad is None for parameter in detector.parameters())
    assert not any(parameter.requires_grad for parameter in detector.parameters())
    assert torch.equal(watched.detach(), images)
    hooks = [part._forward_hooks or part._forward_pre_hooks for part in detector.modules()]
    assert not any(hooks)


def test_without_gradients_and_on_eight_threads_the_scores_are_the_same(detector, images):
    expected = detector(images).detach()
    with torch.no_grad():
        assert torch.equal(detector(images), expected)
    with torch.inference_mode():
        assert torch.equal(detector(images), expected)
        assert torch.equal(detector.score(images), expected)
    found = {}

    def work(number):
        match number % 3:
            case 0:
                found[number] = [detector(images).detach() for _ in range(3)]
            case 1:
                found[number] = [detector.score(images) for _ in range(3)]
            case 2:
                with torch.inference_mode():
                    found[number] = [detector(images).clone() for _ in range(3)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(torch.equal(scores, expected) for several in found.values() for scores in several)


def test_saved_and_loaded_it_is_the_same_to_the_bit(detector, images, tmp_path):
    detector.save_pretrained(tmp_path / "detector")
    loaded = Detector.from_pretrained(tmp_path / "detector")
    assert type(loaded) is type(detector)
    assert loaded.config == detector.config
    assert loaded.options == detector.options
    assert same(loaded.state_dict(), detector.state_dict())
    assert torch.equal(loaded.score(images), detector.score(images))
    assert fingerprint(loaded) == fingerprint(detector)


def another(kind, name, hint, value):
    """A valid value of an option that is not `value`."""
    if (kind, name) in OTHER:
        return OTHER[kind, name]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return next(choice for choice in arguments if choice != value)
    if hint is bool:
        return not value
    assert origin is Annotated, f"name another value of {kind}'s option {name} in OTHER"
    number, allowed = arguments[0], arguments[1]
    candidates = [number(value * 2), number(value + 1), number(value / 2), number(allowed.low)]
    return next(item for item in candidates if item != value and item in allowed)


def test_the_fingerprint_covers_every_option(kind, detector):
    known = fingerprint(detector)
    assert fingerprint(fit(unfitted(kind))) == known
    for name, hint in option_types(detector.Options).items():
        value = another(kind, name, hint, getattr(detector.options, name))
        assert fingerprint(fit(unfitted(kind, **{name: value}))) != known, name


def test_the_fingerprint_covers_every_weight_and_the_code(detector, monkeypatch):
    known = fingerprint(detector)
    changed = copy.deepcopy(detector)
    for name, value in changed.state_dict().items():
        first = (0,) * value.ndim
        kept = value[first].clone()
        value[first] += 1
        assert fingerprint(changed) != known, name
        value[first] = kept
    assert fingerprint(changed) == known
    monkeypatch.setattr("atd.detectors.base.house_digest", lambda: b"edited")
    assert fingerprint(detector) != known


def test_a_copy_computes_in_double(detector, images):
    scores = copy.deepcopy(detector).double()(images.double())
    assert scores.dtype == torch.float64
    expected = detector.score(images).double()
    torch.testing.assert_close(scores, expected, rtol=1e-3, atol=1e-3 * float(expected.std()))


def test_it_can_be_exported_or_says_why_not(detector, tmp_path):
    if detector.info.exportable is True:
        pixels = (id_images(3, seed=700)[0] * 255).to(torch.uint8)
        program = trace(Scorer(detector).eval(), detector).module()
        for count in (0, 1, 2, 9):
            scores = detector.score(pixels[:count])
            torch.testing.assert_close(program(pixels[:count]), scores, rtol=1e-4, atol=1e-4)
        return
    detector.save_pretrained(tmp_path / "detector")
    with pytest.raises(UserError) as error:
        export_detector(tmp_path / "detector", tmp_path / "export", ["pt2"])
    assert detector.info.exportable in line_of(error)
    assert not (tmp_path / "export").exists()


def test_its_info_is_true(kind, detector, images):
    info, config = detector.info, detector.config
    assert (detector.kind, config.kind) == (kind, kind)
    assert info.title
    assert re.search(r"\b(19|20)\d\d\b", info.paper)
    calls = []
    first = next(m for m in detector.backbone.modules() if isinstance(m, torch.nn.Conv2d))
    handle = first.register_forward_hook(lambda *_: calls.append(1))
    detector(images)
    handle.remove()
    assert 1 <= len(calls) <= info.passes

    fresh = unfitted(kind).eval()
    if "fitting" not in info.needs:
        before = state_of(fresh)
        assert fresh.fit(fit_data(), seed=0) is fresh
        assert same(state_of(fresh), before)
    else:
        with pytest.raises(UserError, match="fit"):
            fresh(images)
        with pytest.raises(UserError, match="fit"):
            fresh.save_pretrained("nowhere")


def test_what_it_needs_it_asks_for(kind, detector):
    needs = detector.info.needs
    unlabelled = [(images, torch.full_like(labels, -1)) for images, labels in fit_data().id]
    lacking = {"labels": {"id": unlabelled}, "outliers": {"outliers": None}, "fitting": {"id": []}}
    for need in set() if "training" in needs else needs - {"logits"}:
        with pytest.raises(UserError) as error:
            unfitted(kind).fit(fit_data(**lacking[need]), seed=0)
        line_of(error)


def test_the_same_seed_fits_the_same_and_leaves_the_backbone(kind, detector):
    assert same(fit(unfitted(kind)).state_dict(), detector.state_dict())
    assert same(detector.backbone.state_dict(), backbone_of(kind).state_dict())


@pytest.mark.parametrize(
    ("unfit", "words"),
    [
        (torch.zeros(1, 3, SIZE, SIZE, dtype=torch.uint8), "score"),
        (torch.zeros(1, 3, SIZE, SIZE, dtype=torch.int64), "divide by 255"),
        (torch.zeros(1, 1, SIZE, SIZE), "(N, 3, 8, 8)"),
        (torch.zeros(3, SIZE, SIZE), "(N, 3, 8, 8)"),
    ],
)
def test_integers_and_other_shapes_are_refused(detector, unfit, words):
    for function in (detector, detector.forward, detector.logits):
        with pytest.raises(UserError) as error:
            function(unfit)
        assert words in line_of(error)
