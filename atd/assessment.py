"""Judging detectors: from Python on whatever holds images, and for the command with reports."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from atd.attacks import Norm
from atd.config import Config, EvaluateConfig
from atd.config.values import build
from atd.data.evaluation_sets import EvaluationSets, load_evaluation_sets
from atd.data.images import ImageSet
from atd.data.python_images import Given, image_set
from atd.data.reading import notice
from atd.detectors.base import Detector
from atd.detectors.external import External
from atd.detectors.loading import load
from atd.errors import UserError
from atd.evaluation.candidates import Candidates
from atd.evaluation.protocol import Evaluation
from atd.evaluation.protocol import evaluate as evaluate_sets
from atd.evaluation.requirements import Condition, require_certified, require_sets
from atd.evaluation.settings import Settings, settings_from, smoothing_of
from atd.evaluation.several import evaluate_detectors
from atd.evaluation.tiers import resolve_tier
from atd.reporting.comparison import comparison_table, write_comparison
from atd.reporting.outcome import Report
from atd.reporting.report import summary_table, write_report
from atd.run_folder import RunFolder
from atd.training.processes import Processes

__all__ = ["assess", "evaluate"]


def evaluate(
    detector: Detector | nn.Module | str | os.PathLike[str],
    *,
    id_test: Given,
    ood: Mapping[str, Given],
    near: Mapping[str, Given] | None = None,
    id_val: Given | None = None,
    epsilon: float | str = "8/255",
    norm: Norm = "linf",
    tier: Literal["smoke", "paper", "standard", "strong"] = "standard",
    steps: int = 0,
    restarts: int = 0,
    limit: int = 0,
    seed: int = 0,
    batch_size: int = 256,
    baselines: Mapping[str, Detector] | None = None,
    certify: bool | Mapping[str, Any] = False,
    cache: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> Report:
    """Judges a detector: clean and under attack, with checks, intervals and a verdict.

    Args:
        detector: A detector, the folder of one, `import:MODULE:CALLABLE`, or any torch module that
            gives float images (N, C, H, W) in [0, 1] a score each, larger = more OOD.
        id_test: In-distribution test images: a tensor, an array, a torch data set, or a source
            string such as `folder:PATH`.
        ood: OOD test images by name.
        near: OOD test images that are semantically close to ID, reported apart.
        id_val: Further ID images; where the detector has no threshold of its own, the one that
            lets 95 % of them pass (without them: of the ID test images) is judged.
        epsilon: Attack radius on the [0, 1] scale, as a number or a fraction. In L2 name one, e.g.
            0.5: the default is next to nothing there.
        norm: Norm of the ball.
        tier: How hard to attack, see `atd.evaluation.tiers`.
        steps: Steps of every gradient attack; 0 means the tier's.
        restarts: Random starts; 0 means the tier's.
        limit: At most this many images of every test set (0 = all), a seeded subset.
        seed: Seed of random starts and subsets.
        batch_size: Images per pass.
        baselines: Other detectors, judged in the same way.
        certify: Bounds the AUROC under every L2 attack (`report.certificate`); True, or options
            `sigma`, `draws`, `radii` and `confidence` as in `EvaluateConfig`.
        cache: Folder where scores are kept, so that the same call goes on where it stopped.
        progress: Shows a progress bar.

    Returns:
        The report.

    Raises:
        UserError: There are no images, they do not suit the detector, or an option is impossible.
    """
    options = {"tier": tier, "norm": norm, "epsilon": epsilon, "steps": steps}
    options |= {"restarts": restarts, "limit": limit, "batch_size": batch_size}
    options |= _certify_options(certify)
    try:
        chosen = build(EvaluateConfig, options, "evaluate")
    except ValueError as error:
        raise UserError(str(error)) from None
    if isinstance(detector, nn.Module):
        detector = _unwrapped(detector)
    inside = _first_set(detector, id_test)
    judged = _detector(detector, inside)
    sets = _sets(judged, inside if inside is not None else id_test, ood, near or {}, id_val)
    settings = Settings(
        tier=resolve_tier(chosen),
        epsilon=chosen.epsilon,
        norm=chosen.norm,
        seed=seed,
        batch_size=chosen.batch_size,
        device=judged.device,
        cache=None if cache is None else Path(cache),
        progress=progress,
        smoothing=smoothing_of(chosen),
    )
    path = os.fspath(detector) if isinstance(detector, str | os.PathLike) else ""
    return Report(
        evaluate_sets(
            judged,
            sets.limited(chosen.limit, seed),
            settings,
            name=judged.config.name,
            path=path,
            baselines=_baselines(baselines or {}, judged),
            left_out=sets.unused_files(),
        )
    )


def _certify_options(certify: bool | Mapping[str, Any]) -> dict[str, Any]:
    given = certify if isinstance(certify, Mapping) else {}
    named = {f"certify_{name}": value for name, value in given.items()}
    return {"certify": certify is not False, **named}


def _first_set(detector: Any, id_test: Given) -> ImageSet | None:
    """The ID images of a foreign module, which tell what it takes."""
    if isinstance(detector, Detector | str | os.PathLike):
        return None
    return image_set(id_test, name="id_test")


def _unwrapped(given: nn.Module) -> nn.Module:
    """What lies in the wrapper of `torch.compile` or of `DataParallel`.

    Each size of batch would be compiled anew, and a detector would lose its threshold.
    """
    inner = getattr(given, "_orig_mod", given)
    return inner.module if isinstance(inner, nn.DataParallel) else inner


def _detector(given: Any, inside: ImageSet | None) -> Detector:
    if isinstance(given, str | os.PathLike):
        return load(given)
    if isinstance(given, Detector):
        given.require_precision()
        return given
    if inside is None or not callable(given) or isinstance(given, type):
        raise UserError(
            f"detector of type {type(given).__name__}: give a detector, its folder, or a module"
        )
    _, channels, size, _ = inside.fetch(torch.tensor([0])).shape
    return External(given, image_size=size, channels=channels)


def _baselines(given: Mapping[str, Any], judged: Detector) -> dict[str, Detector]:
    if not isinstance(given, Mapping):
        raise UserError("baselines: give a dict of detectors by name, e.g. {'msp': detector}")
    made = judged.config

    def detector(item: Any) -> Detector:
        if isinstance(item, nn.Module) and not isinstance(item := _unwrapped(item), Detector):
            return External(item, image_size=made.image_size, channels=made.channels)
        return _detector(item, None)

    return {name: detector(item) for name, item in given.items()}


def _sets(
    detector: Detector,
    id_test: Given,
    ood: Mapping[str, Given],
    near: Mapping[str, Given],
    id_val: Given | None,
) -> EvaluationSets:
    made = detector.config
    for name, given in (("ood", ood), ("near", near)):
        if not isinstance(given, Mapping):
            raise UserError(f"{name}: give a dict of images by name, e.g. {{'noise': images}}")
    if not ood and not near:
        raise UserError("ood: name at least one set of OOD test images")
    if twice := sorted(set(ood) & set(near)):
        raise UserError(f"near: {twice[0]} is the name of a far set too")

    def opened(images: Given, name: str) -> ImageSet:
        return image_set(
            images,
            name=name,
            image_size=made.image_size,
            channels=made.channels,
            scale=made.scale,
        )

    return EvaluationSets(
        id_test=opened(id_test, "id_test"),
        ood_test={name: opened(images, name) for name, images in {**ood, **near}.items()},
        id_val=None if id_val is None else opened(id_val, "id_val"),
        roles={**dict.fromkeys(ood, "far"), **dict.fromkeys(near, "near")},
    )


def _set_names(candidates: Candidates) -> dict[str, str]:
    """What the training sets of the first detector's run were called, if it lies in one."""
    word = next(iter(candidates.paths.values()))
    return {} if word.startswith("import:") else RunFolder(Path(word).resolve().parent).set_names()


