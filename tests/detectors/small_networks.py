"""Small trained classifiers of images of two classes, as backbones."""

from __future__ import annotations

import functools

import torch
from torch import nn
from torch.nn import functional

from atd.backbones.foreign import ForeignBackbone

SIZE, WIDTH = 8, 6


def block(inputs, outputs, norm, activation):
    return [nn.Conv2d(inputs, outputs, 3, padding=1), norm(outputs), activation()]


def layers(norm=nn.BatchNorm2d, activation=nn.ReLU):
    return nn.Sequential(
        *block(3, WIDTH, norm, activation),
        nn.MaxPool2d(2),
        *block(WIDTH, WIDTH, norm, activation),
        *block(WIDTH, WIDTH, norm, activation),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(WIDTH, 2),
    )


def some_images(count, seed=0):
    """Images (count, 3, 8, 8) that are bright at the left or at the right, and their classes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    images = 0.5 * torch.rand(count, 3, SIZE, SIZE, generator=generator)
    images[labels == 0, ..., : SIZE // 2] += 0.4
    images[labels == 1, ..., SIZE // 2 :] += 0.4
    return images, labels


def noise(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, SIZE, SIZE, generator=generator)


def as_backbone(network):
    """A network behind the backbone's contract, in evaluation mode and without gradients."""
    wrapped = ForeignBackbone(network, "small", channels=3, image_size=SIZE, features="last")
    return wrapped.eval().requires_grad_(False)


@functools.cache
def trained(activation=nn.ReLU):
    torch.manual_seed(0)
    network = layers(activation=activation)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for step in range(30):
        images, labels = some_images(32, step)
        optimiser.zero_grad()
        functional.cross_entropy(network(images), labels).backward()
        optimiser.step()
    return as_backbone(network)
