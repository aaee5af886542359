"""A small segmentation network in the manner of ESPNet (Mehta et al., 2018, arXiv:1803.06815)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.segmentation.scenes import CLASSES, Scenes

__all__ = ["EspNet", "mean_iou", "trained"]

_DILATIONS = (1, 2, 4, 8)


class Pyramid(nn.Module):
    """An efficient spatial pyramid: dilated convolutions of few channels, summed and joined."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        part = outputs // len(_DILATIONS)
        self.reduce = nn.Conv2d(inputs, part, 3 if stride > 1 else 1, stride, stride // 2)
        self.branches = nn.ModuleList(
            nn.Conv2d(part, part, 3, padding=rate, dilation=rate, bias=False) for rate in _DILATIONS
        )
        self.norm = nn.BatchNorm2d(outputs)
        self.activation = nn.PReLU(outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, images: Tensor) -> Tensor:
        reduced = self.reduce(images)
        sums = [self.branches[0](reduced)]
        for branch in self.branches[1:]:
            sums.append(sums[-1] + branch(reduced))
        joined = torch.cat(sums, 1)
        return self.activation(self.norm(joined + images if self.residual else joined))


class EspNet(nn.Module):
    """Float images (N, 3, S, S) in [0, 1] to class logits (N, classes, S, S)."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        half, classes = width // 2, len(CLASSES)
        self.stem = nn.Sequential(nn.Conv2d(3, half, 3, 2, 1), nn.BatchNorm2d(half), nn.PReLU(half))
        self.inner = nn.Sequential(
            Pyramid(half, width, stride=2), Pyramid(width, width), Pyramid(width, width)
        )
        self.coarse, self.fine = nn.Conv2d(width, classes, 1), nn.Conv2d(half, classes, 3, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        early = self.stem(4 * images - 2)
        coarse = self.coarse(self.inner(early))
        both = self.fine(early) + functional.interpolate(coarse, scale_factor=2.0, mode="bilinear")
        return functional.interpolate(both, scale_factor=2.0, mode="bilinear")


def trained(scenes: Scenes, *, width: int, steps: int, seed: int) -> EspNet:
    """A network trained by Adam on random batches; background counts less, being most of it."""
    torch.manual_seed(seed)
    network = EspNet(width)
    adam = torch.optim.Adam(network.parameters(), 5e-3)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, 5e-3, total_steps=steps)
    weights = torch.tensor([0.4] + [1.0] * (len(CLASSES) - 1))
    for _ in range(steps):
        rows = torch.randint(len(scenes.images), (16,))
        loss = functional.cross_entropy(network(scenes.images[rows]), scenes.labels[rows], weights)
        adam.zero_grad()
        loss.backward()
        adam.step()
        rate.step()
    return network.eval().requires_grad_(False)


@torch.no_grad()
def mean_iou(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Intersection over union of each class over all images, averaged over classes."""
    found = torch.cat([network(part).argmax(1) for part in images.split(64)])
    known = labels >= 0
    shares = []
    for label in range(len(CLASSES)):
        here, there = (found == label) & known, labels == label
        shares.append((here & there).sum() / (here | there).sum().clamp_min(1))
    return float(torch.stack(shares).mean())