def assess(
    candidates: Candidates,
    config: Config,
    processes: Processes,
    conditions: Sequence[Condition],
    *,
    downloads: bool,
    command: str,
) -> list[Evaluation]:
    """Evaluates the detectors that a command named, writes reports and says what came out.

    Args:
        candidates: The detectors, and where their reports go.
        config: All options.
        processes: The processes that share the work.
        conditions: What will be required of the results; sets and radii that they name must
            be there.
        downloads: Whether test sets may be downloaded.
        command: What a person types to repeat this.

    Returns:
        The evaluations, in the order of the detectors.

    Raises:
        UserError: As `load_evaluation_sets` and `evaluate_detectors`.
    """
    candidates.move(processes.device)
    settings = settings_from(
        config,
        device=processes.device,
        accelerator=processes.accelerator,
        cache=candidates.output / "scores",
        progress=processes.is_main,
    )
    require_certified(conditions, settings.smoothing)
    if config.evaluate.norm == "l2" and config.evaluate.epsilon == -1.0:
        notice(
            f"evaluate.norm=l2: the radius {settings.epsilon:.4f} is that of L-inf, which is next "
            "to nothing in L2; name one, e.g. evaluate.epsilon=0.5"
        )
    with processes.accelerator.main_process_first():  # it downloads what is missing
        sets = load_evaluation_sets(config, downloads=downloads, names=_set_names(candidates))
    near = [name for name, role in sets.roles.items() if role == "near"]
    require_sets(conditions, list(sets.ood_test), near=bool(set(near) - sets.selection))
    found = evaluate_detectors(
        candidates.detectors,
        sets,
        settings,
        config,
        paths=candidates.paths,
        backbone=candidates.backbone,
        command=command,
    )
    if processes.is_main:
        for evaluation, report in zip(found, candidates.reports.values(), strict=True):
            print(f"report: {write_report(evaluation, report)}")
        if len(found) > 1:
            print(f"comparison: {write_comparison(found, candidates.output)}")
        print(comparison_table(found) if len(found) > 1 else summary_table(found[0].results))
    return found
