"""Robust pre-training against an independent restatement of each objective."""

from __future__ import annotations

import copy
from itertools import islice

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from atd.backbones import build_backbone
from atd.backbones.folding import FrozenPass
from atd.config import BackboneConfig, PretrainConfig
from atd.data.sampler import generator_for
from atd.training.checkpoint import load_state, save_state
from atd.training.logbook import Logbook
from atd.training.objectives.standard import Standard
from atd.training.robust_pretraining import RobustPretraining
from atd.training.schedule import one_cycle

OBJECTIVES = ("standard", "adversarial", "trades", "hat")
SILENT = Logbook(None)


def small_network(seed=0, classes=3):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(256, classes),
    )


@pytest.fixture
def make(processes, random_images, stream_of):
    def task(objective="hat", images=None, model=None, seed=0, epochs=2, **options):
        images = images or random_images("train")
        defaults = {"steps": 3, "epsilon": 0.1, "lr": 0.02}
        return RobustPretraining(
            small_network(classes=len(images.classes) or 4) if model is None else model,
            small_network(1, len(images.classes) or 4),
            stream_of(images, augment="crop", seed=seed),
            None,
            images,
            PretrainConfig(**{**defaults, **options}),
            objective=objective,
            epochs=epochs,
            stage="pretrain",
            processes=processes,
            seed=seed,
            bfloat16=False,
        )

    return task


def run(task, start=0, stop=None):
    scalars = []
    for step, batch in enumerate(islice(task.batches(start), stop and stop - start), start):
        scalars.append(task.step(step, batch))
    return scalars


def divergence(clean, other):
    p = clean.softmax(1)
    return (p * (p / other.softmax(1)).log()).sum(1)


def restated_attack(model, images, labels, objective, config, size):
    """Projected sign steps in evaluation mode, written out."""
    draws = torch.randn(images.shape, generator=generator_for("pretrain", "attack", 0, 0))
    if objective == "adversarial":
        x = images + config.epsilon * draws.clamp(-1, 1)
    else:
        x = images + (1e-3 * draws).clamp(-config.epsilon, config.epsilon)
    x, clean = x.clamp(0, 1), model(images).detach()
    for _ in range(config.steps):
        x = x.detach().requires_grad_(True)
        if objective == "adversarial":
            F.cross_entropy(model(x), labels, reduction="sum").backward()
        else:
            divergence(clean, model(x)).sum().backward()
        x = x.detach() + size * x.grad.sign()
        x = (images + (x - images).clamp(-config.epsilon, config.epsilon)).clamp(0, 1)
    return x.detach()


def restated_loss(task, images, labels, objective, size):
    config = task.config
    smooth = {"label_smoothing": config.label_smoothing}
    model = copy.deepcopy(task.model)
    if objective == "standard":
        return F.cross_entropy(model.train()(images), labels, **smooth)
    attacked = restated_attack(copy.deepcopy(model).eval(), images, labels, objective, config, size)
    model.train()
    if objective == "adversarial":
        return F.cross_entropy(model(attacked), labels, **smooth)
    clean = model(images)
    loss = F.cross_entropy(clean, labels, **smooth)
    loss = loss + config.beta * divergence(clean, model(attacked)).mean()
    if objective == "hat":
        judged = copy.deepcopy(task.helper).eval()(attacked).argmax(1)
        reached = model(images + config.helper_reach * (attacked - images))
        loss = loss + config.gamma * F.cross_entropy(reached, judged)
    return loss


def restated_single_step(model, images, labels, epsilon):
    """One step on the classification loss, in evaluation mode, from a uniform start."""
    draws = torch.rand(images.shape, generator=generator_for("pretrain", "attack", 0, 0)) * 2 - 1
    x = (images + epsilon * draws).clamp(0, 1).requires_grad_(True)
    F.cross_entropy(model(x), labels, reduction="sum").backward()
    x = x.detach() + 1.25 * epsilon * x.grad.sign()
    return (images + (x - images).clamp(-epsilon, epsilon)).clamp(0, 1)


@pytest.mark.parametrize("objective", OBJECTIVES[1:])
def test_the_single_step_attack_is_the_published_one(make, objective):
    task = make(objective, attack="fgsm-rs")
    images, labels = next(task.batches(0))
    expected = restated_single_step(copy.deepcopy(task.model).eval(), images, labels, 0.1)
    passes = []
    task.model.register_forward_pre_hook(lambda model, _: passes.append(model.training))
    found = task.attack(0, images, labels)
    torch.testing.assert_close(found, expected)
    assert passes == [False]
    assert float((found - images).abs().max()) > 0.09


