"""A toy training task whose every step depends on the one before."""

from __future__ import annotations

import json
import signal

import torch
from torch import nn

EPOCH = 4


class Descent:
    """A noisy descent whose every step depends on the one before."""

    stage, batch_size, steps_per_epoch = "toy", 3, EPOCH

    def __init__(self, selections=(1.0, 2.0, 3.0), before_step=lambda step: None):
        torch.manual_seed(0)
        self.model = nn.Linear(3, 1)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.steps = EPOCH * len(selections)
        self.selections, self.before_step = selections, before_step
        self.seen, self.after_epoch = [], {}

    def batches(self, start):
        for step in range(start, self.steps):
            yield torch.randn(3, 3, generator=torch.Generator().manual_seed(step))

    def step(self, step, batch):
        factor = self.before_step(step)
        self.seen.append(step)
        loss = self.model(batch).square().mean() * (1.0 if factor is None else factor)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach(), "other": loss.detach() + 1}

    def validate(self, step, logbook):
        epoch = step // EPOCH
        self.after_epoch[epoch] = self.weights()
        return {"selection": self.selections[epoch - 1]}

    def warnings(self, means):
        return ["too low"] if means["loss"] < 1e9 else []

    def state(self):
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load(self, state):
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])

    def weights(self):
        return {key: value.detach().clone() for key, value in self.model.state_dict().items()}

    def load_weights(self, weights):
        self.model.load_state_dict(weights)


class Silent:
    """Stands in for TensorBoard, which takes seconds to import."""

    def add_scalar(self, *_):
        pass


def same(one, other):
    return all(torch.equal(one[key], other[key]) for key in one)


def stop_at(stopped_step, number=signal.SIGINT):
    def before_step(step):
        if step == stopped_step:
            signal.raise_signal(number)

    return before_step


PACE = {"seconds", "images_per_second", "seconds_data", "seconds_communication"}


def lines(folder):
    """What the logbook kept, less what depends on the machine's pace."""
    entries = [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]
    return [{key: entry[key] for key in entry if key not in PACE} for entry in entries]
