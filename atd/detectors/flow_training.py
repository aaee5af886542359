"""Fitting a normalizing flow to vectors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from atd.detectors.flow import Flow, flow_loss
from atd.errors import UserError

__all__ = ["FlowTraining", "train_flow"]

_BATCH = 64
_CLIP = 0.5
_HELD_OUT = 0.1
_PATIENCE = 10
_JITTER = 0.05
"""Standard deviation of noise added in training. Without it a flow gains without end by
stretching units that never change or repeat each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowTraining:
    """How a flow is fitted: Adam with the betas, epsilon and decay of the released code."""

    epochs: int
    lr: float
    seed: int


def train_flow(flow: Flow, values: Tensor, how: FlowTraining) -> list[float]:
    """Fits a flow to vectors and leaves in it the weights that were best on a held-out tenth.

    It ends early when ten epochs brought nothing, and at once when the loss is no longer finite.

    Args:
        flow: Fresh (`Flow.reset`).
        values: Vectors (N, D), standardised.
        how: Length, step size and seed.

    Returns:
        The loss on the held-out vectors after each epoch.

    Raises:
        UserError: There are fewer than two vectors, or the first epoch diverges.
    """
    if len(values) < 2:
        raise UserError("kind daain needs at least two ID images to fit its flow on")
    generator = torch.Generator().manual_seed(how.seed)
    rows = torch.randperm(len(values), generator=generator)
    count = max(1, int(_HELD_OUT * len(values)))
    held_out, training = values[rows[:count]], values[rows[count:]]
    weights = {name: value.clone().requires_grad_() for name, value in flow.weights().items()}
    adam = torch.optim.Adam(weights.values(), how.lr, betas=(0.8, 0.8), eps=1e-4, weight_decay=1e-5)
    losses: list[float] = []
    best = {name: value.detach().clone() for name, value in weights.items()}
    with tqdm(
        range(how.epochs), "fitting the flow", unit="epoch", delay=1, leave=False, disable=None
    ) as bar:
        for epoch in bar:
            for part in torch.randperm(len(training), generator=generator).split(_BATCH):
                _step(flow, training[part], weights, adam, generator)
            losses.append(_held_out_loss(flow, held_out, weights))
            bar.set_postfix(loss=f"{losses[-1]:.4f}")
            if not _finite(losses[-1]):
                _tell_divergence(epoch, how.lr)
                break
            if losses[-1] == min(losses):
                best = {name: value.detach().clone() for name, value in weights.items()}
            elif len(losses) - 1 - losses.index(min(losses)) >= _PATIENCE:
                break
    for name, value in best.items():
        setattr(flow, name, value)
    return losses


def _step(
    flow: Flow,
    values: Tensor,
    weights: dict[str, Tensor],
    adam: torch.optim.Adam,
    generator: torch.Generator,
) -> None:
    noise = torch.randn(values.shape, generator=generator).to(values.device)
    with torch.enable_grad():
        loss = flow_loss(*flow(values + _JITTER * noise, weights)).mean()
        adam.zero_grad()
        loss.backward()
    torch.nn.utils.clip_grad_norm_(list(weights.values()), _CLIP)
    adam.step()


@torch.no_grad()
def _held_out_loss(flow: Flow, values: Tensor, weights: dict[str, Tensor]) -> float:
    return float(flow_loss(*flow(values, weights)).mean())


def _finite(loss: float) -> bool:
    return abs(loss) < float("inf")


def _tell_divergence(epoch: int, lr: float) -> None:
    if not epoch:
        raise UserError(
            f"kind daain: the flow diverged in its first epoch; lower detector.lr={lr:g}"
        )
    tqdm.write(
        f"kind daain: the flow diverged in epoch {epoch + 1}; its best state before is kept "
        f"(detector.lr={lr:g} is too large)"
    )
