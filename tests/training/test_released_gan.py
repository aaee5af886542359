"""The released training: each of its differences from the paper, and nothing of it elsewhere."""

from __future__ import annotations

import pytest
import torch
from gan_steps import BATCH, changed, first_batch, run, seen_by_discriminator, state_of
from torch.nn import functional as F

from atd.config import load
from atd.errors import UserError
from atd.training.adversarial_gan import AdversarialGan
from atd.training.logbook import Logbook
from atd.training.released_gan import ReleasedGan, sigmoid_loss
from atd.training.tasks import discriminator_streams

RELEASED = {
    "training": ReleasedGan,
    "generator": "frozen",
    "normalisation": "batch",
    "as_released": True,
    "alpha": 0.5,
}


def test_the_recipe_is_the_papers_but_for_what_the_code_does():
    published, paper = load(None, ["recipe=published"]).atd, load(None, ["recipe=paper"]).atd
    differing = {
        name for name in paper.__slots__ if getattr(paper, name) != getattr(published, name)
    }
    assert differing == {"generator", "as_released"}
    assert not load(None).atd.as_released


@pytest.mark.parametrize("is_ood", [False, True])
def test_the_loss_is_the_cross_entropy_of_the_papers_d(is_ood):
    logits = torch.linspace(-12, 12, 25, dtype=torch.float64)
    exact = F.softplus(-logits if is_ood else logits)
    assert torch.allclose(sigmoid_loss(logits, is_ood), exact)


@pytest.mark.parametrize(
    ("dtype", "logit", "flat"),
    [
        (torch.float32, -18.0, True),
        (torch.float32, -15.0, False),
        (torch.bfloat16, -8.0, True),
        (torch.float64, -18.0, False),
    ],
)
def test_its_gradient_is_exactly_zero_where_the_discriminator_is_sure_of_an_id_image(
    dtype, logit, flat
):
    logits = torch.full((1,), logit, dtype=dtype, requires_grad=True)
    sigmoid_loss(logits, is_ood=False).sum().backward()
    assert bool(logits.grad == 0) == flat


def test_the_generator_never_learns_but_its_statistics_drift(make_gan):
    task = make_gan(**RELEASED)
    before = state_of(task.generator)
    run(task, 0, 2)
    moved = changed(task.generator, before)
    assert moved
    assert all("running" in name or "num_batches" in name for name in moved)


def test_images_are_attacked_on_another_function_than_the_one_that_is_updated(make_gan):
    task = make_gan(**RELEASED)
    calls = seen_by_discriminator(task)
    run(task, 0, 1)
    *attack, update, drift = calls
    assert {training for training, _ in attack} == {False}
    assert update[0]
    assert len(update[1]) == 3 * BATCH  # statistics of all three together
    assert drift[0]
    assert len(drift[1]) == BATCH
    assert not task.detector.discriminator.training


def test_its_statistics_are_those_of_the_batch_however_it_is_divided(make_gan):
    torch.manual_seed(1)
    whole, parted = make_gan(**RELEASED), make_gan(**RELEASED)
    inside, outside, made = torch.randn(3, BATCH, whole.detector.feature_mean.numel())
    whole._update_discriminator([torch.cat([inside, outside])], [made])
    pairs = zip(inside.chunk(2), outside.chunk(2), strict=True)
    scalars = parted._update_discriminator([torch.cat(pair) for pair in pairs], list(made.chunk(2)))
    assert scalars.keys() >= {"loss", "logit_generated"}
    expected = whole.detector.discriminator.state_dict()
    for name, value in parted.detector.discriminator.state_dict().items():
        torch.testing.assert_close(value, expected[name], msg=name)


def test_a_fine_tuned_backbone_takes_whole_batches(tiny_yaml, tmp_path):
    from atd.pipeline import Run
    from atd.training.processes import Processes

    words = ["recipe=published", "atd.finetune=true", "run.device_batch=4"]
    run = Run(load(tiny_yaml, [*words, f"run.dir={tmp_path / 'run'}"]), Processes("cpu"))
    run.read_images()
    with pytest.raises(UserError, match=r"run\.device_batch=4: atd\.finetune.*whole batches"):
        discriminator_streams(run.ingredients)


@pytest.mark.parametrize("training", [ReleasedGan, AdversarialGan])
def test_images_that_the_discriminator_is_sure_of_are_not_attacked_at_all(make_gan, training):
    task = make_gan(**{**RELEASED, "training": training})
    task._logits = lambda images: 1e-2 * images.flatten(1).sum(1) - 30
    (inside, _), (outside, _) = first_batch(task)[0]
    starts = [task.attack._start(0, side, x) for side, x in enumerate((inside, outside))]
    (attacked,) = task._attacked(0, inside, outside)
    noisy = torch.cat([inside, outside]) + task.config.epsilon * torch.cat(starts)
    stayed = torch.allclose(attacked, noisy.clamp(0, 1), atol=1e-6)
    assert stayed == (training is ReleasedGan)


def test_the_best_epoch_is_chosen_on_unattacked_images(make_gan):
    task = make_gan(**RELEASED)
    found = task.validate(0, Logbook(None))
    assert found["selection"] == found["val_auroc"]
    assert found["selection"] >= found["val_auroc_attacked"]


def test_a_run_takes_it_where_the_recipe_says_so(tiny_yaml, tmp_path):
    from atd.pipeline import Run
    from atd.training.processes import Processes

    words = ["recipe=published", f"run.dir={tmp_path / 'run'}", "atd.epochs=1"]
    run = Run(load(tiny_yaml, words), Processes("cpu"))
    detector, _, _ = run.train()
    assert detector.config.options == {"normalisation": "batch", "batch_statistics": False}
    assert run.folder.path.is_dir()
