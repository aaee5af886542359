"""The sets of an evaluation: tests, and of the training images only what is at hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field

from atd.config import Config, DataConfig
from atd.data.images import ImageSet
from atd.data.listing import LeftOut
from atd.data.ood_tests import listed_tests, open_test, selects
from atd.data.overlap import CheckedSet, check, drop_shared, forbid_shared
from atd.data.protocols import Role, protocol_id_test
from atd.data.sources import has_test_split, jigsaw, open_source, split_mixture
from atd.data.splits import DataSplits, checked_id, load_splits
from atd.data.torchvision_sets import no_downloads
from atd.errors import UserError

__all__ = ["EvaluationSets", "load_evaluation_sets"]


@dataclass(frozen=True)
class EvaluationSets:
    """The image sets of an evaluation.

    Attributes:
        id_test: ID test images.
        ood_test: OOD test sets by name.
        id_val: Held-out ID images for the threshold; None where there are none.
        id_train: ID training images, for detectors that are fitted; None where there are none.
        outliers: Training outliers, likewise.
        roles: `far` or `near` for each test set; `far` where it is missing.
        selection: Test sets whose source has also been used for selecting epochs.
        left_out: What could not be done without the images that are not at hand.
    """

    id_test: ImageSet
    ood_test: Mapping[str, ImageSet]
    id_val: ImageSet | None = None
    id_train: ImageSet | None = None
    outliers: ImageSet | None = None
    roles: Mapping[str, Role] = field(default_factory=dict)
    selection: frozenset[str] = frozenset()
    left_out: tuple[str, ...] = ()

    @classmethod
    def of(cls, splits: DataSplits) -> EvaluationSets:
        """The sets of a run, which has them all."""
        return cls(
            id_test=splits.id_test,
            ood_test=splits.ood_test,
            id_val=splits.id_val,
            id_train=splits.id_train,
            outliers=splits.outlier_train,
            roles=splits.roles,
            selection=splits.selection,
        )

    def unused_files(self) -> list[str]:
        """What lies beside the images of these sets and was not read, in a line for each."""
        sets = [self.id_train, self.id_val, self.id_test, *self.ood_test.values(), self.outliers]
        found: dict[str, LeftOut] = {}
        told: set[tuple[str, str, str]] = set()
        for images in [images for images in sets if images is not None]:
            for reason, count in images.left_out.counts.items():
                example = images.left_out.examples[reason]
                if (images.name, reason, example) not in told:  # parts of one folder say the same
                    found.setdefault(images.name, LeftOut()).add(reason, example, count)
                told.add((images.name, reason, example))
        return [f"files of {name}: {left_out}" for name, left_out in found.items()]

    def limited(self, limit: int, seed: int) -> EvaluationSets:
        """The sets with at most `limit` images per test set (0 = all), a seeded subset."""
        return dataclasses.replace(
            self,
            id_test=self.id_test.take(limit, seed),
            ood_test={name: images.take(limit, seed) for name, images in self.ood_test.items()},
        )


def load_evaluation_sets(
    config: Config, *, downloads: bool = True, names: Mapping[str, str] | None = None
) -> EvaluationSets:
    """Loads the test sets of a config, and of its training images only what is on disk.

    Where the training images are at hand, no test image may lie among them; where they are not,
    `left_out` says what could not be checked or done.

    Args:
        config: The options; `data` and `loader` matter.
        downloads: Whether test sets of torchvision may be downloaded. Training images never are.
        names: Names that the training sets had when the detector was trained, see `load_splits`:
            the same ID images are held out again after a folder was renamed.

    Returns:
        The sets.

    Raises:
        UserError: A test set is missing or unreadable, or shares images that it must not.
    """
    data = config.data
    with nullcontext() if downloads else no_downloads():
        for test in listed_tests(data):
            open_test(test, data)  # a mistake in a name should not cost a long wait
    missing = _missing(data)
    if not missing:
        with nullcontext() if downloads else no_downloads():
            return EvaluationSets.of(load_splits(config, names))
    with nullcontext() if downloads else no_downloads():
        return _load_tests(config, missing, names or {})


def _missing(data: DataConfig) -> dict[str, str]:
    """Training sources that are not at hand, with the reasons."""
    sources = {"data.id": data.id, "data.outliers": data.outliers, "data.ood_val": data.ood_val}
    found = {}
    with no_downloads():
        for key, source in sources.items():
            try:
                for part in split_mixture(source) if source else ():
                    if part != f"jigsaw:{data.id}":
                        open_source(part, split="train", data=data)
            except UserError as error:
                found[key] = str(error)
    return found


def _load_tests(
    config: Config, missing: Mapping[str, str], names: Mapping[str, str]
) -> EvaluationSets:
    data, loader = config.data, config.loader
    held: list[CheckedSet] = []
    outliers: CheckedSet | None = None
    if "data.id" in missing:
        id_test = check("ID test", _open_id_test(data, missing["data.id"]), data, loader)
    else:
        *held, id_test = checked_id(config, names)
    own = f"jigsaw:{data.id}" in data.outliers
    if data.outliers and not own and "data.outliers" not in missing:
        pool = open_source(data.outliers, split="train", data=data)
        outliers = check("outliers", pool, data, loader)
    used = [*held, *([outliers] if outliers else [])]
    ood_test, tests = {}, listed_tests(data)
    for test in tests:
        images = open_test(test, data) or jigsaw(id_test.images).renamed(test.name)
        checked = check("OOD test", images.take(data.ood_limit, 0), data, loader)
        for other in used:
            forbid_shared(checked, other)
        ood_test[test.name] = drop_shared(checked, id_test).images
    return EvaluationSets(
        id_test=id_test.images,
        ood_test=ood_test,
        id_val=held[1].images if held else None,
        id_train=held[0].images if held else None,
        outliers=outliers.images if outliers else None,
        roles={test.name: test.role for test in tests},
        selection=frozenset(test.name for test in tests if selects(test, data)),
        left_out=tuple(
            f"overlap of the test sets with {key}: not checked, its images are not at hand "
            f"({reason})"
            for key, reason in missing.items()
        ),
    )


def _open_id_test(data: DataConfig, reason: str) -> ImageSet:
    own = data.id_test or protocol_id_test(data)
    if own or has_test_split(data.id):
        return open_source(own or data.id, split="test", data=data)
    raise UserError(f"{reason}; the ID test images were held out of it: give data.id_test=SOURCE")
