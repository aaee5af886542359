"""Sets the threshold of a detector's folder: scores, chooses, and writes all or nothing."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Literal

import torch

from atd.attacks.suite import Means
from atd.data.reading import notice
from atd.deciding.choice import Choice, choose, share_words
from atd.deciding.follow import followed, marked_card, report_of, update_report
from atd.deciding.order import CalibrateOrder
from atd.deciding.scored import Scored, calibration_sample, score_named, worst_scores
from atd.deciding.trained_on import overlap
from atd.detectors.amending import amend_detector
from atd.detectors.base import Detector
from atd.errors import UserError
from atd.evaluation.protocol import Evaluation, attack_facts
from atd.evaluation.record import recorded_attack
from atd.evaluation.settings import Settings, settings_from
from atd.reporting.card import model_card
from atd.reporting.wording import attack_words
from atd.threads import set_threads

__all__ = ["calibrate"]


def calibrate(order: CalibrateOrder) -> list[str]:
    """Sets the threshold of a detector's folder by images of the user's.

    Args:
        order: What is to be done.

    Returns:
        What a person should know, in lines.

    Raises:
        UserError: The detector or the images are not what they should be, the images are too
            few, or the folder cannot be written; then it is as it was.
    """
    if order.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: no CUDA device is available; use --device cpu")
    use_gpu = torch.cuda.is_available() and order.device != "cpu"
    set_threads(order.threads)
    folder = Path(order.detector)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; a threshold is stored in a folder of one's own")
    detector = Detector.from_pretrained(folder, "cuda" if use_gpu else "cpu")
    former = detector.threshold
    if seen := overlap(detector.config.training, order.id):
        notice(seen)
    inside, outside = (
        score_named(detector, names, option, null=order.null) if names else None
        for names, option in ((order.id, "--id"), (order.ood, "--ood"))
    )
    choice = _chosen(order, detector, inside if order.catch is None else outside)
    if inside is not None:
        detector.calibration = calibration_sample(detector, inside, order.keep_images)
    detector.set_threshold(choice.threshold, choice.note)
    lines = [*choice.lines(), *_others(order, choice, inside, outside)]
    stored = _store(folder, detector, choice, former)
    was = "none before" if former is None else f"before: {former:.5g}"
    return [f"threshold {choice.threshold:.6g} ({was}), stored in {folder}", *lines, *stored]


def _chosen(order: CalibrateOrder, detector: Detector, scored: Scored | None) -> Choice:
    assert scored is not None, "the order names the images of its rule"
    choose(scored.scores, order, "")  # too few images are told before they are attacked
    if not order.attacked:
        return choose(scored.scores, order, "")
    config = recorded_attack(detector, order.detector)
    settings = _possible(settings_from(config, device=detector.device))
    direction: Literal[1, -1] = 1 if order.catch is None else -1
    if detector.info.gradient == "none":
        notice(f"{order.detector}: kind {detector.kind} has no gradient; attacks can only guess")
    worst = worst_scores(detector, scored, settings, direction)
    return choose(worst, order, attack_words(attack_facts(settings)))


def _possible(settings: Settings) -> Settings:
    """The settings without attacks that need other models or OOD images, which are told."""
    lacking = {each: each.lacks(Means(settings.norm)) for each in settings.tier.members}
    for each, reason in lacking.items():
        if reason:
            notice(f"attack {each} left out: {reason}")
    members = tuple(each for each, reason in lacking.items() if not reason)
    return dataclasses.replace(settings, tier=dataclasses.replace(settings.tier, members=members))


def _others(
    order: CalibrateOrder, choice: Choice, inside: Scored | None, outside: Scored | None
) -> list[str]:
    """What the threshold does to the images that it does not follow from."""
    lines = []
    for kind, scored in (("ID", inside), ("OOD", outside)):
        rules = (kind == "OOD") == choice.caught
        if scored is not None and (not rules or order.attacked):
            lines.append(share_words(scored.scores, choice.threshold, kind))
    if inside is not None and order.keep_images:
        kept = min(order.keep_images, len(inside.paths))
        lines.append(
            f"{kept} of the ID images are kept small in the folder, for atd.score --explain; "
            "--keep-images 0 keeps none"
        )
    return lines


def _store(folder: Path, detector: Detector, choice: Choice, former: float | None) -> list[str]:
    """Writes the folder, then the report beside it; says what became of their numbers."""
    config = dataclasses.replace(
        detector.config, calibration={**choice.record, "former_threshold": former}
    )
    found = report_of(folder, detector)
    if isinstance(found, Evaluation):
        found = followed(found, choice.threshold, choice.note)
    if isinstance(found, Evaluation):
        card = model_card(found.results, config)
    else:
        card = marked_card(_card(folder), choice.threshold, choice.note, former, found)
    amend_detector(folder, config, detector.calibration, card)
    if not isinstance(found, Evaluation):
        return [f"README.md is marked: its numbers are those of the former threshold ({found})"]
    try:
        report = update_report(folder, found)
    except OSError as error:
        return [f"the report beside it keeps the former threshold: {error.strerror or error}"]
    return [f"README.md and {report} tell the numbers at the new threshold"]


def _card(folder: Path) -> str:
    try:
        return (folder / "README.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return f"# {os.path.basename(folder.resolve())}\n"
