"""ATD: who is updated and by what.

The numbers in `golden_losses.txt` change only when the training itself is meant to change; write
them anew with `ATD_WRITE_GOLDEN=1 python -m pytest tests/training/test_adversarial_gan.py`.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path

import pytest
import torch
from gan_steps import BATCH, LATENT, changed, first_batch, run, seen_by_discriminator, state_of

from atd.data.sampler import generator_for
from atd.training.checkpoint import load_state, save_state
from atd.training.losses import crowding

GOLDEN = Path(__file__).with_name("golden_losses.txt")


def latent(purpose, step=0):
    generator = generator_for("atd", purpose, 0, step)
    return torch.randn(BATCH, LATENT, generator=generator)


@pytest.mark.parametrize("kind", ["trained", "frozen", "none"])
@pytest.mark.parametrize("features", ["backbone", "pixels"])
def test_the_generator_learns_unless_it_is_frozen(make_gan, kind, features):
    task = make_gan(generator=kind, features=features)
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
def test_the_backbone_stays_as_it_is(make_gan, normalisation):
    task = make_gan(normalisation=normalisation)
    before = state_of(task.detector)
    run(task, 0, 2)
    moved = changed(task.detector, before)
    assert moved
    assert all(name.startswith("discriminator.") for name in moved)
    assert all(parameter.grad is None for parameter in task.detector.backbone.parameters())
    names = {f"discriminator.{name}" for name, _ in task.detector.discriminator.named_parameters()}
    assert names <= moved


def test_finetuning_trains_the_backbone_but_not_its_statistics(make_gan):
    task = make_gan(finetune=True)
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
@pytest.mark.parametrize("objective", ["deceive", "imitate"])
def test_a_step_descends_equation_9(make_gan, alpha, objective):
    task = make_gan(
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
    loss = -d_made.log().mean()
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


@pytest.mark.parametrize("options", [{}, {"normalisation": "batch"}, {"finetune": True}])
def test_a_resumed_run_ends_with_the_same_bits(make_gan, tmp_path, options):
    whole = make_gan(**options)
    run(whole)
    first = make_gan(**options)
    run(first, 0, 2)
    save_state(tmp_path / "state", first.state())
    second = make_gan(start=5, **options)
    second.load(load_state(tmp_path / "state"))
    run(second, 2)
    assert changed(second.detector, state_of(whole.detector)) == set()
    assert changed(second.generator, state_of(whole.generator)) == set()
    assert changed(make_gan(seed=1, **options).detector, whole.weights()) != set()


def test_weights_are_copies_of_the_detectors(make_gan):
    task = make_gan()
    kept = task.weights()
    run(task, 0, 1)
    assert changed(task.detector, kept)
    task.load_weights(kept)
    assert changed(task.detector, kept) == set()


def test_bfloat16_touches_the_backbone_only(make_gan):
    task = make_gan(bfloat16=True)
    calls = seen_by_discriminator(task)
    (rough,), (exact,) = run(task, 0, 1), run(make_gan(), 0, 1)
    assert {x.dtype for _, x in calls} == {torch.float32}
    torch.testing.assert_close(rough["loss"], exact["loss"], rtol=0.05, atol=0.05)
    assert not torch.equal(rough["loss"], exact["loss"])


def test_an_outlier_set_smaller_than_the_id_set_starts_over(make_gan):
    assert len(run(make_gan())) == 6  # two epochs of 24 ID images, with 16 outliers


def test_losses_are_those_on_record(make_gan):
    keys = ("loss", "logit_id", "logit_outlier", "logit_generated", "loss_generator")
    found = torch.tensor([[float(row[key]) for key in keys] for row in run(make_gan(), 0, 5)])
    if os.environ.get("ATD_WRITE_GOLDEN"):
        rows = [" ".join(f"{value:.8g}" for value in row) for row in found.tolist()]
        note = "ATD_WRITE_GOLDEN=1 python -m pytest tests/training/test_adversarial_gan.py"
        GOLDEN.write_text(f"# written by: {note}\n# {' '.join(keys)}\n" + "\n".join(rows) + "\n")
    lines = [line for line in GOLDEN.read_text().splitlines() if not line.startswith("#")]
    expected = torch.tensor([[float(word) for word in line.split()] for line in lines])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
