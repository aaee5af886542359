"""Foreign detectors: pytorch-ood's as they are, any module or callable, and clear refusals."""

from __future__ import annotations

import copy

import pytest
import torch
from making import line_of
from torch import nn

from atd.detectors.base import Detector
from atd.detectors.external import External
from atd.errors import UserError
from atd.evaluation.cache import fingerprint

SHAPE = {"image_size": 8, "channels": 3}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 4)).eval()


@pytest.fixture(scope="module")
def images():
    return torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def fitted(kind, network, images):
    from pytorch_ood import detector as them

    pairs = torch.utils.data.TensorDataset(images, torch.arange(len(images)) % 4)
    loader = torch.utils.data.DataLoader(pairs, batch_size=4)
    match kind:
        case "energy":
            return them.EnergyBased(network, t=2.0)
        case "odin":
            return them.ODIN(network)
        case "mahalanobis":
            return them.Mahalanobis(network[:5]).fit(loader)
        case "knn":
            return them.KNN(network[:5], k=3).fit(loader)
        case "openmax":
            return them.OpenMax(network).fit(loader)
        case "vim":
            weight, bias = network[5].weight.detach(), network[5].bias.detach()
            return them.ViM(network[:5], d=4, w=weight, b=bias).fit(loader)


@pytest.mark.parametrize("kind", ["energy", "odin", "mahalanobis", "knn", "openmax", "vim"])
def test_fitted_detectors_of_pytorch_ood_go_in_as_they_are(kind, network, images):
    theirs = fitted(kind, network, images)
    ours = External(theirs, **SHAPE)
    expected = theirs.predict(images).float()
    assert torch.equal(ours.score(images), expected)
    with torch.inference_mode():
        assert torch.equal(ours.score(images), expected)
    double = copy.deepcopy(ours).double()
    torch.testing.assert_close(double(images.double()).float(), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(ours.score(images), expected)
    assert ours.config.name == type(theirs).__name__


def test_fingerprints_cover_what_an_object_holds(network, images):
    from pytorch_ood.detector import EnergyBased

    cold, hot = (External(EnergyBased(network, t=t), **SHAPE) for t in (1.0, 1000.0))
    again = External(EnergyBased(network, t=1.0), **SHAPE)
    assert fingerprint(cold) != fingerprint(hot)
    assert fingerprint(cold) == fingerprint(again)
    two, three, again = (External(scaled_by(scale), **SHAPE) for scale in (2.0, 3.0, 2.0))
    assert fingerprint(two) != fingerprint(three)
    assert fingerprint(two) == fingerprint(again)


def scaled_by(scale):
    return lambda images: scale * images.mean((1, 2, 3))


class VGG(nn.Module):
    """Has attributes that other houses guess by, and means something else by them."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.logits = nn.Linear(4, 1)
        self.backbone = "none"
        self.surrogate = nn.Identity()

    def forward(self, images):
        return self.logits(self.features(images).mean((2, 3))).flatten()


def test_names_of_attributes_mean_nothing(images):
    module = VGG().eval()
    ours = External(module, **SHAPE)
    assert torch.equal(ours.logits(images), module(images))
    assert ours.features(images).shape == (12, 3 * 8 * 8)
    assert torch.equal(ours.surrogate(images), module(images))


def test_networks_behind_a_helper_function_stay_in_float32(network, images):
    def logits(given):
        return network(2 * given - 1)

    def score(given):
        return -torch.logsumexp(logits(given), dim=1)

    double = copy.deepcopy(External(score, **SHAPE)).double()
    found = double(images.double())
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.float(), score(images))


def test_training_mode_is_neither_used_nor_changed(images):
    module = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(192, 1), nn.Flatten(0))
    before = {key: value.clone() for key, value in module.state_dict().items()}
    scores = External(module, **SHAPE).score(images)
    assert module.training
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert torch.equal(scores, copy.deepcopy(module).eval()(images).detach())


class Object:
    def __init__(self, result):
        self.result = result

    def __call__(self, images):
        return self.result(images)


REFUSED = {
    "one column": (lambda x: x.mean((1, 2, 3))[:, None], "(1, 1)"),
    "classes": (lambda x: x.mean((2, 3)), "(1, 3)"),
    "one number": (lambda x: x.mean(), "()"),
    "squeezed": (lambda x: x.mean((1, 2, 3)).squeeze(), "()"),
    "integers": (lambda x: x.mean((1, 2, 3)).long(), "int64"),
    "flags": (lambda x: x.mean((1, 2, 3)) > 0.5, "bool"),
    "NaN": (lambda x: x.mean((1, 2, 3)) * float("nan"), "not finite"),
    "array": (lambda x: x.mean((1, 2, 3)).numpy(), "ndarray"),
    "tuple": (lambda x: (x.mean((1, 2, 3)),), "tuple"),
    "fails": (lambda x: x @ x[:, :1, :2], "RuntimeError"),
    "wants one channel": (nn.Conv2d(1, 1, 3), "RuntimeError"),
    "object": (Object(lambda x: x.sum((2, 3))), "(1, 3)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_gives_no_score_is_refused_in_one_line(case):
    module, words = REFUSED[case]
    with pytest.raises(UserError) as error:
        External(module, name="mine", **SHAPE)
    assert line_of(error).startswith("mine ")
    assert words in line_of(error)


@pytest.mark.parametrize("module", [3, "net", nn.Linear, None])
def test_what_cannot_be_called_is_refused(module):
    with pytest.raises(UserError, match="not a module or a callable"):
        External(module, **SHAPE)


def test_it_cannot_be_saved(tmp_path, network):
    ours = External(nn.Sequential(network, nn.Linear(4, 1), nn.Flatten(0)).eval(), **SHAPE)
    with pytest.raises(UserError, match="export"):
        ours.save_pretrained(tmp_path / "detector")
    assert not (tmp_path / "detector").exists()
    assert isinstance(ours, Detector)


class Scorer:
    def __init__(self, network):
        self.parts = {"network": network, "shift": torch.tensor(1.0)}

    def score(self, images):
        return self.parts["shift"] - self.parts["network"](images).amax(1)


seen_by_name = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))


def made(form, network):
    """The same score in the forms that people write, with the network that each looks at."""
    items = network
    match form:
        case "closure":
            return lambda images: 1 - items(images).amax(1)
        case "global":
            return lambda images: 1 - seen_by_name(images).amax(1)
        case "method":
            return Scorer(network).score
        case "method of a module":
            return nn.Sequential(network, Largest()).forward


class Largest(nn.Module):
    def forward(self, logits):
        return 1 - logits.amax(1)


@pytest.mark.parametrize("form", ["closure", "global", "method", "method of a module"])
def test_what_a_callable_sees_is_copied_and_moved_with_it(form, network, images):
    torch.manual_seed(0)
    used = seen_by_name if form == "global" else network
    ours = External(made(form, network), **SHAPE)
    expected = (1 - used(images).amax(1)).detach()
    torch.testing.assert_close(ours.score(images), expected)
    double = copy.deepcopy(ours).double()
    assert double(images.double()).dtype == torch.float64
    torch.testing.assert_close(double(images.double()).detach().float(), expected)
    assert next(used.parameters()).dtype == torch.float32
    assert torch.equal(ours.score(images), ours.score(images))
    other = copy.deepcopy(ours)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.5)
    assert not torch.equal(other.score(images), ours.score(images))
    torch.testing.assert_close(ours.score(images), expected)
    assert fingerprint(other) != fingerprint(ours)
