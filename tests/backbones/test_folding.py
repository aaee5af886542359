"""The frozen pass computes what the backbone computes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from atd.backbones import build_backbone
from atd.backbones.folding import FrozenPass
from atd.config import BackboneConfig
from atd.errors import UserError

ARCHITECTURES = {
    "preact_resnet18": {},
    "wide_resnet28": {"activation": "relu"},
    "stacked stem": {"architecture": "preact_resnet18", "stem_stride": 4},
    "timm:resnet18": {},
}


def backbone(name="preact_resnet18", size=16):
    torch.manual_seed(0)
    options = {"architecture": name, "width": 4, **ARCHITECTURES[name]}
    model = build_backbone(BackboneConfig(**options), channels=3, classes=5, image_size=size)
    disturb(model)
    return model.double()


def disturb(model):
    """Gives batch normalisation something to do, as training does."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 2)
                module.bias.normal_(0, 0.3)


@pytest.fixture
def images():
    return torch.rand(3, 3, 16, 16, dtype=torch.float64)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_features_logits_and_gradients_are_the_backbone_s(name, images):
    model = backbone(name)
    frozen = FrozenPass(model)
    model.eval()
    for mine, theirs in ((frozen.features, model.features), (frozen.classify, model)):
        pair = [images.clone().requires_grad_() for _ in range(2)]
        outputs = mine(pair[0]), theirs(pair[1])
        torch.testing.assert_close(*outputs, rtol=1e-10, atol=1e-10)
        for output in outputs:
            output.square().sum().backward()
        torch.testing.assert_close(pair[0].grad, pair[1].grad, rtol=1e-8, atol=1e-8)
        assert pair[0].grad.abs().max() > 0


def test_a_convolution_takes_over_its_normalisation():
    model = backbone()
    norms = [
        sum(isinstance(m, nn.BatchNorm2d) for m in x.modules()) for x in (model, folded(model))
    ]
    assert norms == [17, 9]  # eight blocks, and one fewer in each


def folded(model):
    return FrozenPass(model).copy


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_refresh_takes_over_what_training_changed(name, images):
    model = backbone(name)
    frozen = FrozenPass(model)
    model.eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    disturb(model)
    assert not torch.allclose(frozen.features(images), model.features(images))
    frozen.refresh()
    torch.testing.assert_close(frozen.features(images), model.features(images), rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", ["preact_resnet18", "timm:resnet18"])
def test_bfloat16_convolves_in_bfloat16_and_returns_float32(name, images):
    model = backbone(name).float()
    frozen = FrozenPass(model, bfloat16=True)
    types = set()
    for module in frozen.copy.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _, __, output: types.add(output.dtype))
    exact, rough = model.eval().features(images.float()), frozen.features(images.float())
    assert types == {torch.bfloat16}
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).abs().max() < 0.1 * exact.abs().max()


def test_nothing_of_the_backbone_is_changed(images):
    model = backbone()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    FrozenPass(model).features(images)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_without_a_compiler_one_line_says_so(monkeypatch, images):
    def broken(function, mode):
        def fail(_):
            raise RuntimeError("InvalidCxxCompiler: no working C++ compiler found")

        return fail

    monkeypatch.setattr(torch, "compile", broken)
    frozen = FrozenPass(backbone(), compiled=True)
    with pytest.raises(UserError, match=r"run\.compile: .*no working C\+\+ compiler"):
        frozen.features(images)
