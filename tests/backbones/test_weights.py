"""Weight files as people have them."""

from __future__ import annotations

import json
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from weight_files import IMAGES, build, prefixed, refused, trained, written

from atd.backbones import build_backbone
from atd.backbones.weights import adopted, load_weights
from atd.config import BackboneConfig
from atd.errors import UserError

TIMM = "timm is an optional dependency: pip install timm"


WRAPPINGS = ("", "module.", "model.", "_orig_mod.", "backbone.", "net.", "module._orig_mod.model.")


@pytest.mark.parametrize("name", ["weights.pt", "weights.pth", "weights.safetensors", "weights"])
@pytest.mark.parametrize("prefix", WRAPPINGS)
def test_prefixes(tmp_path, prefix, name):
    model, backbone = trained(), build()
    loaded = load_weights(backbone, written(tmp_path, prefixed(prefix, model.state_dict()), name))
    assert torch.equal(backbone(IMAGES), model(IMAGES))
    assert loaded.head


@pytest.mark.parametrize(
    "nest",
    ["state_dict", "model", "model_state_dict", "net", "ema", "network.weights", "anything"],
)
def test_nesting_with_optimizer_state_beside_it(tmp_path, nest):
    model, backbone = trained(), build()
    optimizer = torch.optim.Adam(model.parameters())
    model(IMAGES).sum().backward()
    optimizer.step()
    content = prefixed("module.", model.state_dict())
    for key in reversed(nest.split(".")):
        content = {key: content}
    content |= {"optimizer": optimizer.state_dict(), "epoch": 3, "args": {"lr": 0.1}, "best": 0.9}
    load_weights(backbone, written(tmp_path, content))
    assert torch.equal(backbone(IMAGES), model(IMAGES))


def test_half_precision_is_widened(tmp_path):
    model, backbone = trained(), build()
    load_weights(backbone, written(tmp_path, trained().half().state_dict()))
    torch.testing.assert_close(backbone(IMAGES), model(IMAGES), atol=1e-2, rtol=1e-2)
    assert backbone(IMAGES).dtype == torch.float32


def test_averaged_weights_are_preferred_and_said_so(tmp_path):
    raw, average, backbone = trained(seed=3), trained(seed=4), build()
    content = {"state_dict": raw.state_dict(), "state_dict_ema": average.state_dict()}
    loaded = load_weights(backbone, written(tmp_path, content))
    assert torch.equal(backbone(IMAGES), average(IMAGES))
    assert "under state_dict_ema are taken, not those under state_dict" in " ".join(loaded.notices)


def test_two_different_networks_are_never_guessed_between(tmp_path):
    one, other = trained(seed=3).state_dict(), trained(seed=4).state_dict()
    beside = prefixed("student.", one) | prefixed("teacher.", other)
    message = refused(written(tmp_path, beside))
    assert "several networks of this architecture, under student and teacher" in message
    twice = prefixed("module.model.", one) | prefixed("module.attacker.model.", one)
    load_weights(build(), written(tmp_path, twice))  # the robustness library stores it twice


@pytest.mark.parametrize(
    ("mean", "std", "shape"),
    [
        ("mean", "std", (3,)),
        ("mu", "sigma", (1, 3, 1, 1)),
        ("normalize.mean", "normalize.std", (3, 1, 1)),
        ("0.mean", "0.std", (1, 3, 1, 1)),
        ("module.normalizer.new_mean", "module.normalizer.new_std", (3, 1, 1)),
        ("norm_layer.mu", "norm_layer.sigma", (3,)),
    ],
)
def test_normalisation_inside(tmp_path, mean, std, shape):
    model, backbone = trained(), build()
    mu, sigma = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.4, 0.5, 0.6])
    statistics = {mean: mu.view(shape), std: sigma.view(shape)}
    content = prefixed("module.model.", model.state_dict()) | statistics
    loaded = load_weights(backbone, written(tmp_path, content))
    normalised = (IMAGES - mu.view(3, 1, 1)) / sigma.view(3, 1, 1)
    torch.testing.assert_close(backbone(IMAGES), model(normalised))
    assert loaded.notices == []


