from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from atd.errors import UserError
from atd.evaluation.subject import Subject


class Both(nn.Module):
    def logits(self, images: Tensor) -> Tensor:
        return images.sum((1, 2, 3))

    def score(self, images: Tensor) -> Tensor:
        return -images.sum((1, 2, 3))


class Plain(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.sum((1, 2, 3))


class ScoreOnly(nn.Module):
    def score(self, images: Tensor) -> Tensor:
        return images.sum((1, 2, 3))


@pytest.mark.parametrize("detector", [Both(), Plain(), ScoreOnly()])
def test_score_is_logits_else_score_else_the_module(detector) -> None:
    images = torch.rand(3, 1, 2, 2)
    assert torch.equal(Subject(detector).score(images), images.sum((1, 2, 3)))


def test_half_precision_scores_are_widened_and_double_ones_kept() -> None:
    images = torch.rand(3, 1, 2, 2)
    assert Subject(Plain()).score(images.bfloat16()).dtype == torch.float32
    assert Subject(Plain()).score(images.double()).dtype == torch.float64


@pytest.mark.parametrize("direction", [1, -1])
def test_objective_follows_the_direction(direction) -> None:
    images = torch.rand(3, 1, 2, 2, requires_grad=True)
    values = Subject(Plain()).objective(direction)(images)
    (gradient,) = torch.autograd.grad(values.sum(), images)
    assert torch.equal(values, direction * images.sum((1, 2, 3)))
    assert (gradient == direction).all()


def test_broken_scores_never_win_and_are_marked() -> None:
    class Broken(nn.Module):
        def logits(self, images: Tensor) -> Tensor:
            return images.sum((1, 2, 3)) / torch.tensor([1.0, 0.0, torch.nan])

    images = torch.rand(3, 1, 2, 2, requires_grad=True)
    broken = torch.zeros(3, dtype=torch.bool)
    for direction in (1, -1):
        values = Subject(Broken()).objective(direction, broken)(images)
        (gradient,) = torch.autograd.grad(values.sum(), images)
        assert values.isfinite().tolist() == [True, False, False]
        assert (values[1:] == -torch.inf).all()
        assert gradient.isfinite().all()
    assert broken.tolist() == [False, True, True]


def test_wrong_shapes_name_the_set() -> None:
    class Column(nn.Module):
        def logits(self, images: Tensor) -> Tensor:
            return images.flatten(1)

    with pytest.raises(UserError, match=r"food: .*shape \(3, 4\), .* \(3,\)"):
        Subject(Column(), where="food").score(torch.rand(3, 1, 2, 2))
