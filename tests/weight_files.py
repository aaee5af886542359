"""Somebody's trained network and its weight file, taken or refused by a backbone of ours."""

from __future__ import annotations

import pytest
import torch
from nets import Small
from safetensors.torch import save_file

from atd.backbones import allow_import, build_backbone
from atd.backbones.weights import load_weights
from atd.config import BackboneConfig
from atd.errors import UserError

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def build(architecture="import:nets:small", classes=5, size=32, channels=3, **options):
    torch.manual_seed(1)
    config = BackboneConfig(architecture=architecture, **options)
    allow_import(architecture)
    return build_backbone(
        config,
        channels=channels,
        classes=classes,
        image_size=size,
        mean=[0.5] * channels,
        std=[0.25] * channels,
    ).eval()


def trained(classes=5, seed=3):
    """Somebody's network, trained somewhere else."""
    torch.manual_seed(seed)
    model = Small(classes).eval()
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.add_(torch.rand_like(value) * 0.1)
    return model


def prefixed(prefix, state):
    return {prefix + key: value for key, value in state.items()}


def written(tmp_path, content, name="weights.pt"):
    path = tmp_path / name
    if name.endswith(".safetensors"):
        save_file(content, path)
    else:
        torch.save(content, path)
    return path


def refused(path, backbone=None, **options):
    backbone = backbone or build()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load_weights(backbone, path, **options)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 900
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())
    return message
