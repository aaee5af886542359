"""ATD's attack and its update see one function, and the best epoch is chosen under attack."""

from __future__ import annotations

import copy

import pytest
import torch
from gan_steps import BATCH, changed, first_batch, run, seen_by_discriminator, state_of
from sklearn.metrics import roc_auc_score

from atd.attacks import pgd
from atd.data.sampler import generator_for
from atd.training.logbook import Logbook

SILENT = Logbook(None)


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
    make_gan, normalisation, features, finetune
):
    task = make_gan(normalisation=normalisation, features=features, finetune=finetune)
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


def test_the_attack_is_pgd_from_a_random_start(make_gan):
    task = make_gan()
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


def test_running_statistics_serve_attack_and_update_and_follow_real_features_afterwards(make_gan):
    task = make_gan(normalisation="batch")
    calls = seen_by_discriminator(task)
    before = state_of(task.detector.discriminator)
    run(task, 0, 1)
    modes = [training for training, _ in calls]
    assert modes == [False] * (3 + 1) + [True]
    real_and_generated, real = calls[3][1], calls[-1][1]
    assert torch.equal(real, real_and_generated[: 2 * BATCH])
    moved = changed(task.detector.discriminator, before)
    assert sum(name.endswith("running_mean") for name in moved) == 3


def test_without_an_attack_the_clean_images_are_trained_on(make_gan):
    task = make_gan(adversarial=False)
    batch, clean = first_batch(task)
    seen = watch_images(task)
    task.step(0, batch)
    assert len(seen) == 1
    assert torch.equal(seen[0], clean)


@pytest.mark.parametrize("features", ["backbone", "pixels"])
def test_generated_samples_are_attacked_on_request(make_gan, features):
    task = make_gan(attack_generated=True, features=features)
    plain = make_gan(features=features)
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


def test_selection_is_by_attacked_scores_unless_training_is_clean(make_gan):
    task = make_gan()
    inside, outside = (images.fetch(range(len(images))) for images in task.validation)
    labels = [0] * len(inside) + [1] * len(outside)
    scores = task.detector.score(torch.cat([inside, outside]))
    measured = task.validate(1, SILENT)
    assert measured["val_auroc"] == pytest.approx(roc_auc_score(labels, scores))
    assert measured["selection"] == measured["val_auroc_attacked"] < measured["val_auroc"]
    clean = make_gan(adversarial=False).validate(1, SILENT)
    assert clean["selection"] == measured["val_auroc"]
    harmless = make_gan(epsilon=0.0).validate(1, SILENT)
    assert harmless["val_auroc_attacked"] == harmless["val_auroc"]


def test_scores_that_are_not_finite_are_passed_on(make_gan):
    task = make_gan()
    next(task.detector.discriminator.parameters()).data.fill_(float("nan"))
    selection = task.validate(1, SILENT)["selection"]
    assert selection != selection
