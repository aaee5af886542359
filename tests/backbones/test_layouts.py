"""Loading RobustBench checkpoints: the same state dict must give the same logits.

The two architectures are stated here a second time, as plain functions of a state dict in
RobustBench's naming, independently of `atd.backbones.base`.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from atd.backbones import build_backbone
from atd.backbones.weights import load_weights
from atd.config import BackboneConfig
from atd.errors import UserError

CLASSES = 10


def norm_shapes(name, width):
    parts = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": (width,) for part in parts} | {f"{name}.num_batches_tracked": ()}


def preact_shapes(width=64):
    shapes = {"mean": (3, 1, 1), "std": (3, 1, 1), "conv_2d.weight": (width, 3, 3, 3)}
    inputs = width
    for group in range(4):
        outputs = width * 2**group
        for block in range(2):
            name = f"layer_{group}.{block}"
            shapes |= norm_shapes(f"{name}.batchnorm_0", inputs)
            shapes |= norm_shapes(f"{name}.batchnorm_1", outputs)
            shapes[f"{name}.conv_2d_1.weight"] = (outputs, inputs, 3, 3)
            shapes[f"{name}.conv_2d_2.weight"] = (outputs, outputs, 3, 3)
            if inputs != outputs:
                shapes[f"{name}.shortcut.weight"] = (outputs, inputs, 3, 3)
            inputs = outputs
    return with_head(shapes, inputs)


def wide_shapes(width, blocks):
    shapes = {"mean": (3, 1, 1), "std": (3, 1, 1), "init_conv.weight": (16, 3, 3, 3)}
    inputs = 16
    for group in range(3):
        outputs = width * 2**group
        for block in range(blocks):
            name = f"layer.{group}.block.{block}"
            shapes |= norm_shapes(f"{name}.batchnorm_0", inputs)
            shapes |= norm_shapes(f"{name}.batchnorm_1", outputs)
            shapes[f"{name}.conv_0.weight"] = (outputs, inputs, 3, 3)
            shapes[f"{name}.conv_1.weight"] = (outputs, outputs, 3, 3)
            if inputs != outputs:
                shapes[f"{name}.shortcut.weight"] = (outputs, inputs, 1, 1)
            inputs = outputs
    return with_head(shapes, inputs)


def with_head(shapes, width):
    head = {"logits.weight": (CLASSES, width), "logits.bias": (CLASSES,)}
    return shapes | norm_shapes("batchnorm", width) | head


def random_state(shapes):
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in shapes.items():
        values = torch.randn(shape, generator=generator)
        if name.endswith("num_batches_tracked"):
            values = torch.tensor(7)
        elif name == "std" or "running_var" in name:
            values = values.abs() + 0.5
        elif len(shape) == 4:
            values = values * (2 / values[0].numel()) ** 0.5
        state[name] = values
    return state


def double(state):
    """Rounding must not blur the comparison of two statements of one network."""
    return {name: values.double() for name, values in state.items()}


def norm(state, name, x):
    keys = ("running_mean", "running_var", "weight", "bias")
    return F.batch_norm(x, *(state[f"{name}.{key}"] for key in keys))


def same_conv(state, name, x, stride):
    x = F.pad(x, (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1))
    return F.conv2d(x, state[f"{name}.weight"], stride=stride)


def preact_logits(state, images, activation):
    x = F.conv2d((images - state["mean"]) / state["std"], state["conv_2d.weight"], padding=1)
    for group in range(4):
        for block in range(2):
            name, stride = f"layer_{group}.{block}", 2 if group and not block else 1
            active = activation(norm(state, f"{name}.batchnorm_0", x))
            projected = f"{name}.shortcut.weight" in state
            skip = same_conv(state, f"{name}.shortcut", x, stride) if projected else x
            out = same_conv(state, f"{name}.conv_2d_1", active, stride)
            out = activation(norm(state, f"{name}.batchnorm_1", out))
            x = same_conv(state, f"{name}.conv_2d_2", out, 1) + skip
    x = F.avg_pool2d(activation(norm(state, "batchnorm", x)), 4).flatten(1)
    return F.linear(x, state["logits.weight"], state["logits.bias"])


def wide_logits(state, images, activation, blocks):
    x = F.conv2d((images - state["mean"]) / state["std"], state["init_conv.weight"], padding=1)
    for group in range(3):
        for block in range(blocks):
            name, stride = f"layer.{group}.block.{block}", 2 if group and not block else 1
            active = activation(norm(state, f"{name}.batchnorm_0", x))
            skip = x
            if f"{name}.shortcut.weight" in state:
                skip = F.conv2d(active, state[f"{name}.shortcut.weight"], stride=stride)
            out = same_conv(state, f"{name}.conv_0", active, stride)
            out = activation(norm(state, f"{name}.batchnorm_1", out))
            x = same_conv(state, f"{name}.conv_1", out, 1) + skip
    x = F.avg_pool2d(activation(norm(state, "batchnorm", x)), 8).flatten(1)
    return F.linear(x, state["logits.weight"], state["logits.bias"])


def build(architecture, width, activation="silu", classes=CLASSES):
    config = BackboneConfig(architecture=architecture, width=width, activation=activation)
    return build_backbone(config, channels=3, classes=classes, image_size=32).eval()


def save(tmp_path, content):
    path = tmp_path / "weights.pt"
    torch.save(content, path)
    return path


@pytest.mark.parametrize("activation", ["silu", "relu"])
@pytest.mark.parametrize("width", [64, 8])
def test_preact_resnet_gives_the_same_logits(tmp_path, activation, width):
    state = random_state(preact_shapes(width))
    backbone = build("preact_resnet18", width, activation)
    load_weights(backbone, save(tmp_path, state))
    images = torch.rand(3, 3, 32, 32, dtype=torch.float64)
    expected = preact_logits(double(state), images, getattr(F, activation))
    assert expected.std() > 0.1
    torch.testing.assert_close(backbone.double()(images), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("depth", "blocks"), [(28, 4), (34, 5)])
@pytest.mark.parametrize("width", [32, 16])  # 16 is the stem's width: no shortcut in group 0
def test_wide_resnet_gives_the_same_logits(tmp_path, depth, blocks, width):
    state = random_state(wide_shapes(width, blocks))
    backbone = build(f"wide_resnet{depth}", width)
    load_weights(backbone, save(tmp_path, state))
    images = torch.rand(3, 3, 32, 32, dtype=torch.float64)
    expected = wide_logits(double(state), images, F.silu, blocks)
    assert expected.std() > 0.1
    torch.testing.assert_close(backbone.double()(images), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("nest", ["model_state_dict", "state_dict", None])
@pytest.mark.parametrize("prefix", ["module.", "module.0.", "model.", ""])
def test_wrappers_are_seen_through(tmp_path, nest, prefix):
    state = random_state(preact_shapes(4))
    wrapped = {prefix + key: value for key, value in state.items()}
    wrapped["n_averaged"] = torch.tensor(3)
    content = {nest: wrapped, "epoch": 3} if nest else wrapped
    backbone = build("preact_resnet18", 4)
    load_weights(backbone, save(tmp_path, content))
    torch.testing.assert_close(backbone.head.weight, state["logits.weight"])
    torch.testing.assert_close(backbone.std.flatten(), state["std"].flatten())


def test_missing_batch_counters_are_no_fault(tmp_path):
    state = random_state(preact_shapes(4))
    state = {key: value for key, value in state.items() if "num_batches" not in key}
    load_weights(build("preact_resnet18", 4), save(tmp_path, state))


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_own_weights_round_trip(tmp_path, prefix):
    source, target = build("wide_resnet28", 8), build("wide_resnet28", 8)
    path = tmp_path / "model.safetensors"
    state = {prefix + key: value for key, value in source.state_dict().items()}
    if prefix:
        state["discriminator.weight"] = torch.zeros(1)
    save_file(state, path)
    load_weights(target, path)
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(target(images), source(images))


def test_another_architecture_names_file_and_entries(tmp_path):
    path = save(tmp_path, random_state(wide_shapes(8, 4)))
    with pytest.raises(UserError, match=r"weights\.pt: .*lacks groups\.") as caught:
        load_weights(build("preact_resnet18", 8), path)
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)


def test_another_class_count_names_both(tmp_path):
    path = save(tmp_path, random_state(preact_shapes(4)))
    with pytest.raises(UserError, match=r"its head \(head\) tells apart 10 classes.*data has 7"):
        load_weights(build("preact_resnet18", 4, classes=7), path)


def test_a_failed_load_leaves_the_backbone_alone(tmp_path):
    backbone = build("preact_resnet18", 8)
    before = backbone.stem[0].weight.clone()
    with pytest.raises(UserError):
        load_weights(backbone, save(tmp_path, random_state(preact_shapes(4))))
    assert torch.equal(backbone.stem[0].weight, before)
