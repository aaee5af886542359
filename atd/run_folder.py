"""A run's folder: where its files lie, and whose it is."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atd.config import Config, load, to_yaml
from atd.errors import UserError
from atd.folder_lock import hold, release

__all__ = ["RunFolder"]

_EXECUTION = (
    "run.device",
    "run.device_batch",
    "run.dir",
    "run.keep",
    "run.rank_logs",
    "run.save_minutes",
    "run.timeout_minutes",
    "loader.",
)
_FREE = (*_EXECUTION, "evaluate.")
"""Options that may change between two commands on one folder: they do not touch the training."""


@dataclass(frozen=True)
class RunFolder:
    """The paths of the run-folder contract.

    Args:
        path: The folder (`run.dir`).
    """

    path: Path

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    @property
    def state(self) -> Path:
        """Training state, for resuming."""
        return self.path / "state"

    @property
    def detector(self) -> Path:
        """The trained detector."""
        return self.path / "detector"

    @property
    def report(self) -> Path:
        """The report."""
        return self.path / "report"

    def rank_log(self, rank: int) -> Path:
        """The log of one process, if it keeps one."""
        return self.path / "logs" / f"rank-{rank}.log"

    def claim(self, config: Config) -> None:
        """Makes the folder this config's, or checks that it already is.

        Args:
            config: The resolved options of the run.

        Raises:
            UserError: The folder belongs to a run with other options, is in use by another
                process, or cannot be written.
        """
        if self.config.exists():
            different = _differences(load(self.config), config)
            blocking = [key for key in different if not key.startswith(_FREE)]
            if blocking:
                raise UserError(
                    f"{self.path}: belongs to a run with another {', '.join(blocking[:4])}; choose "
                    "another run.name or run.dir, or delete the folder"
                )
            if any(key.startswith("evaluate.") for key in different):
                self._finished.unlink(missing_ok=True)
        temporary = self.config.with_name("config.yaml.tmp")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            others = set(self.path.iterdir()) - {temporary}
            if others and not self.config.exists():
                raise UserError(
                    f"{self.path}: not empty and not a run folder; choose another run.dir"
                )
            temporary.write_text(to_yaml(config), encoding="utf-8")
            os.replace(temporary, self.config)
            self.state.mkdir(exist_ok=True)
            hold(self._lock)
        except OSError as error:
            raise UserError(
                f"{self.path}: the run folder cannot be written ({error.strerror})"
            ) from None

    def claim_images(self, fingerprint: Mapping[str, Any]) -> None:
        """Notes what images the run has, or checks that they are those it began with.

        Args:
            fingerprint: `atd.data.fingerprint.fingerprint_images` of the sets.

        Raises:
            UserError: A set has other images than at the first start, or the note is damaged.
        """
        # Imported here so that a finished run says so at once.
        from atd.data.fingerprint import changed_images
        from atd.files import replacing

        if not self._images.exists():
            with replacing(self._images) as temporary:
                temporary.write_text(json.dumps(fingerprint, indent=1), encoding="utf-8")
            return
        try:
            before = json.loads(self._images.read_text(encoding="utf-8"))
            change = changed_images(before, fingerprint)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(
                f"{self._images}: damaged; delete it if the images are those the run began with"
            ) from None
        if change:
            raise UserError(
                f"{self.path}: the images are not those that this run began with: {change}; "
                "restore them, or choose another run.name to train on these"
            )

    @property
    def _images(self) -> Path:
        return self.state / "data.json"

    @property
    def _lock(self) -> Path:
        return self.state / "lock"

    @property
    def _finished(self) -> Path:
        return self.state / "finished"

    def finish(self) -> None:
        """Marks the run as finished and lets others in."""
        self._finished.touch()
        release(self._lock)

    def is_finished(self, config: Config) -> bool:
        """Whether the run was finished with just these options."""
        if not (self._finished.exists() and self.config.exists()):
            return False
        return all(key.startswith(_EXECUTION) for key in _differences(load(self.config), config))


def _differences(one: Config, other: Config) -> list[str]:
    a, b = _flat(dataclasses.asdict(one)), _flat(dataclasses.asdict(other))
    return [key for key in a if a[key] != b[key]]


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for group, options in values.items():
        if isinstance(options, dict):
            flat |= {f"{group}.{key}": value for key, value in options.items()}
        else:
            flat[group] = options
    return flat
