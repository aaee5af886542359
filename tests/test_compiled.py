"""Compilation changes nothing but rounding, and only within its context."""

from __future__ import annotations

import torch
from torch import nn

from atd.compiled import compiled_logits


class Toy(nn.Module):
    def logits(self, images):
        return images.flatten(1).sum(1)


def test_logits_are_compiled_within_the_context_only(monkeypatch) -> None:
    calls = []

    def pretend(function, mode):
        assert mode == "default"

        def inner(images):
            calls.append(len(images))
            return function(images)

        return inner

    monkeypatch.setattr(torch, "compile", pretend)
    detector, images = Toy(), torch.rand(3, 1, 2, 2)
    with compiled_logits(detector):
        within = detector.logits(images)
    assert calls == [3]
    assert torch.equal(within, detector.logits(images))
    assert calls == [3]
    assert "logits" not in vars(detector)


def test_a_detector_without_logits_stays_as_it_is() -> None:
    detector = nn.Flatten()
    with compiled_logits(detector):
        assert not hasattr(detector, "logits")
