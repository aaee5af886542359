"""The detectors that a command names: what they are called and where their reports go."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from atd.backbones.base import Backbone
from atd.backbones.checkpoints import head_left_behind
from atd.config import Config
from atd.detectors.base import Detector
from atd.detectors.imported import import_detector
from atd.errors import UserError
from atd.evaluation.cache import fingerprint
from atd.evaluation.record import recorded_config
from atd.evaluation.results import read_results
from atd.files import require_writable

__all__ = ["Candidates", "load_candidates"]


@dataclass
class Candidates:
    """Detectors by name, on the way to their reports.

    Attributes:
        detectors: The detectors.
        paths: The words that named them.
        output: Where reports go, see `claim`.
    """

    detectors: dict[str, Detector]
    paths: dict[str, str]
    output: Path = field(default_factory=Path)

    @property
    def first(self) -> Detector:
        """The detector whose record tells image sets and attack."""
        return next(iter(self.detectors.values()))

    @property
    def reports(self) -> dict[str, Path]:
        """The report folder of each detector."""
        if len(self.detectors) == 1:
            return dict.fromkeys(self.detectors, self.output)
        return {name: self.output / name for name in self.detectors}

    @property
    def backbone(self) -> Backbone | None:
        """The backbone of a single detector, if its classifier is one to compare with."""
        left_behind = head_left_behind(self.first.kind, self.first.config.training)
        return None if left_behind or len(self.detectors) > 1 else self.first.backbone

    def move(self, device: torch.device) -> None:
        """Moves all detectors to a device."""
        for detector in self.detectors.values():
            detector.to(device)

    def fitted(self, config: Config) -> Config:
        """The options with an image size that is `auto` settled; all detectors must suit them.

        One's own module takes deep images as the options say; any other detector was made for one
        scale, with which it scores everywhere.

        Raises:
            UserError: Another image size, number of channels or scale of deep images.
        """
        if not config.data.image_size:
            size = self.first.config.image_size
            data = dataclasses.replace(config.data, image_size=size)
            config = dataclasses.replace(config, data=data)
        for name, detector in self.detectors.items():
            made, place = detector.config, self.paths[name]
            for key in ("image_size", "channels", "scale"):
                wanted, given = getattr(made, key), getattr(config.data, key)
                own_scale = key == "scale" and place.startswith("import:")
                if wanted != given and not own_scale:
                    raise UserError(f"data.{key}={given}: the detector in {place} takes {wanted}")
        return config

    def claim(self, output: str | None, config: Config) -> None:
        """Settles where reports go, and refuses folders that are not to be written to.

        The default is `report` beside a single detector where sets and attack are those of its
        record, else a folder of its own beside it; `comparison` for several detectors.

        Args:
            output: The folder that the user named.
            config: The options of the evaluation.

        Raises:
            UserError: A folder is a file, cannot be written, or holds the report of another
                detector.
        """
        if output is not None:
            self.output = Path(output)
        elif len(self.detectors) > 1:
            self.output = Path("comparison")
        else:
            self.output = self._beside(config)
        for folder in (self.output, self.output / "scores", *self.reports.values()):
            try:
                is_file = (folder.exists() or folder.is_symlink()) and not folder.is_dir()
            except OSError as error:  # too long, or out of reach
                raise UserError(
                    f"{folder}: cannot be written: {error.strerror}; choose another --output"
                ) from None
            if is_file:
                raise UserError(f"{folder}: is a file, not a folder; choose another --output")
        for name, folder in self.reports.items():
            _require_own(folder, self.detectors[name], name, self.paths[name])
            require_writable(folder)

    def _beside(self, config: Config) -> Path:
        (word,) = self.paths.values()
        if word.startswith("import:"):
            return Path("report")
        run = Path(word).resolve().parent
        asked = _question(config)
        try:
            same = _question(recorded_config(self.first, word, ())) == asked
        except UserError:
            same = False
        if same:
            return run / "report"
        return run / f"report-{hashlib.sha256(asked.encode()).hexdigest()[:8]}"


def _question(config: Config) -> str:
    """What an evaluation asks: its sets and its attack, as text."""
    values = dataclasses.asdict(config)
    evaluate = {key: value for key, value in values["evaluate"].items() if key != "batch_size"}
    evaluate["epsilon"] = config.evaluation_epsilon
    return json.dumps([values["data"], evaluate, config.run.seed], sort_keys=True)


def load_candidates(words: Sequence[str], overrides: Sequence[str]) -> Candidates:
    """Loads detectors under names that tell them apart.

    Args:
        words: Detector folders, or `import:MODULE:CALLABLE`; equal names are replaced by those of
            the folders above.
        overrides: `key=value` words, which tell what images one's own module takes.

    Raises:
        UserError: A word names no detector, or the same one as another.
    """
    loaded = [(_load(word, overrides), word) for word in words]
    names = [detector.config.name for detector, _ in loaded]
    found = Candidates({}, {})
    for (detector, word), name in zip(loaded, names, strict=True):
        unique = name if names.count(name) == 1 else Path(word).resolve().parent.name
        if unique in found.detectors:
            raise UserError(f"{word}: another detector is called {unique} too; rename its folder")
        found.detectors[unique], found.paths[unique] = detector, word
    return found


def _load(word: str, overrides: Sequence[str]) -> Detector:
    if not word.startswith("import:"):
        return Detector.from_pretrained(Path(word))
    given = dict(item.partition("=")[::2] for item in overrides)
    sizes = [_number(given, key) for key in ("data.image_size", "data.channels")]
    return import_detector(word, image_size=sizes[0], channels=sizes[1])


def _number(given: Mapping[str, str], key: str) -> int | None:
    text = given.get(key, "")
    return int(text) if text.isdecimal() and len(text) < 6 else None


def _require_own(folder: Path, detector: Detector, name: str, path: str) -> None:
    """Refuses a report folder that tells of another detector, before hours of work.

    A detector that was trained again under the same name at the same place replaces its report, and
    so does one whose report is damaged; somebody's file of another kind is left alone.
    """
    file = folder / "results.json"
    try:
        known = read_results(file).detector
    except UserError:
        if file.exists() and not (folder / "report.md").exists():
            raise UserError(
                f"{file}: no results of an evaluation; choose another --output"
            ) from None
        return
    same_place = known.name == name and Path(known.path).resolve() == Path(path).resolve()
    if not same_place and known.sha256 != fingerprint(detector):
        raise UserError(
            f"{folder}: holds the report of another detector ({known.name} in {known.path}); "
            "choose another --output"
        )
