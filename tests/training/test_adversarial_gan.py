"""ATD: who is updated, by what, and that the attack and the update see one function.

The numbers in `golden_losses.txt` change only when the training itself is meant to change; write
them anew with `ATD_WRITE_GOLDEN=1 python -m pytest tests/training/test_adversarial_gan.py`.
"""

from __future__ import annotations

import copy
import os
from itertools import islice
from pathlib import Path

import pytest
import torch
from sklearn.metrics import roc_auc_score

from atd.attacks import pgd
from atd.config import AtdConfig
from atd.data.sampler import generator_for
from atd.models.detector import Detector, DetectorConfig
from atd.models.gan import FeatureGenerator, PixelGenerator
from atd.training.adversarial_gan import AdversarialGan
from atd.training.checkpoint import load_state, save_state
from atd.training.logbook import Logbook
from atd.training.losses import crowding

GOLDEN = Path(__file__).with_name("golden_losses.txt")
SILENT = Logbook(None)
BATCH, LATENT = 8, 10


@pytest.fixture
def make(processes, random_images, stream_of):
    def task(seed=0, bfloat16=False, start=0, **options):
        config = AtdConfig(
            **{"epochs": 2, "steps": 3, "epsilon": 0.05, "latent_dim": LATENT, **options}
        )
        pixels = config.features == "pixels"
        torch.manual_seed(start)
        detector = Detector(
            DetectorConfig(
                backbone=None if pixels else {"width": 4, "features": "last"},
                classes=["a", "b", "c"],
                image_size=8,
                channels=1,
                normalisation=config.normalisation,
            )
        )
        # The default weights, N(0, 0.02), leave next to no slope for an attack to climb.
        for parameter in detector.discriminator.parameters():
            if parameter.ndim > 1:
                torch.nn.init.kaiming_normal_(parameter)
        if pixels:
            generator = PixelGenerator(1, 8, LATENT, config.normalisation, width=4)
        else:
            floor = torch.full((detector.feature_mean.numel(),), -0.3)
            generator = FeatureGenerator(len(floor), LATENT, floor, config.normalisation)
        streams = (
            stream_of(random_images("id", high=160), BATCH, seed=seed),
            stream_of(random_images("outlier", 16, low=80), BATCH, seed=seed),
        )
        return AdversarialGan(
            detector,
            None if config.generator == "none" else generator,
            streams,
            (random_images("id-val", 12, high=160), random_images("outlier-val", 10, low=80)),
            config,
            processes=processes,
            seed=seed,
            bfloat16=bfloat16,
        )

    return task


def run(task, start=0, stop=None):
    batches = islice(task.batches(start), stop and stop - start)
    return [task.step(step, batch) for step, batch in enumerate(batches, start)]


def first_batch(task):
    (inside, _), (outside, _) = batch = next(task.batches(0))
    return batch, torch.cat([inside, outside])


def state_of(module):
    return {key: value.clone() for key, value in module.state_dict().items()}


def changed(module, before):
    return {
        key for key, value in module.state_dict().items() if not torch.equal(value, before[key])
    }


def latent(purpose, step=0):
    generator = generator_for("atd", purpose, 0, step)
    return torch.randn(BATCH, LATENT, generator=generator)


def seen_by_discriminator(task):
    """Records what each forward pass of the discriminator gets, and in which mode."""
    calls = []
    task.detector.discriminator.register_forward_pre_hook(
        lambda module, inputs: calls.append((module.training, inputs[0].detach().clone()))
    )
    return calls


@pytest.mark.parametrize("kind", ["trained", "frozen", "none"])
@pytest.mark.parametrize("features", ["backbone", "pixels"])
def test_the_generator_learns_unless_it_is_frozen(make, kind, features):
    task = make(generator=kind, features=features)
    before = None if task.generator is None else state_of(task.generator)
    (scalars,) = run(task, 0, 1)
    assert ("loss_generator" in scalars) == (kind == "trained")
    assert ("logit_generated" in scalars) == (kind != "none")
    if kind == "trained":
        names = {name for name, _ in task.generator.named_parameters()}
        assert changed(task.generator, before) == names
    elif kind == "frozen":
        assert changed(task.generator, before) == set()


@pytest.mark.parametrize("normalisation", ["layer", "batch", "none"])
def test_the_backbone_stays_as_it_is(make, normalisation):
    task = make(normalisation=normalisation)
    before = state_of(task.detector)
    run(task, 0, 2)
    moved = changed(task.detector, before)
    assert moved
    assert all(name.startswith("discriminator.") for name in moved)
    assert all(parameter.grad is None for parameter in task.detector.backbone.parameters())
    names = {f"discriminator.{name}" for name, _ in task.detector.discriminator.named_parameters()}
    assert names <= moved


def test_finetuning_trains_the_backbone_but_not_its_statistics(make):
    task = make(finetune=True)
    before = state_of(task.detector.backbone)
    run(task, 0, 1)
    moved = changed(task.detector.backbone, before)
    weights = {name for name, _ in task.detector.backbone.named_parameters()}
    # The classifier head takes no part in the features.
    assert moved == {name for name in weights if not name.startswith("head")}


