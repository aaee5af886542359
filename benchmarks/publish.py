"""Adds a finished run to a results document of its config, so that no number is typed in.

python -m benchmarks.publish checkpoints/my_cifar10_small docs/results/cifar10_small.md

A run of a seed that the document has already takes its place.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from atd.errors import UserError, run_command
from atd.evaluation.results import Dataset, Means, Results, read_results
from atd.files import write_text
from atd.metrics import CONDITIONS
from atd.reporting.wording import attack_words, interval, plural


@dataclass(frozen=True)
class Published:
    """One run: what was measured, and the minutes that each training stage took."""

    results: Results
    minutes: Mapping[str, float]


def main() -> None:
    run_command(_main)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a finished run folder")
    parser.add_argument("output", type=Path, help="the Markdown file")
    arguments = parser.parse_args()
    file = arguments.run / "report" / "results.json"
    if not file.is_file():
        raise UserError(f"{file}: not there; finish the run first")
    run = Published(read_results(file), stage_minutes(arguments.run))
    stored = arguments.output.with_suffix(".json")
    earlier = published(stored) if stored.is_file() else []
    _check_alike(run.results, earlier, arguments)
    seeds = {item.results.provenance.seed: item for item in [*earlier, run]}
    runs = [seeds[seed] for seed in sorted(seeds)]
    write_text(arguments.output, page(runs, arguments.output.stem))
    entries = [{"minutes": item.minutes, "results": item.results.to_json()} for item in runs]
    write_text(stored, json.dumps(entries, indent=1))


def published(file: Path) -> list[Published]:
    """The runs of a results document, from its JSON file, by seed.

    Raises:
        UserError: There are none in it.
    """
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
        return [Published(Results.from_json(run["results"]), run["minutes"]) for run in entries]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file}: no published runs: {error}; remove it") from None


def _check_alike(
    results: Results, earlier: Sequence[Published], arguments: argparse.Namespace
) -> None:
    """Means are taken only over runs that were judged on the same sets by the same attack."""
    for other in (item.results for item in earlier):
        if list(results.datasets) != list(other.datasets) or results.attack != other.attack:
            raise UserError(
                f"{arguments.run}: judged on other sets or by another attack than the runs in"
                f" {arguments.output}; name another file"
            )


def stage_minutes(run: Path) -> dict[str, float]:
    """Minutes that each training stage took, from the clock in `stats.jsonl`."""
    minutes: dict[str, float] = {}
    previous = 0.0
    for line in (run / "stats.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        # The clock starts anew when a run is resumed.
        since = entry["seconds"] - previous if entry["seconds"] >= previous else entry["seconds"]
        minutes[entry["stage"]] = minutes.get(entry["stage"], 0.0) + since / 60
        previous = entry["seconds"]
    return minutes


def page(runs: Sequence[Published], name: str) -> str:
    """The document."""
    first = runs[0].results

    def row(title: str, items: Iterable[Means | Dataset]) -> str:
        measured = list(items)
        cells = (interval([item[of]["auroc"] for item in measured]) for of in CONDITIONS)
        return f"| {title} | {' | '.join(cells)} |"

    results = [run.results for run in runs]
    sets = [
        row(f"{key} ({item.role})", (run.datasets[key] for run in results)) + f" {item.images} |"
        for key, item in first.datasets.items()
    ]
    far = plural(len(first.mean_over), "far set")
    means = [row(f"**ATD, mean of {far}**", (run.mean for run in results))]
    means += [
        row(f"{key}, the same mean", (run.baselines[key].mean for run in results))
        for key in first.baselines
    ]
    spread = "; mean of the seeds, lowest and highest in brackets" if len(runs) > 1 else ""
    return f"""# {name}

AUROC in %, with nothing, the ID images, the OOD images, or both attacked: {attack_words(first.attack)}{spread}.
ID: {first.id.name}, {first.id.images} test images.

| OOD set | clean | in | out | both | images |
|---|---|---|---|---|---|
{chr(10).join(sets)}

| score of the same backbone | clean | in | out | both |
|---|---|---|---|---|
{chr(10).join(means)}

`python train.py --config configs/{name}.yaml run.seed=SEED`:

| seed | ATD, both attacked | minutes | in all | the attack's checks | made |
|---:|---:|---|---:|---|---|
{chr(10).join(map(_run_row, runs))}

Made by `python -m benchmarks.publish`; all numbers are in the JSON file of the same name.
"""  # noqa: E501


def _run_row(item: Published) -> str:
    """One run: what came out, how long it took, whether to trust it, and where it was made."""
    run = item.results
    facts = run.provenance
    minutes = {**item.minutes, "evaluation": facts.seconds / 60}
    failed = [key for key, check in run.checks.items() if not check.passed]
    cells = (
        str(facts.seed),
        interval([run.mean["both"]["auroc"]]),
        "; ".join(f"{stage} {value:.1f}" for stage, value in minutes.items()),
        f"{sum(minutes.values()):.0f}",
        f"{run.verdict} ({f'FAILED: {failed}' if failed else f'all {len(run.checks)} passed'})",
        f"commit {facts.commit}, {facts.hardware}, {facts.date}",
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
