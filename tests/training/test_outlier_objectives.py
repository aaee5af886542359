"""Objectives with outliers, or with images rotated, against sums written out sample by sample."""

from __future__ import annotations

import copy
import math
from functools import partial

import pytest
import torch
from torch import nn

from atd.backbones import build_backbone
from atd.config import BackboneConfig, PretrainConfig
from atd.data.sampler import generator_for
from atd.training.losses import uniform_cross_entropy
from atd.training.objectives import objective_of
from atd.training.robust_pretraining import RobustPretraining

CLASSES, EPSILON, STEPS, BATCH = 3, 0.1, 3, 8


def small_network(seed=0, outputs=CLASSES):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(256, outputs),
    )


def denoising():
    torch.manual_seed(0)
    config = BackboneConfig(width=4, denoising=True)
    backbone = build_backbone(config, channels=1, classes=CLASSES, image_size=8)
    for name, parameter in backbone.named_parameters():
        if "places.1" in name or "channels.1" in name:  # which begin with no effect at all
            nn.init.uniform_(parameter)
    return backbone


@pytest.fixture
def make(processes, random_images, stream_of):
    def task(objective, bfloat16=False, classes=("a", "b", "c"), **options):
        kind = objective_of(objective)
        model = (
            denoising()
            if objective == "osad"
            else small_network(outputs=CLASSES + kind.mines + (not classes))
        )
        outliers = stream_of(random_images("outlier", 20, low=90), BATCH, augment="crop")
        defaults = {"steps": STEPS, "epsilon": EPSILON, "lr": 0.02, "weight_decay": 0.0}
        return RobustPretraining(
            model,
            small_network(1),
            stream_of(random_images("train", classes=classes), BATCH, augment="crop"),
            outliers if kind.beside == "outliers" else None,
            random_images("validation", 5),
            PretrainConfig(**{**defaults, "momentum": 0.0, **options}),
            objective=objective,
            epochs=2,
            stage="pretrain",
            processes=processes,
            seed=0,
            bfloat16=bfloat16,
        )

    return task


def probabilities(row):
    whole = sum(math.e**value for value in row)
    return [math.e**value / whole for value in row]


def cross_entropy(outputs, labels):
    """One sample after the other; a label may be `uniform`."""
    total = 0.0
    for row, label in zip(outputs, labels, strict=True):
        p = probabilities(row)
        if label == "uniform":
            total = total - sum(one.log() for one in p) / len(p)
        else:
            total = total - p[int(label)].log()
    return total / len(outputs)


def divergence(clean, other):
    total = 0.0
    for one, two in zip(clean, other, strict=True):
        pairs = zip(probabilities(one), probabilities(two), strict=True)
        total = total + sum(p * (p / q).log() for p, q in pairs)
    return total / len(clean)


def climbed(model, images, purpose, loss, near=False):
    """Sign steps in evaluation mode; `loss` is of outputs now and outputs at the clean images."""
    draws = torch.randn(images.shape, generator=generator_for("pretrain", purpose, 0, 0))
    moved = (1e-3 * draws).clamp(-EPSILON, EPSILON) if near else EPSILON * draws.clamp(-1, 1)
    x, clean = (images + moved).clamp(0, 1), model(images).detach()
    for _ in range(STEPS):
        x = x.detach().requires_grad_(True)
        (len(images) * loss(model(x), clean)).backward()
        x = x.detach() + 2.5 * EPSILON / STEPS * x.grad.sign()
        x = (images + (x - images).clamp(-EPSILON, EPSILON)).clamp(0, 1)
    return x.detach()


def restated(task, objective, batch, model):
    """The published loss of a network."""
    (images, labels), (outliers, _) = batch
    attackable = copy.deepcopy(model).eval()
    uniform, last = ["uniform"] * BATCH, [CLASSES] * BATCH

    def attack(x, purpose, targets):
        return climbed(attackable, x, purpose, lambda out, _: cross_entropy(out, targets))

    def drift(x, purpose):
        return climbed(attackable, x, purpose, lambda out, c: divergence(c, out), near=True)

    inside, outside = images, outliers
    if objective in ("aoe", "aloe"):
        inside = attack(images, "attack", labels)
    if objective == "aloe":
        outside = attack(outliers, "attack beside", uniform)
    model.train()
    if objective in ("oe", "aoe", "aloe"):
        outputs = model(torch.cat([inside, outside]))
        return cross_entropy(outputs[:BATCH], labels) + 0.5 * cross_entropy(
            outputs[BATCH:], uniform
        )
    if objective == "atom":
        moved = attack(outliers, "attack beside", last)
        outputs = model(torch.cat([images, outliers, moved]))
        return cross_entropy(outputs[:BATCH], labels) + cross_entropy(outputs[BATCH:], last * 2)
    inside, outside = drift(images, "attack"), drift(outliers, "attack beside")
    clean, moved = torch.cat([images, outliers]), torch.cat([inside, outside])
    at_clean, at_moved, beyond = model(clean), model(moved), model(clean + 2 * (moved - clean))
    judged = copy.deepcopy(task.helper).eval()(inside).argmax(1)
    loss = cross_entropy(at_clean[:BATCH], labels) + 2 * cross_entropy(at_clean[BATCH:], uniform)
    of_id = divergence(at_clean[:BATCH], at_moved[:BATCH])
    of_outliers = divergence(at_clean[BATCH:], at_moved[BATCH:])
    return loss + 3 * (of_id + 2 * of_outliers) + 0.5 * cross_entropy(beyond[:BATCH], judged)


