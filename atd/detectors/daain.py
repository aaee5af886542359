"""DAAIN: a normalizing flow over activations that a secret key samples."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from atd.backbones.base import Backbone
from atd.config.ranges import LearningRate, Range
from atd.config.values import settle
from atd.detectors.base import Detector, DetectorInfo
from atd.detectors.blue_noise import blue_noise, radius_for
from atd.detectors.fitting import FitData, collect
from atd.detectors.flow import Flow, flow_loss, require_zuko
from atd.detectors.flow_training import FlowTraining, train_flow
from atd.detectors.histogram import Histogram
from atd.detectors.sampling_key import layer_maps, places_of, read
from atd.errors import UserError
from atd.inference import frozen

__all__ = ["DAAIN", "DAAINOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DAAINOptions:
    """Options of DAAIN."""

    head: Literal["nll", "euclidean", "histogram"] = "nll"
    """`nll`: negative log likelihood per dimension; `euclidean`: mean square of the flow's
    output; `histogram`: histograms of the output (HBOS)."""
    points: Annotated[int, Range(2, 20_000)] = 512
    """About how many points the key has, where no radius is given."""
    radius: Annotated[float, Range(1, 10_000)] | None = None
    """Smallest distance between two points of the key, in channels and pixels alike."""
    key_seed: Annotated[int, Range(0, 2**63 - 1)] = 42
    """The secret: whoever knows it and the backbone knows the key."""
    blocks: Annotated[int, Range(1, 16)] = 8
    hidden: Annotated[int, Range(1, 4096)] = 64
    epochs: Annotated[int, Range(1, 10_000)] = 60
    lr: LearningRate = 1e-3
    bins: Annotated[int, Range(2, 1000)] = 40

    def __post_init__(self) -> None:
        settle(self, "detector")


class DAAIN(Detector):
    """Scores an image by how unlikely its activations are, at a key's points.

    The activations of all layers form a volume, see `atd.detectors.sampling_key`; the key is
    blue noise in it, drawn once and saved. What it reads is standardised and given to a flow that
    was fitted to ID images. Unlike in the released code the gradient reaches the image, points
    that read the same value of a small map count once, and the flow is fitted with a little noise.
    All activations of a pass are held: eight images of 224 pixels in a ResNet-50 take 2.4 GB, and
    3.0 GB with their gradient.
    """

    kind = "daain"
    Options = DAAINOptions
    info = DetectorInfo(
        title="DAAIN",
        paper="von Baußnern et al., 2021, arXiv:2105.14638",
        needs=frozenset({"fitting"}),
        any_network=True,
    )

    backbone: Backbone
    options: DAAINOptions
    key: Tensor
    places: Tensor
    volume: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(self, backbone: nn.Module, options: DAAINOptions | None = None, **of: Any) -> None:
        require_zuko()
        # Unlike other kinds it reads any module, e.g. one that gives a class for each pixel.
        super().__init__(backbone, options, **of)  # type: ignore[arg-type]
        if self.options.head == "histogram":
            of_this_head = dataclasses.replace(self.info, gradient="surrogate")
            self.info = of_this_head  # type: ignore[misc]
        self.register_buffer("key", torch.zeros(0, 3, dtype=torch.int64))
        self.register_buffer("places", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("volume", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("centre", torch.zeros(0))
        self.register_buffer("spread", torch.zeros(0))
        self.flow = Flow()
        self.histogram = Histogram()

    def forward(self, images: Tensor) -> Tensor:
        """Scores (N,) of float images (N, C, H, W) in [0, 1]; larger = more OOD."""
        transformed, log_determinant = self.flow(self.features(images))
        match self.options.head:
            case "nll":
                return flow_loss(transformed, log_determinant)
            case "euclidean":
                return transformed.square().mean(dim=1)
            case "histogram":
                return self.histogram(transformed)

    def surrogate(self, images: Tensor) -> Tensor:
        """The score; for the histogram, with costs interpolated between the middles of bins."""
        if self.options.head != "histogram":
            return self.logits(images)
        self.require_fitted()
        return self.histogram.soft(self.flow(self.features(images))[0])

    def features(self, images: Tensor) -> Tensor:
        """What the key reads, standardised (N, D)."""
        return (self._read(images) - self.centre) / self.spread

    @torch.no_grad()
    def score_map(self, images: Tensor) -> Tensor:
        """Where an image is unlikely (N, H, W), for networks whose maps show where things are.

        Squares of what the flow makes of the values read, averaged around the points that read
        them by a normal distribution of an eighth of the image. It is for looking at and has no
        threshold; the likelihood of the whole image is not its mean.

        Args:
            images: Float images (N, C, H, W) in [0, 1].
        """
        self.require_fitted()
        maps = layer_maps(self.backbone, images)
        squares = self.flow(self.features(images))[0].square()
        size = self.config.image_size
        # A layer of the flow leaves every dimension in its place.
        places = places_of(self.key.cpu(), _shapes(maps), size).to(self.places.device)
        reads = torch.searchsorted(self.places, places)
        grid = torch.arange(size, device=self.device)
        near = [
            torch.exp(-((self.key[:, axis, None] - grid) ** 2) / (2 * (size / 8) ** 2))
            for axis in (1, 2)
        ]
        weights = (near[0][:, :, None] * near[1][:, None, :]).flatten(1).to(squares.dtype)
        return (squares[:, reads] @ weights / weights.sum(0)).unflatten(1, (size, size))

    def _read(self, images: Tensor) -> Tensor:
        maps = layer_maps(self.backbone, images)
        if not torch.compiler.is_compiling():
            found, known = sum(math.prod(value.shape[1:]) for value in maps), int(self.volume)
            if found != known:
                raise UserError(
                    f"detector {self.config.name}: its key is of a network with {known} "
                    f"activations, this one has {found}; fit it to this network"
                )
        return read(maps, self.places)

    def fit(self, data: FitData, *, seed: int) -> DAAIN:
        """Draws the key, and fits standardisation, flow and histograms to ID images.

        Args:
            data: The images; neither labels nor outliers are looked at.
            seed: Of the flow's weights and the order of its training; the key has its own.

        Returns:
            The detector itself.

        Raises:
            UserError: There are too few images, the radius leaves no two values to read, all
                values read are the same for all images, or the flow diverges at once.
        """
        options = self.options
        with frozen(self.backbone):
            self._draw_key()
            values = collect(self._read, data.id)[0]
        deviation = values.std(dim=0, correction=0)
        if not deviation.any():
            raise UserError(
                "kind daain: the network gives all ID images the same activations: it is dead, or "
                "the images are all the same"
            )
        self.centre = values.mean(dim=0).float().to(self.device)
        # What never changes is divided by something that could be a deviation of this network.
        self.spread = deviation.clamp_min(1e-2 * deviation.mean()).float().to(self.device)
        known = (values.float().to(self.device) - self.centre) / self.spread
        self.flow.to(self.device).reset(
            known.shape[1], layers=options.blocks, hidden=options.hidden, seed=seed
        )
        train_flow(self.flow, known, FlowTraining(epochs=options.epochs, lr=options.lr, seed=seed))
        with torch.no_grad():
            self.histogram.fit(self.flow(known)[0], options.bins)
        return self

    @torch.no_grad()
    def _draw_key(self) -> None:
        channels, size = self.config.channels, self.config.image_size
        grey = torch.full((1, channels, size, size), 0.5, device=self.device, dtype=self._dtype())
        maps = layer_maps(self.backbone, grey)
        shapes = _shapes(maps)
        box = (sum(shape[0] for shape in shapes), size, size)
        radius = self.options.radius or radius_for(box, self.options.points)
        key = torch.from_numpy(blue_noise(box, radius, self.options.key_seed))
        places = places_of(key, shapes, size).unique()
        if len(places) < 2:
            raise UserError(
                f"detector.radius={radius:g} leaves {len(places)} of {box[0]} x {size} x {size} "
                "activations to read; lower it"
            )
        self.key, self.places = key.to(self.device), places.to(self.device)
        self.volume = torch.tensor([sum(math.prod(m.shape[1:]) for m in maps)], device=self.device)

    def check(self, file: Path) -> None:
        """Refuses a key or a flow that no fit gives.

        Args:
            file: Where they were read from, for messages.

        Raises:
            UserError: Places outside of the activations, or deviations that are not positive.
        """
        inside = (self.places >= 0).all() and (self.places < self.volume.max()).all()
        inside = inside and (self.places.diff() > 0).all()
        size = len(self.places)
        halves = self.flow.order.sort(dim=1).values == torch.arange(size).to(self.flow.order)
        if not (inside and self.volume.shape == (1,) and (self.spread > 0).all()):
            raise UserError(f"{file}: damaged: the key or the deviations are none of a fit")
        if self.flow.order.shape[1] != size or not halves.all():
            raise UserError(f"{file}: damaged: the flow's order is no order of its dimensions")


def _shapes(maps: list[Tensor]) -> list[tuple[int, int, int]]:
    return [(int(m.shape[1]), int(m.shape[2]), int(m.shape[3])) for m in maps]
