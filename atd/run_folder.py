"""A run's folder: where its files lie, and whose it is."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atd.artefacts import (
    detector_problem,
    history_problem,
    is_detector,
    report_digests,
    report_problem,
)
from atd.config import Config, load, to_yaml
from atd.detectors.kinds import resolved
from atd.errors import UserError
from atd.files import clear_litter, is_litter, write_text
from atd.folder_lock import hold, release
from atd.run_options import differences, names_images, of_execution, of_training

__all__ = ["RunFolder"]

_FOLDERS = ("state", "state/scores", "tensorboard", "detector", "report", "logs")


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
                process, holds a file where a folder belongs, or cannot be written.
        """
        stored = self.require_own(config)
        different = [] if stored is None else differences(stored, config)
        fresh = not self.has_trained
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            clear_litter(self.path)
            if not of_execution(different):
                self._finished.unlink(missing_ok=True)
            if fresh or not names_images(different):
                self.write_config(config)
            self.state.mkdir(exist_ok=True)
            hold(self._lock)
            if fresh and different:
                self._images.unlink(missing_ok=True)
            clear_litter(self.state)
            self._set_damaged_detector_aside()
        except OSError as error:
            raise UserError(
                f"{self.path}: the run folder cannot be written ({error.strerror})"
            ) from None

    def require_own(self, config: Config) -> Config | None:
        """Refuses a folder that this config's run could not claim, and changes nothing in it.

        Args:
            config: The resolved options of the run.

        Returns:
            The options of the run so far; None for a new folder.

        Raises:
            UserError: As `claim`, as far as that shows without writing.
        """
        stored = self.stored_config()
        if stored is not None and self.has_trained:
            self._require_same(stored, config, differences(stored, config))
        for name in _FOLDERS:
            if os.path.lexists(self.path / name) and not os.path.isdir(self.path / name):
                raise UserError(f"{self.path / name}: is no folder; move it away and start again")
        filled = self.path.is_dir() and not all(map(is_litter, self.path.iterdir()))
        if stored is None and filled:
            raise UserError(f"{self.path}: not empty and not a run folder; choose another run.dir")
        return stored

    @property
    def has_trained(self) -> bool:
        """Whether there is anything that the options so far have made."""
        made = (self.detector, self._finished)
        return any(self.state.glob("*.safetensors")) or any(map(os.path.lexists, made))

    def stored_config(self) -> Config | None:
        """The options of the run so far; None for a new folder. A damaged file has a copy."""
        problem: UserError | None = None
        for file in (self.config, self._config_copy):
            try:
                if file.read_text(encoding="utf-8").strip():
                    return resolved(load(file))
            except UserError as error:
                problem = problem or error
            except (OSError, ValueError, RecursionError):
                continue
        if problem is not None:
            raise problem
        if os.path.exists(self.config):
            raise UserError(
                f"{self.config}: empty or not readable; put it back, or choose another run.dir"
            )
        return None

    def _require_same(self, stored: Config, config: Config, different: list[str]) -> None:
        """Refuses options that the training so far was not made with."""
        blocking = of_training(different, stored, config)
        if not blocking:
            return
        remedy = "choose another run.name or run.dir, or delete the folder"
        later = all(key.startswith(("atd.", "detector.")) for key in blocking)
        reusable = config.atd.features == "backbone" and not stored.atd.finetune
        if later and reusable and os.path.exists(self.detector / "model.safetensors"):
            place = "run.dir" if config.run.dir else "run.name"
            remedy = (
                f"to start from its backbone, add backbone.weights={self.detector} and another "
                f"{place} to the command"
            )
        keys = ", ".join(blocking[:4])
        raise UserError(f"{self.path}: belongs to a run with another {keys}; {remedy}")

    def write_config(self, config: Config) -> None:
        """Writes the options of the run, which later commands must have."""
        text = to_yaml(config)
        write_text(self.config, text)
        write_text(self._config_copy, text)

    def _set_damaged_detector_aside(self) -> None:
        """Renames `detector/` where nobody can tell that it is one: a new one needs its place."""
        filled = self.detector.is_dir() and any(self.detector.iterdir())
        if filled and not is_detector(self.detector):
            names = (f"detector.damaged-{number}" for number in range(1, 1000))
            free = next(name for name in names if not os.path.lexists(self.path / name))
            os.replace(self.detector, self.path / free)

    def set_names(self) -> dict[str, str]:
        """Names of the training sets when the run began, by title; empty for a new run.

        Which images are held out depends on them, also after a folder was renamed.
        """
        try:
            before = json.loads(self._images.read_text(encoding="utf-8"))
            return {title: str(item["name"]) for title, item in before.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {}

    def claim_images(self, fingerprint: Mapping[str, Any], config: Config) -> None:
        """Notes what images the run has, or checks that they are those it began with.

        Args:
            fingerprint: `atd.data.fingerprint.fingerprint_images` of the sets.
            config: The resolved options of the run, which may say where the images lie now.

        Raises:
            UserError: A set has other images than at the first start, or the note is damaged.
        """
        self.require_images(fingerprint)
        if not self._images.exists():
            write_text(self._images, json.dumps(fingerprint, indent=1))
        if self.config.read_text(encoding="utf-8").rstrip() != to_yaml(config).rstrip():
            self.write_config(config)

    def require_images(self, fingerprint: Mapping[str, Any]) -> None:
        """Refuses other images than those that the run began with, if it has begun.

        Args:
            fingerprint: As for `claim_images`.

        Raises:
            UserError: As `claim_images`.
        """
        # Imported here so that a finished run says so at once.
        from atd.data.fingerprint import changed_images

        if not self._images.exists():
            return
        try:
            before = json.loads(self._images.read_text(encoding="utf-8"))
            change = changed_images(before, fingerprint)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise UserError(
                f"{self._images}: damaged; delete it if the images are those the run began with"
            ) from None
        if change:
            raise UserError(
                f"{self.path}: the images are not those that this run began with: {change}; "
                "restore them, or choose another run.name to train on these"
            )

    @property
    def _config_copy(self) -> Path:
        return self.state / "config.yaml"

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
        """Notes what the finished run left behind, and lets others in."""
        self.note_report()
        release(self._lock)

    @property
    def report_is_whole(self) -> bool:
        """Whether this is a finished run whose report is as it was left."""
        return os.path.exists(self._finished) and not report_problem(self.report, self._digests())

    def note_report(self) -> None:
        """Takes note of the report as it is now, after it was brought up to date."""
        write_text(self._finished, json.dumps(report_digests(self.report), indent=1))

    def was_finished(self, config: Config) -> bool:
        """Whether the run once came to its end with just these options."""
        if not (os.path.exists(self._finished) and os.path.exists(self.config)):
            return False
        stored = self.stored_config()
        if stored is None:
            return False
        return of_execution(differences(stored, config))

    def problem(self) -> str:
        """What a finished run lacks: one line that begins with the path, or nothing."""
        if self._config_problem():
            return self._config_problem()
        return detector_problem(self.detector) or report_problem(self.report, self._digests())

    def _digests(self) -> dict[str, str]:
        """What the report was like when the run was finished."""
        try:
            digests = json.loads(self._finished.read_text(encoding="utf-8") or "{}")
        except (OSError, ValueError, RecursionError):
            return {}
        return digests if isinstance(digests, dict) else {}

    def _config_problem(self) -> str:
        try:
            if self.config.read_text(encoding="utf-8").strip():
                load(self.config)
                return ""
        except (OSError, ValueError, RecursionError, UserError):
            pass
        return f"{self.config}: damaged"

    def lost_history(self) -> str:
        """What of the training's log is gone for good: one line that begins with the path."""
        return history_problem(self.path / "stats.jsonl")

    def is_finished(self, config: Config) -> bool:
        """Whether the run was finished with just these options, and all it left is whole."""
        return self.was_finished(config) and not self.problem()
