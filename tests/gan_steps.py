"""Steps of a training of the discriminator, and what they change."""

from __future__ import annotations

from itertools import islice

import torch

BATCH, LATENT = 8, 10


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


def seen_by_discriminator(task):
    """Records what each forward pass of the discriminator gets, and in which mode."""
    calls = []
    task.detector.discriminator.register_forward_pre_hook(
        lambda module, inputs: calls.append((module.training, inputs[0].detach().clone()))
    )
    return calls