def probability_of_id(logits):
    """The paper's D(x)."""
    return 1 / (1 + logits.double().exp())


def first_adam_step(parameters, rate):
    """Adam's first step, written out: bias correction leaves the gradient's sign."""
    return [p.detach() - rate * p.grad / (p.grad.abs() + 1e-8) for p in parameters]


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("objective", ["deceive", "boundary", "imitate"])
def test_a_step_descends_equation_9(make, alpha, objective):
    task = make(
        adversarial=False, alpha=alpha, generator_objective=objective, generator_diversity=0.2
    )
    batch, images = first_batch(task)
    detector, generator = copy.deepcopy(task.detector), copy.deepcopy(task.generator)
    with torch.no_grad():
        features, fakes = detector.features(images), generator(latent("latent-d"))
    d_in, d_out, d_fake = (
        probability_of_id(detector.discriminator(part))
        for part in (features[:BATCH], features[BATCH:], fakes)
    )
    loss = -d_in.log().mean() - alpha * (1 - d_out).log().mean()
    loss = loss - (1 - alpha) * (1 - d_fake).log().mean()
    loss.backward()
    expected = first_adam_step(detector.discriminator.parameters(), 1e-4)
    scalars = task.step(0, batch)
    assert scalars["loss"].item() == pytest.approx(loss.item(), rel=1e-5)
    assert scalars["generated_taken_for_id"].item() == (d_fake > 0.5).float().mean().item()
    found = list(task.detector.discriminator.parameters())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-6)

    made = generator(latent("latent-g"))
    d_made = probability_of_id(task.detector.discriminator(made))
    target = 1.0 if objective == "deceive" else 0.25
    loss = -(target * d_made.log() + (1 - target) * (1 - d_made).log()).mean()
    if objective == "imitate":
        outliers = features[BATCH:]
        loss = (made.mean(0) - outliers.mean(0)).square().mean()
        loss = loss + (made.std(0) - outliers.std(0)).square().mean()
    loss = loss + 0.2 * crowding(made)
    loss.backward()
    assert scalars["loss_generator"].item() == pytest.approx(loss.item(), rel=1e-4)
    norm = torch.cat([p.grad.flatten() for p in generator.parameters()]).norm()
    assert scalars["generator_gradient"].item() == pytest.approx(norm.item(), rel=1e-3)
    expected = first_adam_step(generator.parameters(), 1e-4)
    torch.testing.assert_close(list(task.generator.parameters()), expected, rtol=1e-3, atol=1e-5)


def watch_images(task):
    passed = task.frozen_pass or task.detector
    seen, features = [], passed.features

    def watched(images):
        seen.append(images.detach().clone())
        return features(images)

    passed.features = watched
    return seen


@pytest.mark.parametrize("normalisation", ["layer", "batch", "none"])
@pytest.mark.parametrize("features", ["backbone", "pixels"])
@pytest.mark.parametrize("finetune", [False, True])
def test_training_images_are_attacked_against_the_function_that_is_trained(
    make, normalisation, features, finetune
):
    task = make(normalisation=normalisation, features=features, finetune=finetune)
    batch, clean = first_batch(task)
    before = copy.deepcopy(task.detector)
    seen = watch_images(task)
    scalars = task.step(0, batch)
    attacked = seen[-1]
    assert (attacked - clean).abs().max() <= 0.05 + 1e-6
    assert 0 <= attacked.min() <= attacked.max() <= 1
    moved = before.score(attacked) - before.score(clean)
    assert (moved[:BATCH] > 0).all()
    assert (moved[BATCH:] < 0).all()
    torch.testing.assert_close(scalars["logit_id"], before.score(attacked)[:BATCH].mean())
    torch.testing.assert_close(scalars["logit_outlier"], before.score(attacked)[BATCH:].mean())


def test_the_attack_is_pgd_from_a_random_start(make):
    task = make()
    batch, clean = first_batch(task)
    detector = copy.deepcopy(task.detector)
    draws = [
        torch.rand(BATCH, 1, 8, 8, generator=generator_for("atd", f"attack-{side}", 0, 0))
        for side in ("id", "outlier")
    ]
    parts = [
        pgd(
            lambda x, sign=sign: sign * detector.logits(x),
            images,
            epsilon=0.05,
            steps=3,
            noise=2 * noise - 1,
            keep="last",
        ).images
        for sign, images, noise in zip((1, -1), clean.split(BATCH), draws, strict=True)
    ]
    seen = watch_images(task)
    task.step(0, batch)
    torch.testing.assert_close(seen[-1], torch.cat(parts))


def test_running_statistics_serve_attack_and_update_and_follow_real_features_afterwards(make):
    task = make(normalisation="batch")
    calls = seen_by_discriminator(task)
    before = state_of(task.detector.discriminator)
    run(task, 0, 1)
    modes = [training for training, _ in calls]
    assert modes == [False] * (3 + 1 + 1) + [True]
    real_and_generated, real = calls[3][1], calls[-1][1]
    assert torch.equal(real, real_and_generated[: 2 * BATCH])
    moved = changed(task.detector.discriminator, before)
    assert sum(name.endswith("running_mean") for name in moved) == 3


