"""Loads backbone weights from disk: our own safetensors, or a RobustBench checkpoint.

RobustBench's CIFAR models of Gowal et al. (2020), Rebuffi et al. (2021) and Rade &
Moosavi-Dezfooli (2022) share one layout (`robustbench/model_zoo/architectures/
dm_wide_resnet.py`), which `ResidualBackbone` computes identically:

- `Rade2021Helper_R18_*`: `preact_resnet18`, width 64, `silu`;
- `Rade2021Helper_extra`: `wide_resnet34`, width 160, `silu`.

The activation leaves no trace in a checkpoint; nearly all of them use `silu`.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atd.backbones.base import Backbone
from atd.errors import UserError

__all__ = ["load_weights"]

_NESTED = ("ema_state_dict", "model_state_dict", "state_dict", "model")

_RENAMES = (
    (r"^(conv_2d|init_conv)\.", "stem.0."),
    (r"^layer_(\d)\.(\d+)\.", r"groups.\1.\2."),
    (r"^layer\.(\d)\.block\.(\d+)\.", r"groups.\1.\2."),
    (r"^(groups\..*)batchnorm_0\.", r"\1norm1."),
    (r"^(groups\..*)batchnorm_1\.", r"\1norm2."),
    (r"^(groups\..*)(conv_2d_1|conv_0)\.", r"\1conv1."),
    (r"^(groups\..*)(conv_2d_2|conv_1)\.", r"\1conv2."),
    (r"^batchnorm\.", "norm."),
    (r"^logits\.", "head."),
)


def load_weights(backbone: Backbone, path: str | Path) -> None:
    """Fills a backbone with weights, and with the input normalisation stored beside them.

    Args:
        backbone: The network, built with the architecture and width of the checkpoint.
        path: `.safetensors` of a backbone or of a detector, or a RobustBench `.pt`, where the
            state dict may be nested (`model_state_dict`, ...) and prefixed (`module.0.`, ...).

    Raises:
        UserError: The file is missing, is not a plain state dict, or belongs to another
            architecture; the message names the first entries that differ.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"backbone.weights={path}: no such file")
    read = _read_safetensors if path.suffix == ".safetensors" else _read_torch
    found = {_rename(key): tensor for key, tensor in _unprefixed(read(path)).items()}
    expected = backbone.state_dict()
    for key, tensor in expected.items():
        if key.endswith("num_batches_tracked"):  # absent from checkpoints converted from JAX
            found.setdefault(key, tensor)
        elif key in ("mean", "std") and key in found and found[key].numel() == tensor.numel():
            found[key] = found[key].reshape(tensor.shape)
    _check(path, expected, found)
    backbone.load_state_dict(found)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path}: not a readable safetensors file: {error}") from None
    within = {key: tensor for key, tensor in state.items() if key.startswith("backbone.")}
    return within or state


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError):
        raise UserError(
            f"{path}: not a plain PyTorch state dict (other pickles are refused, they can run "
            "code); save the state dict alone"
        ) from None
    while isinstance(content, Mapping) and (inner := [key for key in _NESTED if key in content]):
        content = content[inner[0]]
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: holds a {type(content).__name__}, not a state dict")
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}


def _unprefixed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drops wrappers' prefixes (`module.`, `0.`, `backbone.`): whatever all keys share."""
    state = {key: tensor for key, tensor in state.items() if key != "n_averaged"}
    while state and all("." in key for key in state):
        heads = {key.split(".", 1)[0] for key in state}
        if len(heads) > 1:
            break
        state = {key.split(".", 1)[1]: tensor for key, tensor in state.items()}
    return state


def _rename(key: str) -> str:
    for pattern, replacement in _RENAMES:
        key = re.sub(pattern, replacement, key)
    return key


def _check(path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    missing = [key for key in expected if key not in found]
    extra = [key for key in found if key not in expected]
    reshaped = [
        f"{key} is {tuple(found[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected
        if key in found and found[key].shape != expected[key].shape
    ]
    faults = [
        f"{title} {', '.join(names[:3])}" + (f" and {len(names) - 3} more" if names[3:] else "")
        for title, names in (("lacks", missing), ("has unknown", extra), ("shape:", reshaped))
        if names
    ]
    if faults:
        raise UserError(
            f"{path}: does not fit this backbone: {'; '.join(faults)}; check "
            "backbone.architecture, backbone.width, data.channels and the number of classes"
        )