def test_rising_steps_end_with_all_of_them(make):
    task = make("hat", step_schedule="rising", steps=3)
    passes = []
    task.model.register_forward_pre_hook(lambda model, _: passes.append(model.training))
    run(task)
    in_attacks = [len(part) for part in "".join("ET"[mode] for mode in passes).split("TTT")]
    assert in_attacks == [1 + steps for steps in (1, 1, 2, 2, 3, 3)] + [0]


@pytest.mark.parametrize(("bfloat16", "tolerance"), [(False, 1e-4), (True, 0.05)])
def test_the_folded_copy_that_is_attacked_follows_the_training(make, bfloat16, tolerance):
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig(width=4), channels=1, classes=3, image_size=8)
    task = make(model=backbone, lr=0.3)
    task.attack.frozen_pass = FrozenPass(backbone, bfloat16=bfloat16)
    images, _ = next(task.batches(0))
    outputs = []
    for _ in range(2):
        with task.attack.attackable() as classify:
            outputs.append(classify(images))
        expected = backbone.eval()(images)
        torch.testing.assert_close(outputs[-1], expected, rtol=tolerance, atol=tolerance)
        run(task)
    assert not torch.allclose(*outputs, rtol=tolerance, atol=tolerance)
    assert make("hat", model=backbone).attack.frozen_pass is not None
    assert make("standard", model=backbone).attack.frozen_pass is None


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("options", [{}, {"step_size": 0.03, "label_smoothing": 0.2, "beta": 6.0}])
def test_a_step_descends_the_published_loss(make, objective, options):
    task = make(objective, weight_decay=0.0, momentum=0.0, **options)
    images, labels = next(task.batches(0))
    before = copy.deepcopy(task.model)
    size = options.get("step_size", 2.5 * 0.1 / 3)
    loss = restated_loss(task, images, labels, objective, size)
    found = task.step(0, (images, labels))["loss"]
    torch.testing.assert_close(found, loss.detach(), rtol=1e-4, atol=1e-5)
    rate = one_cycle(0, task.steps, 0.02, 0.25)
    for old, new in zip(before.parameters(), task.model.parameters(), strict=True):
        torch.testing.assert_close(old - rate * new.grad, new)
        assert new.grad.abs().sum() > 0


def test_the_attack_sees_evaluation_mode_and_the_update_training_mode(make):
    task = make("hat")
    modes, helper_modes = [], []
    task.model.register_forward_pre_hook(lambda model, _: modes.append(model.training))
    task.helper.register_forward_pre_hook(lambda model, _: helper_modes.append(model.training))
    statistics = task.model[1].num_batches_tracked
    run(task, 0, 1)
    assert modes == [False] * (1 + 3) + [True] * 3
    assert helper_modes == [False]
    assert int(statistics) == 3
    assert all(parameter.requires_grad for parameter in task.model.parameters())
    assert all(parameter.grad is None for parameter in task.helper.parameters())


def test_the_learning_rate_goes_through_one_cycle(make):
    task, rates = make("standard"), []
    for step, batch in enumerate(task.batches(0)):
        task.step(step, batch)
        rates.append(task.optimizer.param_groups[0]["lr"])
    assert rates == [one_cycle(step, 6, 0.02, 0.25) for step in range(6)]


def test_adamw_decays_weights_apart_from_the_gradient(make):
    options = {"optimizer": "adamw", "weight_decay": 0.5, "momentum": 0.0, "warmup": 0.25}
    task = make("standard", **options)
    before = task.model[0].weight.detach().clone()
    task.step(0, next(iter(task.batches(0))))
    rate = one_cycle(0, 6, 0.02, 0.25)
    # The first step of Adam is the sign of the gradient, whatever its size.
    expected = before * (1 - rate * 0.5) - rate * task.model[0].weight.grad.sign()
    torch.testing.assert_close(task.model[0].weight.detach(), expected, rtol=0, atol=0.01 * rate)


