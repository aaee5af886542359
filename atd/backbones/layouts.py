"""Names of weights: those of other code bases put into ours, and whose names they are.

RobustBench's CIFAR models of Gowal et al. (2020), Rebuffi et al. (2021) and Rade &
Moosavi-Dezfooli (2022) share one layout (`robustbench/model_zoo/architectures/
dm_wide_resnet.py`), which `ResidualBackbone` computes identically:

- `Rade2021Helper_R18_*`: `preact_resnet18`, width 64, `silu`;
- `Rade2021Helper_extra`: `wide_resnet34`, width 160, `silu`.

The activation leaves no trace in a checkpoint; nearly all of them use `silu`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

__all__ = ["looks_like", "renamed"]

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
    # torchvision's published DenseNets still bear the names of its first version
    (r"^(features\.denseblock.*\.(?:norm|conv))\.([12])\.", r"\1\2."),
)


def renamed(key: str) -> str:
    """A weight's name as our networks and the libraries of today call it."""
    for pattern, replacement in _RENAMES:
        key = re.sub(pattern, replacement, key)
    return key


def looks_like(state: Mapping[str, Tensor]) -> str:
    """Whose weights these are, by their names; empty if unknown.

    Args:
        state: Tensors by name, without wrappers' prefixes, renamed.

    Returns:
        What to write as `backbone.architecture`, in words.
    """
    if "groups.0.0.norm1.weight" in state:
        return _ours(state)
    if "layer1.0.conv1.weight" in state:
        return _resnet(state)
    if "features.0.weight" in state and "classifier.6.weight" in state:
        depth = sum(value.ndim == 4 for value in state.values()) + 3
        norm = "_bn" if "features.1.running_mean" in state else ""
        return f"torchvision:vgg{depth}{norm}" if depth > 8 else "torchvision:alexnet"
    if "conv_proj.weight" in state:
        size = {768: "b", 1024: "l", 1280: "h"}.get(len(state["conv_proj.weight"]), "b")
        return f"torchvision:vit_{size}_{state['conv_proj.weight'].shape[-1]}"
    if "patch_embed.proj.weight" in state and "blocks.0.attn.qkv.weight" in state:
        weight = state["patch_embed.proj.weight"]
        size = {192: "tiny", 384: "small", 768: "base", 1024: "large"}.get(len(weight), "SIZE")
        return f"timm:vit_{size}_patch{weight.shape[-1]}_224"
    for key, words in _BY_NAME:
        if key in state:
            return words
    return ""


_BY_NAME = (
    ("features.denseblock1.denselayer1.norm1.weight", "torchvision:densenet121 or its siblings"),
    ("features.1.0.layer_scale", "torchvision:convnext_tiny or its siblings"),
    ("features.1.0.attn.qkv.weight", "torchvision:swin_t or its siblings"),
    ("features.1.conv.0.0.weight", "torchvision:mobilenet_v2"),
    ("features.1.block.0.0.weight", "torchvision:mobilenet_v3_small or its siblings"),
    ("features.1.0.block.0.0.weight", "torchvision:efficientnet_b0 or its siblings"),
    ("stages.0.blocks.0.gamma", "timm:convnext_tiny or its siblings"),
    ("layers.0.blocks.0.attn.qkv.weight", "timm:swin_tiny_patch4_window7_224 or its siblings"),
    ("blocks.0.0.conv_dw.weight", "timm:efficientnet_b0 or its siblings"),
    ("conv_stem.weight", "timm:efficientnet_b0 or its siblings"),
    ("block1.layer.0.bn1.weight", "a WideResNet of other code (import:MODULE:CALLABLE)"),
    ("embeddings.cls_token", "a network of transformers (import:MODULE:CALLABLE)"),
)


def _ours(state: Mapping[str, Tensor]) -> str:
    blocks = max(int(key.split(".")[2]) for key in state if key.startswith("groups.0.")) + 1
    name = "preact_resnet18"
    if "groups.3.0.norm1.weight" not in state:
        name = "wide_resnet34" if blocks > 4 else "wide_resnet28"
    convolution = state.get("groups.0.0.conv1.weight")
    return name if convolution is None else f"{name} backbone.width={len(convolution)}"


def _resnet(state: Mapping[str, Tensor]) -> str:
    if "fc.weight" not in state and "linear.weight" in state:
        return "a ResNet for CIFAR of other code (import:MODULE:CALLABLE)"
    depth = len([key for key in state if re.fullmatch(r"layer3\.\d+\.conv1\.weight", key)])
    if "layer1.0.conv3.weight" not in state:
        name = {2: "resnet18", 6: "resnet34"}.get(depth, "resnet18 or its siblings")
    else:
        name = {6: "resnet50", 23: "resnet101", 36: "resnet152"}.get(depth, "resnet50")
        first = state["layer1.0.conv1.weight"]
        groups = state["layer1.0.conv2.weight"].shape[1] != len(first)
        wide = len(first) > 64
        name = f"wide_{name}_2" if wide and not groups else name
        name = name.replace("resnet", "resnext") + "_32x4d" if groups else name
    return f"torchvision:{name}"