def test_normalisation_of_one_number_and_from_0_to_255(tmp_path):
    model = trained()
    content = model.state_dict() | {"mean": torch.tensor(127.5), "std": torch.tensor(51.0)}
    backbone = build()
    loaded = load_weights(backbone, written(tmp_path, content))
    torch.testing.assert_close(backbone(IMAGES), model((IMAGES - 0.5) / 0.2))
    assert "is for values from 0 to 255" in loaded.notices[0]


def test_normalisation_of_the_config_is_kept(tmp_path):
    model = trained()
    content = model.state_dict() | {"mean": torch.zeros(3), "std": torch.ones(3)}
    backbone = build(mean=[0.5], std=[0.2])
    load_weights(backbone, written(tmp_path, content), keep_normalisation=True)
    torch.testing.assert_close(backbone(IMAGES), model((IMAGES - 0.5) / 0.2))


def test_normalisation_that_is_nowhere_is_told(tmp_path):
    backbone = build("preact_resnet18", width=4)
    state = backbone.state_dict()
    del state["mean"], state["std"]
    loaded = load_weights(backbone, written(tmp_path, state))
    (notice,) = loaded.notices
    assert "no normalisation is stored" in notice
    assert "those of the ID images: mean [0.5, 0.5, 0.5] and std [0.25, 0.25, 0.25]" in notice


def test_contradictory_or_impossible_normalisation(tmp_path):
    state = trained().state_dict()
    several = state | {"a.mean": torch.zeros(3), "b.mean": torch.ones(3), "a.std": torch.ones(3)}
    assert "several normalisations" in refused(written(tmp_path, several))
    zero = state | {"mean": torch.zeros(3), "std": torch.tensor([1.0, 0.0, 1.0])}
    assert "normalisation divides by 0" in refused(written(tmp_path, zero))


