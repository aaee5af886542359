"""What a person asks of `atd.calibrate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from atd.errors import UserError

__all__ = ["CalibrateOrder"]

_DEFAULT = 0.95
_MOST_PICTURES = 10_000


@dataclass(frozen=True, kw_only=True)
class CalibrateOrder:
    """How a threshold is to be set.

    Attributes:
        detector: A detector folder.
        id: ID images: files, folders, or `-` for names on standard input.
        ood: OOD images, likewise.
        accept: Share of ID images that is to pass.
        catch: Share of OOD images that is to be flagged, instead of `accept`.
        attacked: The share is to hold under the attack of the detector's evaluation.
        keep_images: How many ID images are kept in the folder, small, to show beside others.
        null: Names on standard input end with NUL.
        device: `auto`, `cpu` or `cuda`.
        threads: Threads on the CPU; 0 for as many as there are cores.

    Raises:
        UserError: An option is impossible, or some do not go together.
    """

    detector: str
    id: Sequence[str] = ()
    ood: Sequence[str] = ()
    accept: float | None = None
    catch: float | None = None
    attacked: bool = False
    keep_images: int = 200
    null: bool = False
    device: str = "auto"
    threads: int = 0

    def __post_init__(self) -> None:
        if self.accept is not None and self.catch is not None:
            raise UserError("--accept and --catch set the threshold from two sides; give one")
        if not self.id and not self.ood:
            raise UserError("--id IMAGES: name images that the detector is to accept")
        if self.catch is not None and not self.ood:
            raise UserError("--catch: name the images that are to be caught, --ood IMAGES")
        if self.catch is None and not self.id:
            raise UserError(
                "--ood alone sets no threshold; give --catch 0.95 too, or --id IMAGES with --accept"
            )
        if list(self.id).count("-") + list(self.ood).count("-") > 1:
            raise UserError("-: standard input can be read once; name files or folders")
        if not 0 <= self.keep_images <= _MOST_PICTURES:
            raise UserError(f"--keep-images {self.keep_images}: give 0 to {_MOST_PICTURES}")
        if not 0 <= self.threads <= 4096:
            raise UserError(f"--threads {self.threads}: give a number from 1 to 4096, or 0")
        if not 0.0 < self.share < 1.0:
            raise UserError(
                f"{self.rule}: give a share above 0 and below 1, e.g. 0.95 for 95 %; no number of "
                "images can promise more"
            )

    @property
    def share(self) -> float:
        """The share that is asked for, of ID images accepted or OOD images caught."""
        if self.catch is not None:
            return self.catch
        return _DEFAULT if self.accept is None else self.accept

    @property
    def rule(self) -> str:
        """The option that says so."""
        return f"--{'accept' if self.catch is None else 'catch'} {self.share:g}"
