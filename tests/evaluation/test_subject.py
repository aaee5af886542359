from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from toys import Toy

from atd.detectors.atd import ATD
from atd.errors import UserError
from atd.evaluation.subject import Subject


class Plain(Toy):
    def __init__(self) -> None:
        super().__init__(image_size=2, channels=1)

    def forward(self, images: Tensor) -> Tensor:
        return images.sum((1, 2, 3))


class Misleading(Plain):
    """Attributes that are not of the contract, and would have been taken for it."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Linear(1, 1)
        self.head = nn.Sequential(nn.Linear(4, 4))


def test_the_score_is_that_of_the_contract() -> None:
    images = torch.rand(3, 1, 2, 2)
    subject = Subject(Misleading())
    assert torch.equal(subject.score(images), images.sum((1, 2, 3)))
    assert torch.equal(subject.features(images), images.flatten(1))


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
    class Broken(Plain):
        def forward(self, images: Tensor) -> Tensor:
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
    class Column(Plain):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1)

    with pytest.raises(UserError, match=r"food: .*shape \(3, 4\), .* \(3,\)"):
        Subject(Column(), where="food").score(torch.rand(3, 1, 2, 2))


def test_features_are_a_vector_for_each_image() -> None:
    images = torch.rand(3, 3, 8, 8)
    found = Subject(ATD(None, image_size=8).eval()).features(images)
    assert torch.equal(found, images.flatten(1))


def test_a_graph_that_does_not_reach_the_images_is_a_gradient_of_zero() -> None:
    class Inside(Toy):
        """Makes a graph of its own, as scores that are themselves gradients do."""

        def forward(self, images: Tensor) -> Tensor:
            with torch.enable_grad():
                own = images.detach().requires_grad_(True)
                return own.square().flatten(1).sum(1)

    images = torch.rand(3, 3, 8, 8).requires_grad_(True)
    (gradient,) = torch.autograd.grad(Subject(Inside()).objective(1)(images).sum(), images)
    assert not gradient.any()