class Normalise(nn.Module):
    """What RobustBench puts before its ImageNet models."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, images):
        return (images - self.mean) / self.std


def robustbench_resnet18(classes):
    from torchvision import models

    torch.manual_seed(5)
    model = models.resnet18(num_classes=classes)
    return nn.Sequential(OrderedDict([("normalize", Normalise()), ("model", model)])).eval()


@pytest.mark.parametrize("nest", [None, "state_dict"])
def test_robustbench_s_imagenet_resnet18(tmp_path, nest):
    theirs = robustbench_resnet18(1000)
    state = prefixed("module." if nest else "", theirs.state_dict())
    path = written(tmp_path, {nest: state, "epoch": 90} if nest else state)
    backbone = build("torchvision:resnet18", classes=1000)
    loaded = load_weights(backbone, path)
    assert loaded.head
    assert loaded.notices == []
    torch.testing.assert_close(backbone(IMAGES), theirs(IMAGES))
    for few in (build("torchvision:resnet18"), build("timm:resnet18")):
        loaded = load_weights(few, path, needs_head=False)
        assert not loaded.head
        (notice,) = loaded.notices
        assert "tells apart 1000 classes, but the ID data has 5: it is left out" in notice
        torch.testing.assert_close(few.embed(IMAGES), backbone.embed(IMAGES))
        assert torch.equal(few(IMAGES), torch.zeros(2, 5))


def test_plain_torchvision_weights_get_the_usual_normalisation_and_it_is_told(tmp_path):
    theirs = robustbench_resnet18(5)
    backbone = build("torchvision:resnet18")
    loaded = load_weights(backbone, written(tmp_path, theirs.model.state_dict()))
    torch.testing.assert_close(backbone(IMAGES), theirs(IMAGES))
    assert "usual for this network: mean [0.485, 0.456, 0.406]" in loaded.notices[0]


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet"])
def test_timm_s_own_state_dict(tmp_path, name):
    timm = pytest.importorskip("timm", reason=TIMM)
    torch.manual_seed(5)
    options = {"img_size": 32} if "vit" in name else {}
    theirs = timm.create_model(name, num_classes=5, **options).eval()
    backbone = build(f"timm:{name}")
    loaded = load_weights(backbone, written(tmp_path, theirs.state_dict()))
    mean, std = (torch.tensor(theirs.default_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    torch.testing.assert_close(backbone(IMAGES), theirs((IMAGES - mean) / std))
    assert loaded.head
    assert "usual for this network" in loaded.notices[0]


def test_a_head_with_other_classes(tmp_path):
    path = written(tmp_path, trained(10).state_dict())
    message = refused(path)
    assert "its head (out) tells apart 10 classes, but the ID data has 5" in message
    assert "reads class logits" in message
    backbone = build()
    loaded = load_weights(backbone, path, needs_head=False)
    assert not loaded.head
    assert "all class logits of this backbone are zero" in loaded.notices[0]
    model = trained(10)
    torch.testing.assert_close(backbone.embed(IMAGES), model.deep(model.trunk(IMAGES)).mean((2, 3)))
    assert torch.equal(backbone(IMAGES), torch.zeros(2, 5))


@pytest.mark.parametrize("other", [{}, {"out.1.weight": torch.zeros(7, 8)}])
def test_a_head_that_is_missing_or_of_another_form(tmp_path, other):
    state = {k: v for k, v in trained().state_dict().items() if not k.startswith("out.")} | other
    path = written(tmp_path, state)
    assert "its head (out) is not in the file" in refused(path)
    assert not load_weights(build(), path, needs_head=False).head


def test_what_is_not_used_is_named(tmp_path):
    state = prefixed("backbone.", trained().state_dict())
    state |= {"discriminator.weight": torch.zeros(3), "n_averaged": torch.tensor(3)}
    (notice,) = load_weights(build(), written(tmp_path, state)).notices
    assert "1 tensors beside the network's are not used: discriminator.weight" in notice


@pytest.mark.parametrize("format", [1, 2])
def test_the_folder_of_a_detector(tmp_path, format):
    source = build("preact_resnet18", width=4, activation="relu", stem_stride=2)
    folder = tmp_path / "detector"
    folder.mkdir()
    options = {"architecture": "preact_resnet18", "width": 4, "activation": "relu"}
    description = {"format": format, "backbone": {**options, "stem_stride": 2}, "image_size": 16}
    (folder / "config.json").write_text(json.dumps(description))
    state = prefixed("backbone.", source.state_dict()) | {"feature_mean": torch.zeros(4)}
    save_file(state, folder / "model.safetensors")
    given = BackboneConfig(weights=str(folder), features="last")
    config = adopted(given, image_size=32)
    assert (config.architecture, config.width, config.activation) == ("preact_resnet18", 4, "relu")
    assert (config.stem_stride, config.features) == (2, "last")
    backbone = build_backbone(config, channels=3, classes=5, image_size=32).eval()
    loaded = load_weights(backbone, folder)
    assert torch.equal(backbone(IMAGES), source(IMAGES))
    assert loaded.notices == []
    assert f"did you mean {folder}?" in refused(tmp_path)
    (folder / "config.json").write_text(json.dumps({**description, "weights_sha256": 64 * "0"}))
    assert "its SHA-256 is not the one in config.json" in refused(folder)
    (folder / "config.json").write_text(json.dumps({**description, "backbone": None}))
    assert "has no backbone" in refused(folder)
    (folder / "config.json").write_text(json.dumps({**description, "backbone": {"width": "4"}}))
    with pytest.raises(UserError, match=r"config.json: .*width"):
        adopted(given, image_size=32)


@pytest.mark.parametrize("file", ["", "model.safetensors"])
@pytest.mark.parametrize(
    ("kind", "finetune", "fits"),
    [("atd", True, False), ("atd", False, True), ("mahalanobis", True, True)],
)
def test_fine_tuning_leaves_the_head_behind(tmp_path, file, kind, finetune, fits):
    source = build("preact_resnet18", width=4)
    backbone = {"architecture": "preact_resnet18", "width": 4}
    training = {"atd": {"finetune": finetune}}
    description = {"format": 2, "kind": kind, "backbone": backbone, "training": training}
    (tmp_path / "config.json").write_text(json.dumps(description))
    save_file(prefixed("backbone.", source.state_dict()), tmp_path / "model.safetensors")
    found = build("preact_resnet18", width=4)
    loaded = load_weights(found, tmp_path / file, needs_head=False)
    assert loaded.head == fits
    assert torch.equal(found.embed(IMAGES), source.embed(IMAGES))
    assert torch.equal(found(IMAGES), source(IMAGES) if fits else torch.zeros(2, 5))
    assert len(loaded.notices) == (not fits)
    if not fits:
        assert "its head (head) was not trained further when ATD fine-tuned" in loaded.notices[0]
        message = refused(tmp_path / file, build("preact_resnet18", width=4))
        assert "atd.finetune" in message
        assert "reads class logits" in message


def test_a_stem_that_follows_the_image_size_stays_the_detector_s(tmp_path):
    folder = tmp_path / "detector"
    folder.mkdir()
    (folder / "model.safetensors").touch()
    for size, stride in ((32, 1), (96, 0), (224, 4)):
        text = json.dumps({"format": 2, "backbone": {"width": 4}, "image_size": size})
        (folder / "config.json").write_text(text)
        assert adopted(BackboneConfig(weights=str(folder)), 96).stem_stride == stride


MISFITS = [
    ("preact_resnet18 of width 4", {"width": 4}, {"width": 8}, "preact_resnet18 backbone.width=8"),
    (
        "preact_resnet18 of width 4",
        {"width": 4},
        {"architecture": "wide_resnet28", "width": 4},
        "wide_resnet28 backbone.width=4",
    ),
    (
        "import:nets:small",
        {"architecture": "import:nets:small"},
        {"architecture": "torchvision:resnet18"},
        "torchvision:resnet18; choose that as backbone.architecture",
    ),
    (
        "torchvision:resnet18",
        {"architecture": "torchvision:resnet18"},
        {"architecture": "timm:test_vit"},
        "timm:vit_SIZE_patch16_224",
    ),
    (
        "torchvision:resnet18",
        {"architecture": "torchvision:resnet18"},
        {"channels": 1, "architecture": "torchvision:resnet18"},
        "trained on images of 1 channels, these have 3; set data.channels=1",
    ),
    (
        "timm:test_vit",
        {"architecture": "timm:test_vit"},
        {"architecture": "timm:test_vit", "size": 64},
        "made for images of another size; set data.image_size=64",
    ),
]


@pytest.mark.parametrize(("title", "wanted", "given", "reason"), MISFITS)
def test_a_misfit_names_entries_and_the_likely_reason(tmp_path, title, wanted, given, reason):
    if "timm:" in f"{wanted}{given}":
        pytest.importorskip("timm", reason=TIMM)
    defaults = {"architecture": "preact_resnet18"}
    state = build(**{**defaults, **given}).state_dict()
    path = written(tmp_path, prefixed("module.", state))
    message = refused(path, build(**{**defaults, **wanted}), needs_head=False)
    assert f"does not fit {title}" in message
    assert any(word in message for word in (": lacks ", ": has ", ": shape: "))
    assert reason in message


def test_a_network_with_more_layers_is_not_taken_for_this_one(tmp_path):
    state = trained().state_dict() | {"extra.weight": torch.zeros(2)}
    message = refused(written(tmp_path, state))
    assert "has extra.weight; it is another variant of this network" in message
