"""Toy image sets and detectors as fixtures."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import nn
from toys import TIER, Brightness, Convolutional, ToyImages, ToySplits, grey

from atd.evaluation.settings import Settings


@pytest.fixture
def images() -> Callable[..., ToyImages]:
    return grey


@pytest.fixture
def brightness() -> nn.Module:
    return Brightness()


@pytest.fixture
def convolutional() -> nn.Module:
    return Convolutional()


@pytest.fixture(scope="session")
def splits() -> ToySplits:
    return ToySplits(
        id_val=grey("dark", 60, 100, 40, seed=1),
        id_test=grey("dark", 60, 100, 30, seed=2),
        ood_test={
            "bright": grey("bright", 90, 130, 25, seed=3),
            "chosen": grey("chosen", 140, 190, 20, seed=4),
            "close": grey("close", 70, 110, 15, seed=5),
        },
        roles={"bright": "far", "chosen": "far", "close": "near"},
        selection=frozenset({"chosen"}),
    )


@pytest.fixture(scope="session")
def settings() -> Settings:
    return Settings(tier=TIER, epsilon=8 / 255, batch_size=16, progress=False)
