"""Each check on a detector made to fail it, and all of them on sound ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from toys import Toy

from atd.evaluation.consistency import consistency_checks, is_randomised

CHECKS = {
    "same_score_twice",
    "same_score_in_any_batch",
    "same_score_after_anything",
    "same_score_in_float64",
    "scores_distinct",
    "gradients_true",
    "gradients_useful",
}


def judge(detector: nn.Module, count: int = 20) -> dict:
    generator = torch.Generator().manual_seed(0)
    inside = torch.rand(count, 3, 8, 8, generator=generator) * 0.5
    outside = 0.4 + torch.rand(count, 3, 8, 8, generator=generator) * 0.5
    return consistency_checks(detector, inside, outside, epsilon=8 / 255, seed=0)


def failed(detector: nn.Module) -> set[str]:
    return {name for name, check in judge(detector).items() if not check.passed}


class Noise(Toy):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean((1, 2, 3)) + 0.01 * torch.rand(len(images))


class BatchStatistics(Toy):
    def forward(self, images: Tensor) -> Tensor:
        return (images - images.mean()).mean((1, 2, 3)) / images.std()


class Memory(Toy):
    """Answers near what it has seen as it did then."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        answers = images.mean((1, 2, 3))
        if self.seen:
            known = torch.cat(self.seen).to(images.dtype)
            apart, nearest = torch.cdist(images.detach().flatten(1), known, p=torch.inf).min(1)
            old = known.mean(1)[nearest]
            answers = torch.where((apart > 0) & (apart < 0.1), old + 0.1 * (answers - old), answers)
        self.seen.append(images.detach().flatten(1))
        return answers


class Coarse(Toy):
    """Half precision: scores move in jumps."""

    def forward(self, images: Tensor) -> Tensor:
        return images.bfloat16().mean((1, 2, 3))


class Cancelling(Toy):
    """A small difference of large numbers."""

    def forward(self, images: Tensor) -> Tensor:
        return (images + 1e5).mean((1, 2, 3)) - 1e5


class Rounded(Toy):
    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean((1, 2, 3))
        return mean + ((30 * mean).round() / 30 - mean).detach()


class HalfStopped(Toy):
    """The score is the mean of all pixels; the gradient knows of the upper half alone."""

    def forward(self, images: Tensor) -> Tensor:
        return images[:, :, :4].mean((1, 2, 3)) + images[:, :, 4:].detach().mean((1, 2, 3))


class Ripple(Toy):
    """Brightness under a ripple much finer than epsilon."""

    def forward(self, images: Tensor) -> Tensor:
        return (images + 0.01 * (2e3 * images).sin()).mean((1, 2, 3))


class Counted(Toy):
    """A number of bright pixels, through a steep sigmoid."""

    def forward(self, images: Tensor) -> Tensor:
        return (images > 0.5).float().sum((1, 2, 3)) // 8 + 0 * images.sum((1, 2, 3))


@pytest.mark.parametrize(
    ("detector", "names"),
    [
        (Noise(), {"same_score_twice", "same_score_in_any_batch", "gradients_true"}),
        (BatchStatistics(), {"same_score_in_any_batch"}),
        (Memory(), {"same_score_after_anything"}),
        (Coarse(), {"scores_distinct", "gradients_true"}),
        (Cancelling(), {"same_score_in_float64"}),
        (Rounded(), {"scores_distinct", "gradients_true"}),
        (HalfStopped(), {"gradients_true"}),
        (Ripple(), {"gradients_useful"}),
        (Counted(), {"scores_distinct", "gradients_useful"}),
    ],
)
def test_fault_fails_its_checks(detector: nn.Module, names: set[str]) -> None:
    assert names <= failed(detector)


def test_sound_detectors_pass(convolutional, brightness) -> None:
    torch.manual_seed(0)

    class Relu(Toy):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(
                nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 1)
            )

        def forward(self, images: Tensor) -> Tensor:
            return self.net(images).squeeze(1)

    for detector in (convolutional, brightness, Relu()):
        assert judge(detector).keys() == CHECKS
        assert failed(detector) == set()


def test_detector_is_left_as_it_was(convolutional) -> None:
    convolutional.train()
    judge(convolutional)
    assert convolutional.training
    parameters = list(convolutional.parameters())
    assert all(p.dtype == torch.float32 and p.requires_grad for p in parameters)
    assert all(p.grad is None for p in parameters)


def test_randomised_detectors_are_recognised(convolutional) -> None:
    images = torch.rand(4, 3, 8, 8)
    assert is_randomised(Noise(), images)
    assert not is_randomised(convolutional, images)


class Mean(Toy):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean((1, 2, 3))


class Inside(Toy):
    """A detector within a detector, which refuses what is no image."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Mean()

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images)


@pytest.mark.parametrize("detector", [Mean(), Inside()])
@pytest.mark.parametrize("count", [3, 10])
def test_signs_that_cancel_are_no_wrong_gradient(detector, count) -> None:
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        inside = torch.rand(count, 3, 8, 8, generator=generator).round()  # at both ends
        outside = torch.rand(count, 3, 8, 8, generator=generator)
        found = consistency_checks(detector, inside, outside, epsilon=8 / 255, seed=seed)
        assert found["gradients_true"].passed
