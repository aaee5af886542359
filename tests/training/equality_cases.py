"""Small trainings that must not depend on how a batch is divided."""

from __future__ import annotations

import contextlib
import copy
import signal
from functools import partial
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import nn

from atd.backbones import build_backbone
from atd.config import AtdConfig, BackboneConfig, PretrainConfig
from atd.data.images import HeldPixels, ImageSet
from atd.detectors.build import build_detector
from atd.detectors.config import DetectorConfig
from atd.detectors.gan import FeatureGenerator, PixelGenerator
from atd.errors import Interrupted, UserError
from atd.training.adversarial_gan import AdversarialGan
from atd.training.logbook import Logbook
from atd.training.loop import train_task
from atd.training.objectives import objective_of
from atd.training.released_gan import ReleasedGan
from atd.training.robust_pretraining import RobustPretraining
from atd.training.stream import Stream

BATCH, STEPS, LATENT, CLASSES = 16, 3, 6, ("a", "b", "c")

PRETRAIN = {
    "standard": {},
    "adversarial": {},
    "trades": {"ema": 0.9},
    "hat": {"label_smoothing": 0.1, "weight_decay": 5e-4},
    "oe": {},
    "aoe": {},
    "aloe": {"attack": "fgsm-rs"},
    "halo": {"outlier_weight": 1.0},
    "atom": {"mining_pool": 30},
    "osad": {},
}
"""Each with a network with batch normalisation, by the whole batch and by ghost batches, of which
each of two processes has two, and with a network without (OSAD has a network of its own)."""

ATD = {
    "imitate": {"generator_diversity": 0.1},
    "deceive": {"generator_objective": "deceive", "normalisation": "batch"},
    "no normalisation": {"normalisation": "none"},
    "attacked generated": {"attack_generated": True, "normalisation": "batch"},
    "fine-tuned": {"finetune": True},
    "carried": {"attack_start": "carried", "step_schedule": "rising"},
    "pixels": {"features": "pixels", "normalisation": "batch"},
    "released": {"as_released": True, "generator": "frozen", "normalisation": "batch"},
    "clean, no generator": {"adversarial": False, "generator": "none", "normalisation": "batch"},
}


def images(name, count=40, channels=1, size=8, classes=CLASSES):
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    pixels = torch.randint(256, (count, channels, size, size), generator=generator)
    held = HeldPixels(pixels.to(torch.uint8), [f"{name}-{index}" for index in range(count)])
    return ImageSet.of(name, held, torch.arange(count) % 3 if classes else None, classes)


def stream(name, processes, number, classes=CLASSES):
    share = processes.share(BATCH, "batch_size")
    return Stream(
        images(name, classes=classes), BATCH, share, 0, name, "crop-flip", micro_batches=number
    )


def of_type(network, dtype):
    """The network in a precision that its inputs, float32 images and noise, are brought to."""
    network.register_forward_pre_hook(lambda _, inputs: (inputs[0].to(dtype),))
    return network.to(dtype)


def plain_network():
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.GroupNorm(2, 6),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(384, 4),
    )


def pretraining(objective, kind, processes, dtype, number, ghost_batch=BATCH // 4):
    torch.manual_seed(0)
    config = BackboneConfig(width=4, denoising=objective == "osad")
    learns_from_outliers = objective_of(objective).beside == "outliers"
    networks = [
        of_type(
            build_backbone(config, channels=1, classes=4, image_size=8)
            if kind != "group norm"
            else plain_network(),
            dtype,
        )
        for _ in range(2)
    ]
    options = {"steps": 2, "epsilon": 0.05, "lr": 0.05, **PRETRAIN[objective]}
    options["ghost_batch"] = ghost_batch if kind == "ghost batches" else 0
    return RobustPretraining(
        *networks,
        stream("id", processes, number, () if objective == "trades" else CLASSES),
        stream("outliers", processes, number) if learns_from_outliers else None,
        images("validation", 5),
        PretrainConfig(**options),
        objective=objective,
        epochs=2,
        stage="pretrain",
        processes=processes,
        seed=0,
        bfloat16=False,
    )


def adversarial_gan(name, processes, dtype, number):
    config = AtdConfig(
        **{"epochs": 2, "steps": 2, "epsilon": 0.05, "latent_dim": LATENT, **ATD[name]}
    )
    torch.manual_seed(0)
    pixels = config.features == "pixels"
    detector = build_detector(
        DetectorConfig(
            kind="atd",
            backbone=None if pixels else {"width": 4, "features": "multi"},
            classes=list(CLASSES),
            image_size=8,
            channels=1,
            options={"normalisation": config.normalisation},
        )
    )
    for parameter in detector.discriminator.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter)
    if pixels:
        generator = PixelGenerator(1, 8, LATENT, config.normalisation, width=4)
    else:
        floor = torch.full((detector.feature_mean.numel(),), -0.3)
        generator = FeatureGenerator(len(floor), LATENT, floor, config.normalisation)
    of_type(detector.discriminator, dtype)
    return (ReleasedGan if config.as_released else AdversarialGan)(
        detector.to(dtype),
        None if config.generator == "none" else of_type(generator, dtype),
        (stream("id", processes, number), stream("outlier", processes, number)),
        (images("id-val", 5), images("outlier-val", 3)),
        config,
        processes=processes,
        seed=0,
        bfloat16=False,
    )


