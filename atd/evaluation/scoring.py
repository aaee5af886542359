"""Scores of a set of images, clean and at their worst within an L-infinity ball."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from atd.attacks.frozen import frozen
from atd.attacks.pgd import Attacked, fgsm, pgd
from atd.errors import UserError
from atd.evaluation import cache as score_cache
from atd.evaluation.metrics import Array

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Images", "Method", "ScoredSet", "attack_scores", "start_noise"]

Positions = np.ndarray[Any, np.dtype[np.int64]]
Method = Literal["pgd", "fgsm", "noise", "none"]

_EXAMPLES = 6


class Images(Protocol):
    """What is needed of an image set (`atd.data.images.ImageSet` has it)."""

    @property
    def name(self) -> str:
        """Name shown in tables and messages."""

    def __len__(self) -> int:
        """Number of images."""

    def fetch(self, indices: Tensor | Sequence[int]) -> Tensor:
        """Images (B, C, H, W) as uint8 on the CPU."""


@dataclass(frozen=True)
class ScoredSet:
    """Scores of one image set, in the set's order.

    Attributes:
        name: Name of the image set.
        direction: +1 where the attacker raised scores (ID), -1 where it lowered them (OOD).
        clean: Scores (N,) of the unchanged images, float64.
        attacked: Worst scores (N,) found; `clean` itself where no attack was asked for.
        zero_gradient: Whether (N,) the score's gradient at the unchanged image is exactly zero,
            so that a gradient attack has nothing to follow.
        example_index: Positions (E,) in the set of the few images kept for pictures.
        example_clean: Those images, uint8 (E, C, H, W).
        example_attacked: Their attacked versions, float32 in [0, 1].
    """

    name: str
    direction: int
    clean: Array
    attacked: Array
    zero_gradient: np.ndarray[Any, np.dtype[np.bool_]]
    example_index: Positions
    example_clean: np.ndarray[Any, np.dtype[np.uint8]]
    example_attacked: np.ndarray[Any, np.dtype[np.float32]]

    @property
    def zero_gradient_share(self) -> float:
        """Share of images whose input gradient is exactly zero."""
        return float(self.zero_gradient.mean())


def attack_scores(
    detector: nn.Module,
    images: Images,
    *,
    direction: Literal[1, -1],
    epsilon: float,
    steps: int = 100,
    restarts: int = 1,
    seed: int = 0,
    method: Method = "pgd",
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    accelerator: Accelerator | None = None,
    cache: Path | None = None,
    progress: bool = True,
) -> ScoredSet:
    """Scores every image of a set, unchanged and attacked end to end.

    The attack moves the raw logit itself, in float32. The attacked score is the worst over the
    unchanged image, every iterate and every restart. A sample's random start depends on the
    seed, the restart and its position in the set, so batch size and number of processes change
    the result by rounding only.

    Args:
        detector: Module with `logits(images) -> (N,)`, larger = more OOD.
        images: The image set.
        direction: +1 raises scores (for ID images), -1 lowers them (for OOD images).
        epsilon: Radius of the L-infinity ball on the [0, 1] scale.
        steps: Steps of PGD.
        restarts: Independent random starts of PGD, or draws of `noise`.
        seed: Seed of the random starts.
        method: `pgd`; `fgsm`, a single step; `noise`, random points of the ball; `none`.
        batch_size: Images per forward pass.
        device: Where the detector is; ignored when an accelerator is given.
        accelerator: Splits the images over its processes; every process gets the whole result.
        cache: Folder where finished sets are kept, so that the same call returns at once.
        progress: Shows a progress bar on the main process.

    Returns:
        The scores of the whole set, on every process.

    Raises:
        UserError: The set is empty, or a score is not finite or of the wrong shape.
    """
    if len(images) == 0:
        raise UserError(f"{images.name}: the set is empty; give it at least one image")
    worst = _Worst(detector, images, direction, epsilon, steps, restarts, seed, method)
    file = None if cache is None else score_cache.entry(cache, detector, images, worst.key)
    stored = _shared(score_cache.read(file), accelerator)
    if stored is None:
        rank = 0 if accelerator is None else accelerator.process_index
        world = 1 if accelerator is None else accelerator.num_processes
        kept = np.unique(np.linspace(0, len(images) - 1, _EXAMPLES).round().astype(np.int64))
        where = torch.device(device) if accelerator is None else accelerator.device
        mine = torch.arange(rank, len(images), world)
        chunks = [mine[at : at + batch_size] for at in range(0, len(mine), batch_size)]
        with frozen(detector), _full_precision():
            bars = _bar(chunks, images.name, show=progress and rank == 0)
            parts = [worst.batch(indices, where, kept) for indices in bars]
        stored = _merged(parts, accelerator)
        if file is not None and rank == 0:
            score_cache.write(file, stored)
    return ScoredSet(name=images.name, direction=direction, **stored)


@dataclass(frozen=True)
class _Worst:
    """The attack on one set, batch by batch."""

    detector: nn.Module
    images: Images
    direction: int
    epsilon: float
    steps: int
    restarts: int
    seed: int
    method: Method

    @property
    def key(self) -> str:
        """Everything but the detector and the images that the scores depend on."""
        numbers = (self.direction, self.epsilon, self.steps, self.restarts, self.seed)
        return " ".join(map(str, (self.method, *numbers)))

    def batch(self, indices: Tensor, device: torch.device, kept: Positions) -> dict[str, Any]:
        """Scores of the images at `indices`, and the pictures among them that are kept."""
        pixels = self.images.fetch(indices)
        clean_images = pixels.to(device).float().div_(255.0)
        values, zero_gradient = self._clean(clean_images)
        best = Attacked(clean_images, values)
        for restart in range(self._tries):
            best = _worse(best, self._try(clean_images, indices, restart))
        keep = torch.from_numpy(np.isin(indices.numpy(), kept))
        return {
            "index": indices.numpy(),
            "clean": (values * self.direction).cpu().double().numpy(),
            "attacked": (best.values * self.direction).cpu().double().numpy(),
            "zero_gradient": zero_gradient.cpu().numpy(),
            "example_index": indices[keep].numpy(),
            "example_clean": pixels[keep].numpy(),
            "example_attacked": best.images[keep.to(device)].cpu().numpy(),
        }

    @property
    def _tries(self) -> int:
        match self.method:
            case "none":
                return 0
            case "fgsm":
                return 1
            case _:
                return self.restarts

    def _objective(self, images: Tensor) -> Tensor:
        logits: Tensor = self.detector.logits(images)  # type: ignore[operator]
        return self.direction * logits

    def _clean(self, images: Tensor) -> tuple[Tensor, Tensor]:
        inputs = images.clone().requires_grad_(True)
        with torch.enable_grad():
            values = self._objective(inputs)
            self._check(values, len(images))
            (gradient,) = torch.autograd.grad(values.sum(), inputs)
        return values.detach().float(), gradient.flatten(1).eq(0).all(1)

    def _try(self, images: Tensor, indices: Tensor, restart: int) -> Attacked:
        if self.method == "fgsm":
            return fgsm(self._objective, images, epsilon=self.epsilon)
        noise = start_noise(images.shape[1:], indices, self.seed, restart).to(images.device)
        if self.method == "noise":
            moved = (images + self.epsilon * noise).clamp(0.0, 1.0)
            with torch.no_grad():
                return Attacked(moved, self._objective(moved))
        return pgd(self._objective, images, epsilon=self.epsilon, steps=self.steps, noise=noise)

    def _check(self, values: Tensor, count: int) -> None:
        if values.shape != (count,):
            shape = tuple(values.shape)
            raise UserError(f"{self.images.name}: logits has shape {shape}, it must be ({count},)")
        if not values.requires_grad:
            raise UserError(
                f"{self.images.name}: the detector's logits are not differentiable, so it cannot "
                "be attacked; compute them from the images without detach or no_grad"
            )
        if not values.isfinite().all():
            bad = int((~values.isfinite()).sum())
            raise UserError(
                f"{self.images.name}: {bad} of {count} scores of a batch are NaN or infinite; "
                "check the detector's weights"
            )


def start_noise(shape: Sequence[int], indices: Tensor, seed: int, restart: int) -> Tensor:
    """Uniform noise in [-1, 1], each sample's a function of (seed, restart, index) alone.

    Args:
        shape: Shape of one image, (C, H, W).
        indices: Positions (B,) of the samples in their set.
        seed: Seed of the evaluation.
        restart: Number of the restart.

    Returns:
        Noise (B, C, H, W), float32, on the CPU.
    """
    noise = torch.empty(len(indices), *shape)
    generator = torch.Generator()
    for row, index in zip(noise, indices.tolist(), strict=True):
        # torch seeds its CPU generator with 32 bits; this mixes all three numbers into them.
        mixed = np.random.SeedSequence((seed, restart, index)).generate_state(1)
        generator.manual_seed(int(mixed[0]))
        row.uniform_(-1.0, 1.0, generator=generator)
    return noise


def _worse(best: Attacked, other: Attacked) -> Attacked:
    wins = other.values > best.values
    images = torch.where(wins.view(-1, 1, 1, 1), other.images, best.images)
    return Attacked(images, torch.where(wins, other.values, best.values))


@contextmanager
def _full_precision() -> Iterator[None]:
    """No autocast and no TF32: robustness is measured with the detector that is shipped."""
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.backends.cuda.matmul.allow_tf32 = products


def _bar(chunks: Sequence[Tensor], name: str, *, show: bool) -> Iterator[Tensor]:
    from tqdm import tqdm

    with tqdm(total=len(chunks), desc=name, unit="batch", disable=not show, leave=False) as bar:
        for chunk in chunks:
            yield chunk
            bar.update()


def _merged(parts: list[dict[str, Any]], accelerator: Accelerator | None) -> dict[str, Any]:
    """All processes' batches as whole arrays in the set's order."""
    if accelerator is not None and accelerator.num_processes > 1:
        from accelerate.utils import gather_object

        parts = gather_object(parts)
    whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    order, examples = np.argsort(whole.pop("index")), np.argsort(whole["example_index"])
    return {
        key: value[examples if key.startswith("example") else order] for key, value in whole.items()
    }


def _shared(value: dict[str, Any] | None, accelerator: Accelerator | None) -> dict[str, Any] | None:
    """The main process's view of the cache, so that all processes agree whether to compute."""
    if accelerator is None or accelerator.num_processes == 1:
        return value
    from accelerate.utils import broadcast_object_list

    box: list[dict[str, Any] | None] = [value]
    broadcast_object_list(box)
    return box[0]
