"""A perceptron of two layers that tells ID from OOD by a vector, fitted to examples of both."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from atd.errors import UserError
from atd.metrics import auroc

__all__ = ["BinaryHead", "Fitted", "fit_binary_head"]

_TRAIN, _VALIDATION = 0.4, 0.4
_LEAST = 10
_BATCH = 128
_PATIENCE = 20


class BinaryHead(nn.Sequential):
    """Vector (N, F) -> raw logit (N,); larger = more OOD.

    Args:
        inputs: Elements of the vector.
        hidden: Units of the hidden layer.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, 1), nn.Flatten(0))


@dataclass(frozen=True, eq=False)
class Fitted:
    """What a fit gives.

    Attributes:
        head: The perceptron, on the CPU.
        centre: What is to be subtracted from vectors (F,).
        spread: What they are to be divided by then (F,).
        held_out: AUROC and accuracy on vectors that the fit has not seen (2,).
    """

    head: BinaryHead
    centre: Tensor
    spread: Tensor
    held_out: Tensor


def fit_binary_head(
    inside: Tensor, outside: Tensor, *, hidden: int, epochs: int, learning_rate: float, seed: int
) -> Fitted:
    """Fits a perceptron; 40 % of each side train it, 40 % choose the epoch, 20 % judge it.

    Both sides weigh the same, however many they are (Adam, batches of 128; it stops where 20
    epochs have brought no lower loss on the validation part).

    Args:
        inside: Vectors of ID images (N, F), on the CPU.
        outside: Vectors of outliers (M, F).
        hidden: Units of the hidden layer.
        epochs: At most so many.
        learning_rate: Adam's.
        seed: Of the split, the first weights and the order.

    Raises:
        UserError: Fewer than ten images on a side.
    """
    for side, name in ((inside, "ID images"), (outside, "outliers")):
        if len(side) < _LEAST:
            raise UserError(f"the detector is fitted on {_LEAST} or more {name}, not {len(side)}")
    generator = torch.Generator().manual_seed(seed)
    sides = [_split(side, generator) for side in (inside, outside)]
    train, validation, test = (torch.cat(parts) for parts in zip(*sides, strict=True))
    centre, spread = train.mean(0), train.std(0)
    spread = torch.where(spread > 1e-6 * centre.abs() + 1e-12, spread, 1.0)
    truth = [
        torch.arange(len(parts[0]) + len(parts[1])) >= len(parts[0])
        for parts in zip(*sides, strict=True)
    ]
    train, validation, test = (
        ((part - centre) / spread).float() for part in (train, validation, test)
    )
    head = _first(inside.shape[1], hidden, generator)
    head = _trained(
        head, (train, truth[0]), (validation, truth[1]), epochs, learning_rate, generator
    )
    with torch.no_grad():
        scores = head(test)
    judged = auroc(scores[~truth[2]].numpy(), scores[truth[2]].numpy())
    accuracy = ((scores > 0) == truth[2]).float().mean()
    return Fitted(head, centre.float(), spread.float(), torch.tensor([judged, accuracy]).float())


def _split(rows: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
    rows = rows[torch.randperm(len(rows), generator=generator)]
    first, second = int(_TRAIN * len(rows)), int((_TRAIN + _VALIDATION) * len(rows))
    return rows[:first], rows[first:second], rows[second:]


def _first(inputs: int, hidden: int, generator: torch.Generator) -> BinaryHead:
    head = BinaryHead(inputs, hidden)
    for layer in head:
        if isinstance(layer, nn.Linear):
            bound = layer.in_features**-0.5
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    return head


@torch.enable_grad()
def _trained(
    head: BinaryHead,
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    epochs: int,
    learning_rate: float,
    generator: torch.Generator,
) -> BinaryHead:
    """The perceptron of the epoch with the lowest loss on the validation part."""
    vectors, truth = train
    optimiser = torch.optim.Adam(head.parameters(), learning_rate)
    best, lowest, waited = head, float("inf"), 0
    for _ in range(epochs):
        for rows in torch.randperm(len(vectors), generator=generator).split(_BATCH):
            optimiser.zero_grad()
            _loss(head, vectors[rows], truth[rows], truth).backward()
            optimiser.step()
        with torch.no_grad():
            loss = float(_loss(head, *validation, validation[1]))
        waited = 0 if loss < lowest else waited + 1
        if loss < lowest:
            best, lowest = copy.deepcopy(head), loss
        if waited == _PATIENCE:
            break
    return best.requires_grad_(False)


def _loss(head: BinaryHead, vectors: Tensor, truth: Tensor, whole: Tensor) -> Tensor:
    """Binary cross-entropy in which both sides of the whole part weigh the same."""
    share = whole.float().mean()
    weights = torch.where(truth, 0.5 / share, 0.5 / (1 - share))
    return functional.binary_cross_entropy_with_logits(head(vectors), truth.float(), weights)