def cases():
    """Every training: its name, how to build it, and (precision, micro-batches) to train it in."""
    exact, rough = (torch.float64, 1), (torch.float32, 1)
    for objective in PRETRAIN:
        for kind in ("batch norm", "ghost batches", "group norm")[
            : 2 if objective == "osad" else 3
        ]:
            build = partial(pretraining, objective, kind)
            in_parts = [] if kind == "batch norm" else [(torch.float64, 2)]
            yield f"{objective}, {kind}", build, [exact, rough, *in_parts]
    for name in ATD:
        yield name, partial(adversarial_gan, name), [exact, rough, (torch.float64, 2)]


CASES = {name: (build, ways) for name, build, ways in cases()}


def ended(processes, case, dtype, number):
    """What a case ends with, after a check that all processes hold the same."""
    task = CASES[case][0](processes, dtype, number)
    values = train(task, processes)
    processes.require_equal(task.state(), case, STEPS)
    return values


def train(task, processes, steps=STEPS):
    """Every module's final values, each step's mean scalars and those of a validation."""
    rows = []
    for step, batch in enumerate(islice(task.batches(0), steps)):
        scalars = task.step(step, batch)
        means = processes.mean(torch.stack(list(scalars.values())))
        rows.append(dict(zip(scalars, means.tolist(), strict=True)))
    owners = ("model", "average", "detector", "generator")
    modules = {owner: getattr(task, owner, None) for owner in owners}
    values = {
        f"{owner}.{key}": value.clone(memory_format=torch.contiguous_format)
        for owner, module in modules.items()
        if module is not None
        for key, value in module.state_dict().items()
    }
    for key, value in task.validate(steps, Logbook(None)).items():
        values[f"scalar.{key}"] = torch.tensor(value, dtype=torch.float64)
    for key in rows[0]:
        scalars = torch.tensor([row[key] for row in rows], dtype=torch.float64)
        values[f"scalar.{key}"] = scalars
    return values


RESUMED = (
    "hat, batch norm",
    "hat, ghost batches",
    "hat, group norm",
    "atom, ghost batches",
    "imitate",
    "deceive",
    "fine-tuned",
    "pixels",
    "carried",
)
"""Trained further on another number of processes, from the middle of their second epoch."""

STOP = 3


def alone(processes):
    """One of several processes as if it were the only one."""
    single = copy.copy(processes)
    single.count, single.rank, single.is_main = 1, 0, True
    return single


def interrupted(task):
    """The task, which is asked to stop in its step `STOP`."""
    step = task.step

    def stopping(index, batch):
        if index + 1 == STOP:
            signal.raise_signal(signal.SIGTERM)
        return step(index, batch)

    task.step = stopping
    return task


def train_on(case, folder, processes, stop=False):
    """Trains a case with the loop, from its saved state; `stop` leaves it half done."""
    task = CASES[case][0](processes, torch.float64, 1)
    task = interrupted(task) if stop else task
    with contextlib.suppress(Interrupted):
        # Saved at every step, whatever the clock says: the states before the last are compared.
        train_task(task, Path(folder), processes, Logbook(None), save_minutes=0)
    return task


def resumed(processes, case, folder, begin):
    """A case begun by one process (`alone`) and ended by all, or the other way round (`all`)."""
    for stop in (True, False):
        if stop == (begin == "all"):
            train_on(case, folder, processes, stop)
        elif processes.is_main:
            train_on(case, folder, alone(processes), stop)
        processes.wait()


def diverged(processes):
    """What processes are told that differ in one value."""
    task = pretraining("hat", "batch norm", processes, torch.float32, 1)
    if processes.rank == 1:
        task.model.head.bias.data[2] = 1e-30
    with pytest.raises(UserError) as caught:
        processes.require_equal(task.state(), "pretrain", 7)
    return str(caught.value)
