"""Writes the table of results in README.md from the stored results, so that none is typed in.

python -m benchmarks.readme_results
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from atd.config.options import EvaluateConfig
from atd.errors import UserError, run_command
from atd.evaluation.results import Results, read_results
from atd.evaluation.tiers import resolve_tier
from atd.experiments.missing import finished_runs, typed
from atd.files import write_text
from atd.metrics import CONDITIONS
from atd.records import from_json
from atd.reporting.kind_rows import KindRow
from atd.reporting.own_images_page import OwnRow
from atd.reporting.table_parts import short_verdict, table
from atd.reporting.wording import (
    attack_words,
    interval,
    member_words,
    plural,
    radius_words,
)
from benchmarks.publish import published

ROOT = Path(__file__).parents[1]
_PLACE = re.compile(r"(?<=<!-- results -->\n).*?(?=<!-- end -->)", re.S)
_HEAD = (
    *("detector", "OOD sets", "seeds", "clean", "ID attacked", "OOD attacked", "both attacked"),
    *("attack, images", "checks"),
)
_WORDS = (0, 1, 7, 8)
_BUDGET = ("run.threads=1", "run.budget=12m")


def main() -> None:
    """Writes the table into README.md."""
    run_command(_main)


def _main() -> None:
    readme = ROOT / "README.md"
    write_text(readme, filled(readme.read_text(encoding="utf-8"), results_table()))


def filled(readme: str, made: str) -> str:
    """README.md with this table.

    Raises:
        UserError: It has no place for one.
    """
    if not _PLACE.search(readme):
        raise UserError("README.md: no lines <!-- results --> and <!-- end -->; put them back")
    return _PLACE.sub(lambda _: f"\n{made}\n\n", readme)


def results_table() -> str:
    """The table in Markdown."""
    rows = [
        _digits(ROOT / "docs" / "detectors.json"),
        *_seeds("cifar10_small"),
        *_shipped("cifar10_small"),
        *_shipped("cifar10"),
        *_own_images(ROOT / "docs" / "own_images.json"),
    ]
    return table(_HEAD, rows, _WORDS)


def _digits(file: Path) -> list[str]:
    """The default run."""
    runs = typed(KindRow, finished_runs(file))
    rows = [row for key, row in runs.items() if key.startswith("digits-small/atd/")]
    means = [row.mean for row in rows if row.mean]
    attacks = {f"{attack_words(row.attack)}; {row.images}" for row in rows if row.attack}
    return [
        "[digits](docs/detectors.md)",
        plural(len(rows[0].mean_over), "far set"),
        str(len(rows)),
        *(interval([mean[of]["auroc"] for mean in means]) for of in CONDITIONS),
        "; ".join(sorted(attacks)),
        _checks([row.verdict for row in rows]),
    ]


def _seeds(name: str) -> Iterator[list[str]]:
    page = f"docs/results/{name}.md"
    runs = published((ROOT / page).with_suffix(".json"))
    return _run([run.results for run in runs], name, page)


def _shipped(name: str) -> Iterator[list[str]]:
    folder = f"checkpoints/{name}/report"
    return _run([read_results(ROOT / folder / "results.json")], name, f"{folder}/report.md")


def _run(runs: Sequence[Results], name: str, page: str) -> Iterator[list[str]]:
    """Runs of one config: their far sets, and their near ones."""
    for role in ("far", "near"):
        means = [
            {of: statistics.mean(item[of]["auroc"] for item in sets) for of in CONDITIONS}
            for run in runs
            if (sets := [item for item in run.datasets.values() if item.role == role])
        ]
        count = sum(item.role == role for item in runs[0].datasets.values())
        yield [
            f"[{name}]({page})",
            plural(count, f"{role} set"),
            str(len(runs)),
            *(interval([mean[of] for mean in means]) for of in CONDITIONS),
            f"{attack_words(runs[0].attack)}; {runs[0].id.images}",
            _checks([run.verdict for run in runs]),
        ]


def _own_images(file: Path) -> Iterator[list[str]]:
    """Folders of one's own within a budget."""
    found: dict[str, list[OwnRow]] = {}
    for row in typed(OwnRow, finished_runs(file)).values():
        if row.overrides == _BUDGET:
            found.setdefault(row.name, []).append(row)
    for name, rows in sorted(found.items()):
        attacks = dict.fromkeys(f"{_members(row.tier)}; {row.judged}" for row in rows)
        radius = radius_words("linf", rows[0].epsilon)
        for role in ("far", "near"):
            given: Sequence[Mapping[str, float]] = [getattr(row, role) for row in rows]
            yield [
                f"[{name}, 12 minutes](docs/own_images.md)",
                role,
                str(len(rows)),
                *(interval([group[of] for group in given]) for of in CONDITIONS),
                f"L-inf, epsilon {radius}: {' or '.join(attacks)}",
                _checks([row.verdict for row in rows]),
            ]


def _members(tier: str) -> str:
    members = resolve_tier(from_json(EvaluateConfig, {"tier": tier})).members
    return " + ".join(member_words(str(member)) for member in members)


def _checks(verdicts: Sequence[str]) -> str:
    return "; ".join(dict.fromkeys(map(short_verdict, verdicts)))


if __name__ == "__main__":
    main()