class CornerOracle(nn.Module):
    """Knows by which rotation the bright corner left the upper left."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(50.0))

    def forward(self, x):
        corners = x[..., :4, :4], x[..., 4:, :4], x[..., 4:, 4:], x[..., :4, 4:]
        return self.scale * torch.stack([part.mean((1, 2, 3)) for part in corners], 1)


def test_images_without_labels_are_rotated_and_labelled_by_the_rotation(make, random_images):
    images = random_images("flat", classes=(), high=100)
    images.pixels.tensor[..., :3, :3] = 255
    task = make("standard", images, CornerOracle(), lr=1e-6)
    assert {float(scalars["accuracy"]) for scalars in run(task)} == {1.0}
    assert task.validate(6, SILENT)["val_accuracy"] == 1.0
    attacked = make("hat", images, CornerOracle(), lr=1e-6, epsilon=0.01)
    assert {float(scalars["accuracy"]) for scalars in run(attacked)} == {1.0}
    assert attacked.validate(6, SILENT)["val_pgd20_accuracy"] == 1.0


def test_rotations_vary_between_images_and_steps(make, random_images):
    task = make("standard", random_images("flat", classes=()))
    seen = []

    class Seeing(Standard):
        def loss(self, network, inside, beside):
            seen.append(inside.labels)
            return super().loss(network, inside, beside)

    task.objective = Seeing()
    run(task)
    assert set(torch.cat(seen).tolist()) == {0, 1, 2, 3}
    assert not torch.equal(seen[0], seen[1])


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_the_same_seed_gives_the_same_bits_and_another_one_not(make, ema):
    def trained(**options):
        task = make(ema=ema, **options)
        run(task)
        return torch.cat([value.flatten().float() for value in task.weights().values()])

    assert torch.equal(trained(), trained())
    assert not torch.equal(trained(), trained(seed=1))


@pytest.mark.parametrize(("ema", "optimizer"), [(0.0, "sgd"), (0.9, "sgd"), (0.9, "adamw")])
def test_a_resumed_run_ends_with_the_same_bits(make, tmp_path, ema, optimizer):
    options = {"ema": ema, "optimizer": optimizer}
    whole = make(**options)
    run(whole)
    first = make(**options)
    run(first, 0, 2)
    save_state(tmp_path / "state", first.state())
    second = make(**options, model=small_network(7))
    second.load(load_state(tmp_path / "state"))
    run(second, 2)
    for resumed, expected in (
        (second.weights(), whole.weights()),
        (second.model.state_dict(), whole.model.state_dict()),
    ):
        assert all(torch.equal(value, expected[key]) for key, value in resumed.items())


def test_averaged_weights_are_what_is_kept_and_validated(make):
    task = make(ema=0.9, lr=1.0)
    average = [parameter.detach().clone() for parameter in task.model.parameters()]
    for step, batch in enumerate(task.batches(0)):
        task.step(step, batch)
        decay = min(0.9, (1 + step) / (10 + step))
        for old, new in zip(average, task.model.parameters(), strict=True):
            old.mul_(decay).add_((1 - decay) * new.detach())
    names = [name for name, _ in task.model.named_parameters()]
    kept = task.weights()
    torch.testing.assert_close([kept[name] for name in names], average)
    assert not torch.equal(kept["4.weight"], task.model[4].weight)
    measured = task.validate(6, SILENT)
    task.model[4].weight.data.fill_(float("nan"))
    assert task.validate(6, SILENT) == measured
    task.load_weights(kept)
    assert torch.equal(task.model[4].weight, kept["4.weight"])


def test_validation_attacks_unless_training_is_standard(make):
    task = make("trades", epsilon=1.0)
    run(task)
    measured = task.validate(6, SILENT)
    images, labels = task.validation.fetch(range(24)).float() / 255, task.validation.labels
    correct = (task.model.eval()(images).argmax(1) == labels).float().mean()
    assert measured["val_accuracy"] == pytest.approx(float(correct))
    assert measured["selection"] == measured["val_pgd20_accuracy"] < measured["val_accuracy"]
    same = make("trades", epsilon=0.0).validate(6, SILENT)
    assert same["val_pgd20_accuracy"] == same["val_accuracy"]
    standard = make("standard").validate(6, SILENT)
    assert standard == {"val_accuracy": same["val_accuracy"], "selection": same["val_accuracy"]}


@pytest.mark.parametrize(
    ("clean", "single", "robust", "warned"),
    [
        (0.9, 0.8, 0.1, True),
        (0.9, 0.95, 0.0, True),
        (0.9, 0.8, 0.5, False),
        (0.8, 0.2, 0.05, False),
        (0.3, 0.0, 0.0, False),
    ],
)
def test_robustness_to_the_own_attack_alone_is_warned_of(make, clean, single, robust, warned):
    task = make("hat")
    values = iter([clean, single, robust])
    task._accuracy = lambda *_: next(values)
    measured = task.validate(6, SILENT)
    assert [measured[f"val_{key}accuracy"] for key in ("", "fgsm_", "pgd20_")] == [
        clean,
        single,
        robust,
    ]
    assert measured["selection"] == robust
    found = task.warnings({"loss": 1.0})
    assert bool(found) == warned
    assert all("catastrophic overfitting" in text for text in found)


def test_bfloat16_passes_keep_float32_weights(make):
    task = make("hat")
    task.bfloat16 = True
    (first, *_) = run(task, 0, 2)
    exact = run(make("hat"), 0, 1)[0]
    assert first["loss"].dtype == torch.float32
    torch.testing.assert_close(first["loss"], exact["loss"], rtol=0.1, atol=0.1)
    assert {parameter.dtype for parameter in task.model.parameters()} == {torch.float32}
