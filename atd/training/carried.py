"""Perturbations that are kept from one visit of an image to the next."""

from __future__ import annotations

import torch
from torch import Tensor

from atd.data.augment import augment, put_back
from atd.data.sampler import generator_for
from atd.errors import UserError
from atd.training.processes import Processes
from atd.training.stream import Stream

__all__ = ["CarriedPerturbations", "require_room"]

_LEVELS = 127
# Steps of a round fraction of epsilon end just between two levels; without this, rounding errors
# would decide which of them is stored, and runs that should be equal would drift apart.
_OFF_THE_MIDDLE = 1e-3


class CarriedPerturbations:
    """The last perturbation of every image of a stream, one byte for each pixel and channel.

    The backbone is frozen and the discriminator moves slowly, so what deceived it an epoch ago
    still nearly does (as in free and fast adversarial training: Shafahi et al. 2019,
    arXiv:1904.12843; Zheng et al. 2020, arXiv:1912.11969). The attack goes on from there and
    needs few steps. Perturbations lie in the frame of the unaugmented images: they are shifted
    and mirrored with the image, and back.

    Every process keeps all of them, since the next one to see an image may be another.

    Args:
        stream: The stream.
        epsilon: Radius of the ball, on the [0, 1] scale.
        shape: Shape of an image, (C, H, W).
        processes: The processes that share the work.
    """

    def __init__(
        self, stream: Stream, epsilon: float, shape: tuple[int, ...], processes: Processes
    ) -> None:
        self.stream, self.epsilon, self.processes = stream, epsilon, processes
        generator = generator_for("carried", stream.purpose, stream.seed)
        size = (len(stream.images), *shape)
        random = torch.randint(-_LEVELS, _LEVELS + 1, size, generator=generator, dtype=torch.int8)
        self.levels = random.to(processes.device)

    def start(self, step: int) -> Tensor:
        """Where the attacks of this process's images (n, C, H, W) start, in [-1, 1]."""
        share, stream = self.stream.share, self.stream
        levels = self.levels[stream.indices(step)[share].to(self.levels.device)]
        moved = augment(levels, stream.augment, stream.drawn(step)[share])
        return moved.float() / _LEVELS

    def keep(self, step: int, images: Tensor, attacked: Tensor) -> None:
        """Stores the perturbations of a step; every process must come here.

        Args:
            step: The step.
            images: This process's images (n, C, H, W), augmented.
            attacked: The same, attacked.
        """
        scaled = (attacked - images) * (_LEVELS / max(self.epsilon, 1e-12))
        levels = (scaled + _OFF_THE_MIDDLE).round().clamp(-_LEVELS, _LEVELS).to(torch.int8)
        whole = self.processes.whole_batch(levels.contiguous())
        places = self.stream.indices(step)
        rows = places.to(whole.device)
        drawn = self.stream.drawn(step)
        moved = put_back(whole, self.stream.augment, drawn, self.levels[rows])
        # A batch across two epochs may hold an image twice, and a GPU would store either.
        last = list({place: at for at, place in enumerate(places.tolist())}.values())
        kept = torch.tensor(last, device=whole.device)
        self.levels[rows[kept]] = moved[kept]


def require_room(streams: tuple[Stream, ...], shape: tuple[int, ...], megabytes: int) -> None:
    """Makes sure that all perturbations fit into memory.

    Args:
        streams: The streams whose perturbations are to be kept.
        shape: Shape of an image, (C, H, W).
        megabytes: Most that a set may take (`loader.memory_mb`).

    Raises:
        UserError: They do not.
    """
    for stream in streams:
        needed = len(stream.images) * torch.Size(shape).numel() / 2**20
        if needed > megabytes:
            raise UserError(
                f"atd.attack_start=carried: the perturbations of {stream.images.name} take "
                f"{needed:.0f} MiB, more than loader.memory_mb={megabytes}; raise it, or use "
                "atd.attack_start=random with more atd.steps"
            )
