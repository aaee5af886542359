"""Layers of batch normalisation whose passes must not depend on how a batch is divided."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import nn

from atd.training.global_norm import global_batch_statistics

BATCH = 8

NORMS = {
    "maps": ((BATCH, 3, 4, 4), torch.float64, lambda: nn.BatchNorm2d(3)),
    "vectors": ((BATCH, 3), torch.float64, lambda: nn.BatchNorm1d(3, eps=0.1)),
    "plain": ((BATCH, 3, 4), torch.float64, lambda: nn.BatchNorm1d(3, affine=False)),
    "cumulative": ((BATCH, 3, 4, 4), torch.float64, lambda: nn.BatchNorm2d(3, momentum=None)),
    "no statistics": (
        (BATCH, 3),
        torch.float64,
        lambda: nn.BatchNorm1d(3, affine=False, track_running_stats=False),
    ),
    "one image each": ((2, 3), torch.float64, lambda: nn.BatchNorm1d(3)),
    "channels last": ((BATCH, 3, 4, 4), torch.float64, lambda: nn.BatchNorm2d(3)),
    "not finite": ((BATCH, 3, 4, 4), torch.float64, lambda: nn.BatchNorm2d(3)),
    "float32": ((BATCH, 3, 4, 4), torch.float32, lambda: nn.BatchNorm2d(3)),
    "bfloat16": ((BATCH, 3, 4, 4), torch.bfloat16, lambda: nn.BatchNorm2d(3)),
}


if find_spec("timm"):
    from timm.layers import BatchNormAct2d

    NORMS["timm"] = ((BATCH, 3, 4, 4), torch.float64, lambda: BatchNormAct2d(3))


TOGETHER = [name for name in NORMS if name != "cumulative"]
"""Cases whose passes may be made as one; that one's momentum depends on the number of passes."""


def normalise(processes, name, together=False):
    """Two passes through a layer, or one with both: outputs, gradients and running statistics."""
    shape, dtype, build = NORMS[name]
    torch.manual_seed(1)
    layer = build().double() if dtype == torch.float64 else build()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    share = processes.share(shape[0], "")
    turns = [_turn(name, shape, dtype) for _ in range(2)]
    parts = [whole[share].clone().requires_grad_(True) for whole, _ in turns]
    found = {}
    if together:
        with global_batch_statistics(processes.count, len(parts)):
            outs = layer(torch.cat(parts)).chunk(len(parts))
    else:
        with global_batch_statistics(processes.count):
            outs = [layer(part) for part in parts]
    assert {out.dtype for out in outs} == {dtype}
    pairs = list(zip(outs, turns, strict=True))
    sum((out.double().sin() * weights[share]).mean() for out, (_, weights) in pairs).backward()
    for turn, (out, part) in enumerate(zip(outs, parts, strict=True)):
        # Each process differentiates the mean over its own part.
        found |= {f"out {turn}": out.detach(), f"input {turn}": part.grad / processes.count}
    if layer.affine:
        processes.average_gradients(layer.parameters())
    found |= {f"gradient {key}": value.grad for key, value in layer.named_parameters()}
    layer.eval()
    with global_batch_statistics(processes.count), torch.no_grad():
        found["evaluated"] = layer(turns[1][0][share])
    found |= layer.state_dict()
    # Whoever makes several passes as one counts them.
    found.pop("num_batches_tracked", None)
    return {key: value.clone(memory_format=torch.contiguous_format) for key, value in found.items()}


def _turn(name, shape, dtype):
    """Values of a whole batch, and weights by which a loss adds up what is made of them."""
    # Far from zero, where a sum of squares would lose all digits in float32.
    offset = 1.0 if dtype == torch.bfloat16 else 1000.0
    whole = (torch.randn(shape, dtype=torch.float64) + offset).to(dtype)
    if name == "channels last":
        whole = whole.contiguous(memory_format=torch.channels_last)
    if name == "not finite":
        whole[-1, 0] = torch.inf
    return whole, torch.randn(shape, dtype=torch.float64)
