from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from atd.detectors.baselines import BASELINES, build_baseline
from atd.errors import UserError

CLASSES, SIZE = 3, 8


class Stripes(nn.Module):
    """Embeds an image by the brightness of its columns; class k is a bright column k."""

    def __init__(self) -> None:
        super().__init__()
        self.classes, self.embedding_dim = CLASSES, SIZE
        self.head = nn.Linear(SIZE, CLASSES, bias=False)
        with torch.no_grad():
            self.head.weight.copy_(8 * torch.eye(CLASSES, SIZE))

    def embed(self, images: Tensor) -> Tensor:
        return images.mean(dim=(1, 2))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.embed(images))


def known(count: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    images = 0.1 * torch.rand(count, 3, SIZE, SIZE, generator=generator)
    images[torch.arange(count), :, :, labels] += 0.7
    return images, labels


def unknown(count: int, seed: int) -> Tensor:
    """Bright in columns that no class uses."""
    generator = torch.Generator().manual_seed(seed)
    images = 0.1 * torch.rand(count, 3, SIZE, SIZE, generator=generator)
    images[..., CLASSES:] += 0.3
    return images


@pytest.fixture(params=BASELINES)
def baseline(request: pytest.FixtureRequest) -> nn.Module:
    images, labels = known(120, seed=0)
    batches = zip(images.split(50), labels.split(50), strict=True)
    return build_baseline(request.param, Stripes(), batches)


def test_one_score_per_image(baseline: nn.Module) -> None:
    for count in (1, 2, 7):
        assert baseline.logits(known(count, seed=1)[0]).shape == (count,)


def test_unknown_images_score_higher(baseline: nn.Module) -> None:
    inside, outside = baseline.logits(known(60, seed=1)[0]), baseline.logits(unknown(60, seed=2))
    assert (outside.unsqueeze(1) > inside).float().mean() > 0.99


def test_every_image_has_a_gradient(baseline: nn.Module) -> None:
    images = torch.cat([known(9, seed=1)[0], unknown(9, seed=2)]).requires_grad_(True)
    (gradient,) = torch.autograd.grad(baseline.logits(images).sum(), images)
    assert gradient.isfinite().all()
    assert (gradient.flatten(1).abs().amax(1) > 0).all()


def test_score_does_not_depend_on_batch_mates(baseline: nn.Module) -> None:
    images = torch.cat([known(5, seed=1)[0], unknown(5, seed=2)])
    together = baseline.eval().logits(images)
    alone = torch.cat([baseline.logits(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_state_dict_round_trip(baseline: nn.Module, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.params["baseline"]
    other = build_baseline(name, Stripes(), [known(30, seed=9)])
    images = torch.cat([known(5, seed=1)[0], unknown(5, seed=2)])
    other.load_state_dict(baseline.state_dict())
    assert torch.equal(other.logits(images), baseline.logits(images))


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        UserError, match=r"evaluate\.baselines=nap: unknown; choose from msp, energy"
    ):
        build_baseline("nap", Stripes(), [])


def test_fitting_leaves_the_backbone_as_it_was() -> None:
    backbone = Stripes().train()
    build_baseline("mahalanobis", backbone, [known(30, seed=0)])
    assert backbone.training
    assert backbone.head.weight.requires_grad
