"""timm models as backbones."""

from __future__ import annotations

import sys

import pytest
import torch

from atd.backbones import build_backbone
from atd.config import BackboneConfig
from atd.errors import UserError

REASON = "timm is an optional dependency: pip install timm"


def build(name, features, channels=3, size=32):
    config = BackboneConfig(architecture=f"timm:{name}", features=features)
    return build_backbone(
        config, channels=channels, classes=4, image_size=size, mean=[0.5] * channels
    ).eval()


@pytest.mark.parametrize(
    "name", ["resnet18", "convnext_atto", "vit_tiny_patch16_224", "test_vit:patch_size=4"]
)
@pytest.mark.parametrize("features", ["last", "multi"])
def test_contract(name, features):
    pytest.importorskip("timm", reason=REASON)
    backbone = build(name, features, channels=1)
    images = torch.rand(2, 1, 32, 32, requires_grad=True)
    assert backbone.features(images).shape == (2, backbone.feature_dim)
    assert backbone.embed(images).shape == (2, backbone.embedding_dim)
    torch.testing.assert_close(backbone(images), backbone.model(images - 0.5))
    backbone.features(images).sum().backward()
    assert images.grad.isfinite().all()
    assert len(backbone.stages(images)) == 4


def test_small_images_are_cut_into_small_patches():
    pytest.importorskip("timm", reason=REASON)
    backbone = build("test_vit:patch_size=4", "last", channels=1, size=16)
    assert backbone.title == "timm:test_vit:patch_size=4"
    assert backbone.model.patch_embed.num_patches == 16
    assert backbone(torch.rand(2, 1, 16, 16)).shape == (2, 4)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet18:patch_size=4", "timm:resnet18:patch_size=4: resnet18 takes no patch_size"),
        ("test_vit:checkpoint_path=x", "write timm:NAME or timm:NAME:patch_size=4"),
        ("test_vit:patch_size=0", "write timm:NAME or timm:NAME:patch_size=4"),
    ],
)
def test_no_other_option_reaches_the_library(name, message):
    pytest.importorskip("timm", reason=REASON)
    with pytest.raises(UserError, match=message):
        build(name, "last")


def test_nothing_in_the_network_is_left_to_chance(monkeypatch):
    """Its draws would differ with the number of processes, and after a resume."""
    timm = pytest.importorskip("timm", reason=REASON)
    create = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda *a, **o: create(*a, drop_rate=0.5, drop_path_rate=0.5, **o)
    )
    backbone = build("convnext_atto", "last").train()
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(backbone(images), backbone(images))


def test_unknown_name_suggests_the_nearest():
    pytest.importorskip("timm", reason=REASON)
    with pytest.raises(UserError, match="timm:resnet18x: unknown; the nearest is resnet18"):
        build("resnet18x", "last")


def test_unfit_image_size_is_the_users_mistake():
    pytest.importorskip("timm", reason=REASON)
    with pytest.raises(UserError, match="vit_tiny_patch16_224 does not work on 3x8x8 images"):
        build("vit_tiny_patch16_224", "last", size=8)


def test_a_model_without_inner_maps_names_the_remedy(monkeypatch):
    timm = pytest.importorskip("timm", reason=REASON)
    monkeypatch.setattr(timm, "create_model", lambda *args, **options: torch.nn.Identity())
    with pytest.raises(UserError, match=r"resnet18 gives no inner maps.*backbone\.features=last"):
        build("resnet18", "multi")


def test_missing_timm_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match="pip install timm"):
        build("resnet18", "last")


@pytest.mark.parametrize(
    ("name", "size"), [("vit_gigantic_patch14_224", 224), ("resnet50", 4096), ("test_maxvit", 64)]
)
def test_on_the_meta_device_nothing_is_allocated(name, size):
    pytest.importorskip("timm", reason=REASON)
    with torch.device("meta"):
        backbone = build(name, "multi", size=size)
    assert all(value.is_meta for value in backbone.state_dict().values())


def test_head_stages_and_usual_normalisation_are_known():
    pytest.importorskip("timm", reason=REASON)
    backbone = build("test_resnet", "multi")
    images = torch.rand(2, 3, 32, 32)
    last = backbone.activations(images, backbone.stage_layers)[-1][1]
    assert torch.equal(last, backbone.stages(images)[-1])
    assert backbone.get_submodule(backbone.head_name) is backbone.model.get_classifier()
    assert backbone.customary == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