def test_without_an_attack_the_clean_images_are_trained_on(make):
    task = make(adversarial=False)
    batch, clean = first_batch(task)
    seen = watch_images(task)
    task.step(0, batch)
    assert len(seen) == 1
    assert torch.equal(seen[0], clean)


@pytest.mark.parametrize("features", ["backbone", "pixels"])
def test_generated_samples_are_attacked_on_request(make, features):
    task = make(attack_generated=True, features=features)
    plain = make(features=features)
    calls, plain_calls = seen_by_discriminator(task), seen_by_discriminator(plain)
    judge = copy.deepcopy(plain.detector.discriminator)
    judge._forward_pre_hooks.clear()
    run(task, 0, 1)
    run(plain, 0, 1)
    attacked = next(x for _, x in calls if len(x) == 3 * BATCH)
    clean = next(x for _, x in plain_calls if len(x) == 3 * BATCH)
    assert torch.equal(attacked[: 2 * BATCH], clean[: 2 * BATCH])
    attacked, clean, real = attacked[2 * BATCH :], clean[2 * BATCH :], clean[: 2 * BATCH]
    assert (judge(attacked) < judge(clean)).all()
    radius = 0.05 if features == "pixels" else 0.1 * float(real.std())
    assert 0 < (attacked - clean).abs().max() <= radius + 1e-6
    if features == "pixels":
        assert 0 <= attacked.min() <= attacked.max() <= 1


def test_selection_is_by_attacked_scores_unless_training_is_clean(make):
    task = make()
    inside, outside = (images.fetch(range(len(images))) for images in task.validation)
    labels = [0] * len(inside) + [1] * len(outside)
    scores = task.detector.score(torch.cat([inside, outside]))
    measured = task.validate(1, SILENT)
    assert measured["val_auroc"] == pytest.approx(roc_auc_score(labels, scores))
    assert measured["selection"] == measured["val_auroc_attacked"] < measured["val_auroc"]
    clean = make(adversarial=False).validate(1, SILENT)
    assert clean["selection"] == measured["val_auroc"]
    harmless = make(epsilon=0.0).validate(1, SILENT)
    assert harmless["val_auroc_attacked"] == harmless["val_auroc"]


def test_scores_that_are_not_finite_are_passed_on(make):
    task = make()
    next(task.detector.discriminator.parameters()).data.fill_(float("nan"))
    selection = task.validate(1, SILENT)["selection"]
    assert selection != selection


@pytest.mark.parametrize("options", [{}, {"normalisation": "batch"}, {"finetune": True}])
def test_a_resumed_run_ends_with_the_same_bits(make, tmp_path, options):
    whole = make(**options)
    run(whole)
    first = make(**options)
    run(first, 0, 2)
    save_state(tmp_path / "state", first.state())
    second = make(start=5, **options)
    second.load(load_state(tmp_path / "state"))
    run(second, 2)
    assert changed(second.detector, state_of(whole.detector)) == set()
    assert changed(second.generator, state_of(whole.generator)) == set()
    assert changed(make(seed=1, **options).detector, whole.weights()) != set()


def test_weights_are_copies_of_the_detectors(make):
    task = make()
    kept = task.weights()
    run(task, 0, 1)
    assert changed(task.detector, kept)
    task.load_weights(kept)
    assert changed(task.detector, kept) == set()


def test_bfloat16_touches_the_backbone_only(make):
    task = make(bfloat16=True)
    calls = seen_by_discriminator(task)
    (rough,), (exact,) = run(task, 0, 1), run(make(), 0, 1)
    assert {x.dtype for _, x in calls} == {torch.float32}
    torch.testing.assert_close(rough["loss"], exact["loss"], rtol=0.05, atol=0.05)
    assert not torch.equal(rough["loss"], exact["loss"])


def test_an_outlier_set_smaller_than_the_id_set_starts_over(make):
    assert len(run(make())) == 6  # two epochs of 24 ID images, with 16 outliers


def test_losses_are_those_on_record(make):
    keys = ("loss", "logit_id", "logit_outlier", "logit_generated", "loss_generator")
    found = torch.tensor([[float(row[key]) for key in keys] for row in run(make(), 0, 5)])
    if os.environ.get("ATD_WRITE_GOLDEN"):
        rows = [" ".join(f"{value:.8g}" for value in row) for row in found.tolist()]
        note = "ATD_WRITE_GOLDEN=1 python -m pytest tests/training/test_adversarial_gan.py"
        GOLDEN.write_text(f"# written by: {note}\n# {' '.join(keys)}\n" + "\n".join(rows) + "\n")
    lines = [line for line in GOLDEN.read_text().splitlines() if not line.startswith("#")]
    expected = torch.tensor([[float(word) for word in line.split()] for line in lines])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