def require_step(task, batch, expected):
    """The step reports the expected loss and gives every parameter its expected gradient."""
    loss, gradients = expected
    parameters = list(task.model.parameters())
    found = task.step(0, batch)["loss"]
    torch.testing.assert_close(found, loss.detach(), rtol=1e-4, atol=1e-5)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-5)


def with_gradients(model, make_loss):
    model = copy.deepcopy(model)
    loss = make_loss(model)
    return loss, torch.autograd.grad(loss, list(model.parameters()))


@pytest.mark.parametrize("objective", ["oe", "aoe", "aloe", "atom", "halo"])
def test_a_step_descends_the_published_loss(make, objective):
    task = make(objective, beta=3.0)
    batch = next(task.batches(0))
    require_step(task, batch, with_gradients(task.model, partial(restated, task, objective, batch)))


def test_osad_reconstructs_and_tells_rotations(make):
    task = make("osad")
    images, labels = next(task.batches(0))
    turns = torch.randint(4, (BATCH,), generator=generator_for("pretrain", "turns beside", 0, 0))
    turned = torch.stack(
        [image.rot90(int(k), (1, 2)) for image, k in zip(images, turns, strict=True)]
    )
    fixed = copy.deepcopy(task.model).eval()

    def rotation_of(model, x):
        return model.rotation(model.embed(x))

    inside = climbed(fixed, images, "attack", lambda out, _: cross_entropy(out, labels))
    others = climbed(
        lambda x: rotation_of(fixed, x),
        turned,
        "attack beside",
        lambda out, _: cross_entropy(out, turns),
    )

    def loss(model):
        model.train()
        made = model.decoder(model.embed(inside))
        loss = cross_entropy(model(inside), labels)
        for image, wanted in zip(made.flatten(), images.flatten(), strict=True):
            loss = loss + (image - wanted) ** 2 / images.numel()
        return loss + cross_entropy(rotation_of(model, others), turns)

    expected = with_gradients(task.model, loss)
    assert all(gradient.abs().sum() > 0 for gradient in expected[1])
    require_step(task, (images, labels), expected)


def test_another_weight_of_outliers_is_taken(make):
    task, other = make("oe"), make("oe", outlier_weight=2.0)
    batch = next(task.batches(0))
    outputs = copy.deepcopy(task.model).train()(torch.cat([batch[0][0], batch[1][0]]))
    one = uniform_cross_entropy(outputs[BATCH:]).mean().detach()
    difference = other.step(0, batch)["loss"] - task.step(0, batch)["loss"]
    torch.testing.assert_close(difference, 1.5 * one, rtol=1e-4, atol=1e-5)


def test_the_gradient_to_uniform_is_that_of_finite_differences():
    torch.manual_seed(0)
    logits = (5 * torch.randn(4, 6, dtype=torch.float64)).requires_grad_(True)
    assert torch.autograd.gradcheck(uniform_cross_entropy, logits)
    torch.testing.assert_close(
        uniform_cross_entropy(logits),
        torch.stack([cross_entropy([r], ["uniform"]) for r in logits]),
    )
    even = uniform_cross_entropy(torch.full((1, 6), 3.0))
    assert float(even) == pytest.approx(math.log(6))


@pytest.mark.parametrize("objective", ["oe", "aoe", "aloe", "atom", "halo"])
def test_outliers_learn_what_they_are_taught(make, objective):
    task = make(objective, lr=0.05)
    batch = next(task.batches(0))
    first, *_, last = [task.step(at, batch)["loss"] for at in range(task.steps)]
    assert last < first
    measured = task.validate(task.steps, None)
    robust = objective in ("aoe", "aloe", "halo")
    assert ("val_pgd20_accuracy" in measured) == robust


def test_bfloat16_passes_keep_float32_weights(make):
    for objective in ("aloe", "osad"):
        task = make(objective, bfloat16=True)
        scalars = task.step(0, next(task.batches(0)))
        exact = make(objective).step(0, next(make(objective).batches(0)))
        torch.testing.assert_close(scalars["loss"], exact["loss"], rtol=0.1, atol=0.1)
        assert {parameter.dtype for parameter in task.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("objective", ["aloe", "atom"])
def test_without_labels_outliers_are_learnt_beside_rotations(make, objective):
    task = make(objective, classes=())
    seen = []
    loss = task.objective.loss
    task.objective = copy.copy(task.objective)
    task.objective.loss = lambda *given: (seen.append(given[1:]), loss(*given))[1]
    task.step(0, next(task.batches(0)))
    ((inside, beside),) = seen
    assert set(inside.labels.tolist()) <= {0, 1, 2, 3}
    assert inside.labels.unique().numel() > 1
    assert not beside.labels.any()
    moved = (beside.attacked - beside.images).abs().amax((1, 2, 3))
    assert (moved > 0).all()
    assert moved.max() <= EPSILON + 1e-6
