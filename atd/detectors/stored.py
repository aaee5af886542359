"""Detectors as folders on disk and as repositories on the Hugging Face Hub."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import torch
from huggingface_hub import ModelHubMixin

from atd.detectors.calibration import CALIBRATION_FILE
from atd.errors import UserError, first_line

if TYPE_CHECKING:
    from atd.detectors.base import Detector

__all__ = ["DETECTOR_FILES", "StoredDetector"]

DETECTOR_FILES = ("config.json", "model.safetensors", "README.md", CALIBRATION_FILE)
_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)


class StoredDetector(ModelHubMixin):
    """How every detector is saved and loaded, the same for every kind.

    Attributes:
        card: The model card that it was loaded with, in Markdown; empty for a new one.
    """

    card = ""

    def save_pretrained(  # type: ignore[override]
        self, folder: str | Path, card: str = "", *, half: bool = False, **_: Any
    ) -> None:
        """Writes a detector folder; an older one is replaced only when the new one is complete.

        Args:
            folder: Where to write `config.json`, `model.safetensors`, `README.md` and, where
                there is a calibration sample, `calibration.safetensors`.
            card: The model card in Markdown; left out, that of the folder which it was loaded
                from, unless its weights have changed since.
            half: Store large weights in float16, for half the size; they are
                computed with in float32, and scores may change by a thousandth.

        Raises:
            UserError: The folder holds something else or cannot be written.
        """
        from atd.detectors.writing import write_detector

        write_detector(cast("Detector", self), Path(folder), card, half=half)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, source: str | os.PathLike[str], device: str | torch.device = "cpu", **hub: Any
    ) -> Self:
        """Loads a detector, in evaluation mode; nothing is unpickled.

        The SHA-256 of the weights must be the one that `config.json` names.

        Args:
            source: A folder with `config.json` and `model.safetensors`; or, as a string,
                `OWNER/NAME` of a repository on the Hugging Face Hub, where no such path exists.
            device: Where to put it.
            hub: Passed on to `huggingface_hub.snapshot_download`, e.g. `revision`, `token`.

        Returns:
            The detector, of the kind that its `config.json` names.

        Raises:
            UserError: The folder is no detector or not one of this class, is damaged, or was
                made by a newer version; or the Hub has no such repository or is out of reach.
        """
        from atd.detectors.folder import read_detector

        folder = _downloaded(source, **hub) if _on_hub(source) else Path(source)
        detector = read_detector(folder)
        if not isinstance(detector, cls):
            kind = getattr(cls, "kind", cls.__name__)
            raise UserError(
                f"{source}: a detector of kind {detector.kind}, not {kind}; use atd.load"
            )
        try:
            return detector.to(device)
        except (RuntimeError, AssertionError) as error:
            raise UserError(f"device {device}: {first_line(error)}") from None

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Uploads the detector folder to the Hugging Face Hub, with the card it was loaded with.

        Args:
            repo_id: `OWNER/NAME`; it is made where it is missing.
            options: Those of `huggingface_hub.ModelHubMixin.push_to_hub`, e.g. `token`,
                `private`, `branch` and `commit_message`.

        Returns:
            The address of the commit.

        Raises:
            UserError: The Hub is out of reach or refuses it, or the detector cannot be saved.
        """
        try:
            return str(super().push_to_hub(repo_id, **options))
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{repo_id}: not uploaded: {first_line(error)}") from None


def _on_hub(source: str | os.PathLike[str]) -> bool:
    """Whether a word names a repository: the folder above a mistyped path would exist."""
    if not isinstance(source, str) or not _REPOSITORY.fullmatch(source):
        return False
    return not os.path.lexists(source) and not os.path.lexists(source.split("/")[0])


def _downloaded(repository: str | os.PathLike[str], **options: Any) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(str(repository), allow_patterns=list(DETECTOR_FILES), **options)
        )
    except TypeError:  # an option that does not exist
        raise
    except Exception as error:
        raise UserError(
            f"{repository}: no such folder, and not to be had from the Hugging Face Hub: "
            f"{first_line(error)}"
        ) from None
