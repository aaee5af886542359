"""Writes a results document from a run folder, so that no number is typed in by hand.

python -m benchmarks.publish checkpoints/my_cifar10_small docs/results/cifar10_small.md
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from atd.errors import UserError, run_command
from atd.evaluation.results import Dataset, Means, Results, read_results
from atd.files import write_text
from atd.reporting.wording import attack_words, aurocs


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
    results = read_results(file)
    text = page(results, stage_minutes(arguments.run), arguments.run.name)
    write_text(arguments.output, text)
    write_text(arguments.output.with_suffix(".json"), json.dumps(results.to_json(), indent=1))


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


def page(results: Results, minutes: dict[str, float], name: str) -> str:
    """The document."""

    def row(title: str, item: Means | Dataset) -> str:
        return f"| {title} | {' | '.join(aurocs(item))} |"

    sets = [
        row(f"{key} ({item.role})", item) + f" {item.images} |"
        for key, item in results.datasets.items()
    ]
    means = [row(f"**ATD, mean of {len(results.mean_over)} far sets**", results.mean)]
    means += [row(f"{key}, the same mean", item.mean) for key, item in results.baselines.items()]
    facts, attack = results.provenance, attack_words(results.attack)
    evaluation = facts.seconds / 60
    total = sum(minutes.values()) + evaluation
    stages = [f"{stage} {value:.1f}" for stage, value in minutes.items()]
    checks = [f"- {key}: {'passed' if c.passed else 'FAILED'}" for key, c in results.checks.items()]
    return f"""# {name}

AUROC in %, with nothing, the ID images, the OOD images, or both attacked: {attack}.
ID: {results.id.name}, {results.id.images} test images.

| OOD set | clean | in | out | both | images |
|---|---|---|---|---|---|
{chr(10).join(sets)}

| score of the same backbone | clean | in | out | both |
|---|---|---|---|---|
{chr(10).join(means)}

Verdict of the attack's checks: {results.verdict}.

{chr(10).join(checks)}

`python train.py --config configs/{name}.yaml`, seed {facts.seed}, commit {facts.commit},
{facts.hardware}, {facts.date}. Minutes: {", ".join(stages)}, evaluation {evaluation:.1f};
{total:.0f} in all. Made by `python -m benchmarks.publish`; all numbers are in the JSON file of the
same name.
"""


if __name__ == "__main__":
    main()
