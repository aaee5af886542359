"""The paper's table 2: attacks on other methods, transferred to ATD."""

from __future__ import annotations

import statistics
from functools import partial

from atd.attacks.objective import Attacked
from atd.attacks.pgd import pgd
from atd.attacks.suite import Member, Situation, member
from atd.attacks.suite.transfer import Transfer
from atd.attacks.transfer import transfer
from atd.config import Config
from atd.data.evaluation_sets import EvaluationSets
from atd.detectors.base import Detector
from atd.evaluation.judgement import averaged_sets
from atd.evaluation.settings import Settings
from atd.experiments.far_sets import ATTACKS, conditions, limited_sets, settings_at
from atd.experiments.methods import COMPARED, DEFAULT, PAPER
from atd.experiments.missing import Record, Runs, run_missing, typed
from atd.experiments.order import Order
from atd.experiments.tables import agrees
from atd.experiments.workshop import Workshop
from atd.metrics import CONDITIONS
from atd.records import to_json
from atd.reporting.transfer_table import ITSELF, TransferRow, transfers_page

__all__ = ["page", "reproduce_table2"]

_TARGETS = {"ATD, the paper's text": PAPER, "ATD, this package's recipe": DEFAULT}

_QUOTED = {
    "OpenGAN-fea": (0.930, 0.940, 0.928),
    "standard (MD)": (),
    "AT (MD)": (0.923, 0.933, 0.920),
    "HAT (OpenMax)": (0.894, 0.914, 0.865),
    "OSAD (OpenMax)": (0.907, 0.927, 0.895),
    "AOE (OpenMax)": (0.907, 0.925, 0.892),
    "ALOE (OpenMax)": (0.921, 0.933, 0.917),
    ITSELF: (),
}
"""The paper's AUROC with ID, OOD and both attacked, by the method that the attack was made on."""


class _TransferredFgsm(Transfer):
    """FGSM on another detector."""

    def run(self, given: Situation) -> Attacked:
        """Attacks one source and tries what was found."""
        # As in the paper, the step is taken whether it hurts the source or not.
        attack = partial(pgd, steps=1, step_size=given.epsilon, keep="last", **given.ball)
        source = given.sources[given.restart]
        return transfer(source, given.objective, given.images, attack=attack)


def reproduce_table2(order: Order) -> None:
    """Makes the table.

    Raises:
        UserError: Bad options, or the finished rows are damaged.
    """
    setting = order.setting
    shop = Workshop(setting, order.work)
    names = {f"{setting.name}/{name}": name for name in _QUOTED}

    def measure(row: str, config: Config) -> Record:
        name, seed = names[row], config.run.seed
        made = {title: shop.detector(method, seed) for title, method in _TARGETS.items()}
        settings = settings_at(config, shop.processes, **ATTACKS[setting.scale][0])
        source = None if name == ITSELF else shop.detector(COMPARED[name], seed)[0]
        found = {}
        for title, (target, splits) in made.items():
            sets = limited_sets(splits, config)
            found[title] = _measured(target, source, sets, settings)
        splits = made["ATD, this package's recipe"][1]
        return {
            **to_json(setting),
            "source": name,
            "found": found,
            "quoted": _QUOTED[name] if agrees(config) else [],
            "images": len(limited_sets(splits, config).id_test),
            "mean_over": averaged_sets(limited_sets(splits, config)),
            "steps": settings.tier.steps,
            "epsilon": settings.epsilon,
        }

    run_missing(
        order.output,
        names,
        order.seeds,
        setting=setting,
        configure=lambda row, seed: shop.config(COMPARED.get(names[row], DEFAULT), seed),
        measure=measure,
        page=page,
    )


def page(runs: Runs) -> str:
    """The page of finished runs."""
    return transfers_page(list(typed(TransferRow, runs).values()), tuple(_QUOTED))


def _measured(
    target: Detector, source: Detector | None, sets: EvaluationSets, settings: Settings
) -> dict[str, dict[str, float]]:
    """AUROC by condition under attacks made on a source, or on the target itself."""
    steps = settings.tier.steps
    if source is None:
        attacks: dict[str, Member] = {"fgsm": member("fgsm"), "pgd": member("pgd", steps)}
    else:
        attacks = {"fgsm": _TransferredFgsm(), "pgd": member("transfer", steps)}
    return {name: _means(target, source, sets, settings, one) for name, one in attacks.items()}


def _means(
    target: Detector,
    source: Detector | None,
    sets: EvaluationSets,
    settings: Settings,
    attack: Member,
) -> dict[str, float]:
    done = settings.attack((attack,), sources=() if source is None else (source,))
    inside = settings.score(target, sets.id_test, 1, done)
    found = []
    for name in averaged_sets(sets):
        outside = settings.score(target, sets.ood_test[name], -1, done)
        found.append(conditions((inside.clean, inside.attacked), (outside.clean, outside.attacked)))
    return {name: statistics.mean(one[name] for one in found) for name in CONDITIONS}
