"""Data sets that torchvision knows, opened or downloaded by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from atd.config import DataConfig, Scale
from atd.data.decoding import UnreadableImage, decode
from atd.data.images import ImageSet, join
from atd.errors import UserError

if TYPE_CHECKING:
    from torchvision.datasets import VisionDataset

__all__ = ["TORCHVISION", "TorchvisionSource", "no_downloads", "torchvision_set"]


@dataclass(frozen=True)
class TorchvisionSource:
    """How a data set of torchvision is made.

    Attributes:
        kind: Name of the class in `torchvision.datasets`.
        train: Arguments for each piece of the training split.
        test: Arguments of the test split; None if the set has no splits.
        downloads: Whether torchvision can download it.
    """

    kind: str
    train: tuple[dict[str, Any], ...]
    test: dict[str, Any] | None
    downloads: bool = True


def _by_flag(kind: str, **more: str | bool) -> TorchvisionSource:
    return TorchvisionSource(kind, ({"train": True, **more},), {"train": False, **more})


def _by_split(kind: str, *train: str, test: str = "test", **more: str | bool) -> TorchvisionSource:
    pieces = tuple({"split": piece, **more} for piece in train or ("train",))
    return TorchvisionSource(kind, pieces, {"split": test, **more})


TORCHVISION: dict[str, TorchvisionSource] = {
    "cifar10": _by_flag("CIFAR10"),
    "cifar100": _by_flag("CIFAR100"),
    "svhn": _by_split("SVHN"),
    "mnist": _by_flag("MNIST"),
    "fashion_mnist": _by_flag("FashionMNIST"),
    "kmnist": _by_flag("KMNIST"),
    "emnist": _by_flag("EMNIST", split="letters"),
    "usps": _by_flag("USPS"),
    "omniglot": TorchvisionSource("Omniglot", ({"background": True},), {"background": False}),
    "stl10": _by_split("STL10"),
    "gtsrb": _by_split("GTSRB"),
    "food101": _by_split("Food101"),
    "places365": _by_split("Places365", "train-standard", test="val", small=True),
    "sun397": TorchvisionSource("SUN397", ({},), None),
    "flowers102": _by_split("Flowers102", "train", "val"),
    "dtd": _by_split("DTD", "train", "val"),
    "oxford_pets": _by_split("OxfordIIITPet", "trainval"),
    "fgvc_aircraft": _by_split("FGVCAircraft", "trainval"),
    "eurosat": TorchvisionSource("EuroSAT", ({},), None),
    "imagenet": TorchvisionSource(
        "ImageNet", ({"split": "train"},), {"split": "val"}, downloads=False
    ),
}
"""Sources by name. EMNIST is its letters; Places365 the small images, its test split `val`."""


def torchvision_set(
    name: str, split: Literal["train", "test", "all"], data: DataConfig
) -> ImageSet:
    """Opens a data set of torchvision under `data.root`, downloading it if it is not there.

    Args:
        name: A key of `TORCHVISION`.
        split: Which split; a set without splits is whole for any.
        data: Root folder, image size and channels.

    Returns:
        The images; they are decoded as those of any other source.

    Raises:
        UserError: Neither on disk nor downloadable.
    """
    source = TORCHVISION[name]
    pieces = list(source.train) if split != "test" or source.test is None else []
    if source.test is not None and split in ("test", "all"):
        pieces.append(source.test)
    parts = [_image_set(name, _open(name, source, piece, data), data) for piece in pieces]
    return join(parts, name)


class NotDownloaded(UserError):
    """A data set that could be downloaded, where nothing is downloaded."""


_downloads: ContextVar[bool] = ContextVar("downloads", default=True)


@contextmanager
def no_downloads() -> Iterator[None]:
    """Within it, data sets of torchvision that are not on disk are refused, not downloaded."""
    before = _downloads.set(False)
    try:
        yield
    finally:
        _downloads.reset(before)


def _open(
    name: str, source: TorchvisionSource, piece: dict[str, Any], data: DataConfig
) -> VisionDataset:
    import torchvision

    make = getattr(torchvision.datasets, source.kind)
    option = {"download": False} if source.downloads else {}
    try:
        return make(data.root, **piece, **option)
    except (RuntimeError, OSError) as error:
        reason: Exception = error
    if source.downloads and not _downloads.get():
        raise NotDownloaded(
            f"{name}: not found in data.root={data.root}, and nothing is downloaded on a record's "
            f"word; allow it with data.root={data.root} or --config"
        )
    if source.downloads:
        try:
            return make(data.root, **piece, download=True)
        except Exception as error:  # network, archive and disk errors of every kind
            reason = error
    action = "the download failed" if source.downloads else "it cannot be downloaded"
    text = (str(reason).splitlines() or [type(reason).__name__])[0][:120]
    raise UserError(
        f"{name}: not found in data.root={data.root} and {action} ({text}); put torchvision's "
        f"{source.kind} files there, or unpack the images and use folder:PATH"
    )


def _image_set(name: str, dataset: VisionDataset, data: DataConfig) -> ImageSet:
    pixels = _TorchvisionPixels(name, dataset, data.channels, data.image_size, data.scale)
    labels = _labels(dataset)
    classes = getattr(dataset, "classes", None)
    if labels is None:
        return ImageSet.of(name, pixels)
    used, dense = torch.unique(labels, return_inverse=True)
    named = [str(classes[label]) if classes else str(label) for label in used.tolist()]
    return ImageSet.of(name, pixels, dense, named)


def _labels(dataset: VisionDataset) -> Tensor | None:
    """The labels without decoding images; torchvision keeps them under several names."""
    for attribute in ("targets", "labels", "_labels"):
        values = getattr(dataset, attribute, None)
        if values is not None and len(values) == len(dataset):
            return torch.as_tensor(values, dtype=torch.int64)
    for attribute in ("_samples", "samples", "_flat_character_images"):
        pairs = getattr(dataset, attribute, None)
        if pairs is not None and len(pairs) == len(dataset):
            return torch.tensor([int(label) for _, label in pairs])
    return None


@dataclass(frozen=True, eq=False)
class _TorchvisionPixels:
    name: str
    dataset: VisionDataset
    channels: int
    size: int
    scale: Scale

    def __len__(self) -> int:
        return len(self.dataset)

    def fetch(self, rows: Sequence[int]) -> Tensor:
        return torch.stack([self._read(row) for row in rows])

    def _read(self, row: int) -> Tensor:
        try:
            return decode(self.dataset[row][0], self.channels, self.size, self.scale)
        except Exception as error:
            remedy = "delete the data set so that it is downloaded again"
            raise UnreadableImage(
                f"{self.name_of(row)}: not readable ({error}); {remedy}"
            ) from None

    def name_of(self, row: int) -> str:
        return f"{self.name} #{row}"
