"""The user's own classifier as a backbone."""

from __future__ import annotations

import sys

import nets
import pytest
import torch

from atd.backbones import allow_import, build_backbone
from atd.backbones.imported import _allowed
from atd.backbones.weights import load_weights
from atd.config import BackboneConfig
from atd.errors import UserError


@pytest.fixture(autouse=True)
def _nothing_allowed_afterwards():
    before = set(_allowed)
    yield
    _allowed.clear()
    _allowed.update(before)


def build(name, allowed=True, channels=3, **options):
    config = BackboneConfig(architecture=f"import:{name}", **options)
    if allowed:
        allow_import(config.architecture)
    return build_backbone(config, channels=channels, classes=5, image_size=8, mean=[0.5] * 3)


@pytest.mark.parametrize("features", ["last", "multi"])
def test_contract(features):
    backbone = build("nets:small", features=features).eval()
    images = torch.rand(2, 3, 8, 8, requires_grad=True)
    model = nets.small().eval()
    assert backbone.classes == 5
    assert torch.equal(backbone(images), model(images))
    assert torch.equal(backbone.logits(images), model(images))
    assert torch.equal(backbone.classify(backbone.embed(images)), model(images))
    expected = [model.trunk[:3](images), model.deep(model.trunk(images))]
    for found, maps in zip(backbone.stages(images), expected, strict=True):
        assert torch.equal(found, maps)
    assert torch.equal(backbone.embed(images), expected[-1].mean((2, 3)))
    assert backbone.features(images).shape == (2, backbone.feature_dim)
    backbone.features(images).sum().backward()
    assert images.grad.abs().sum() > 0


def test_the_layers_of_its_stages_are_named():
    backbone = build("nets:small").eval()
    images = torch.rand(2, 3, 8, 8)
    found = backbone.activations(images, backbone.stage_layers)
    for (_, value), maps in zip(found, backbone.stages(images), strict=True):
        assert torch.equal(value, maps)


def test_nothing_is_left_to_chance():
    backbone = build("nets:small").train()
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(backbone(images), backbone(images))


def test_it_normalises_only_if_asked():
    asked = build("nets:small", mean=[0.5], std=[0.25]).eval()
    images = torch.rand(2, 3, 8, 8)
    plain = build("nets:small").eval()
    torch.testing.assert_close(asked(images), plain((images - 0.5) / 0.25))


def test_nothing_is_run_that_the_user_did_not_name():
    sys.modules.pop("this", None)
    with pytest.raises(UserError, match=r"import:this:d, which runs only if you name it too"):
        build("this:d", allowed=False)
    assert "this" not in sys.modules


def test_the_environment_may_name_it_for_any_command(monkeypatch):
    monkeypatch.setenv("ATD_IMPORT", "other:make,nets:small")
    assert build("nets:small", allowed=False).classes == 5
    with pytest.raises(UserError, match="set ATD_IMPORT=MODULE:CALLABLE"):
        build("nets:ten_classes", allowed=False)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_such_module:make", "no module no_such_module, neither installed nor in"),
        ("nets:smal", "nets has no smal; did you mean small?"),
        ("nets", "backbone.architecture=nets: write import:MODULE:CALLABLE"),
        ("nets:not_callable", "not_callable in nets is a int, not callable"),
        ("nets:a_number", "returned a int, not a torch.nn.Module"),
        ("nets:broken", r"raised KeyError: 'no such weights' \(.*nets.py, line \d+\)"),
        ("nets:wrong_shape", r"returns torch.float32 of shape \(1,\) for 2 images"),
        ("nets:integers", r"returns torch.int64 of shape \(2, 5\)"),
        ("nets:headless", "its 3 logits come from no nn.Linear or nn.Conv2d"),
    ],
)
def test_what_it_cannot_be_is_one_clear_line(name, said):
    with pytest.raises(UserError, match=said) as caught:
        build(name)
    assert "\n" not in str(caught.value)


def test_unfit_images_are_the_users_mistake():
    with pytest.raises(UserError, match="import:nets:small does not work on 1x8x8 images"):
        build("nets:small", channels=1)


def test_it_is_found_in_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("from nets import small\nbad = 1 / 1\n")
    (tmp_path / "broken_here.py").write_text("import torch\n\nbad = 1 / 0\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    assert build("only_here:small").classes == 5
    with pytest.raises(UserError, match=r"ZeroDivisionError.*broken_here.py, line 3"):
        build("broken_here:small")


def test_on_the_meta_device_nothing_is_allocated():
    with torch.device("meta"):
        backbone = build("nets:ten_classes")
    assert backbone.classes == 10
    assert all(value.is_meta for value in backbone.state_dict().values())


def test_a_network_of_pixel_classes_has_no_embedding():
    backbone = build("nets:segments").train()
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(backbone(images), backbone(images))  # nothing is left to chance
    backbone = build("nets:segments").eval()
    assert torch.equal(backbone(images), nets.segments().eval()(images))
    assert (backbone.per_pixel, backbone.classes) == (True, 7)
    with pytest.raises(UserError, match="import:nets:segments gives classes of every pixel"):
        backbone.embed(images)


def test_weights_of_a_network_of_pixel_classes_are_read(tmp_path):
    other = nets.segments()
    for parameter in other.parameters():
        parameter.data += 0.25
    torch.save(other.state_dict(), tmp_path / "weights.pt")
    backbone = build("nets:segments").eval()
    load_weights(backbone, tmp_path / "weights.pt", needs_head=False)
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(backbone(images), other.eval()(images))
