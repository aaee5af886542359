"""Rows of a table, each with every seed: what is finished is kept as JSON beside the page."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from atd.config import Config
from atd.errors import UserError, printable
from atd.experiments.setting import Setting
from atd.files import write_text
from atd.provenance import commit, provenance
from atd.records import from_json

__all__ = ["Record", "Runs", "finished_runs", "run_missing", "typed", "write"]

Record = dict[str, Any]
Runs = dict[str, Record]
"""What was found, by `ROW/SEED`."""
T = TypeVar("T")


def run_missing(
    output: Path,
    rows: Iterable[str],
    seeds: Iterable[int],
    *,
    setting: Setting,
    configure: Callable[[str, int], Config],
    measure: Callable[[str, Config], Record],
    page: Callable[[Runs], str],
) -> None:
    """Measures each row with each seed that the JSON file beside the page lacks.

    A record with the key `refused` is shown and does not count as finished.

    Args:
        output: The page; the JSON file has the same name.
        rows: Names of the rows.
        seeds: Seeds of each.
        setting: The config of all of them and its scale; rows begin with its name.
        configure: The options of a row with a seed.
        measure: Tells what came of a row with its options.
        page: The page of all runs so far.

    Raises:
        UserError: The JSON file is damaged or holds rows of another config of that name, or the
            files cannot be written.
    """
    file = output.with_suffix(".json")
    _require_same(setting, finished_runs(file), file)
    # The code of a run is what was loaded, whatever is committed while it computes.
    code, rows = commit(), list(rows)
    for seed in seeds:
        for row in rows:
            key = f"{row}/{seed}"
            if "refused" not in finished_runs(file).get(key, {"refused": "not tried yet"}):
                continue
            config = configure(row, seed)
            started = time.monotonic()
            found = measure(row, config)
            facts = provenance(config, seed=seed, seconds=time.monotonic() - started)
            told = {"setting_sha256": setting.digest, "provenance": {**facts, "commit": code}}
            record = {**found, **told}
            # Read again: another process may have added runs meanwhile.
            runs = {**finished_runs(file), key: record}
            write(file, json.dumps(runs, indent=1))
            write(output, page(runs))
    if runs := finished_runs(file):  # the page may have changed since
        write(output, page(runs))


def _require_same(setting: Setting, runs: Runs, file: Path) -> None:
    """Configs of one name are not to be taken for one another."""
    for key, run in runs.items():
        ours = key.startswith(f"{setting.name}/") and "refused" not in run
        if ours and not setting.made(run):
            config = run.get("config", setting.config)
            edited = " with other options" if config == setting.config else ""
            raise UserError(
                f"{file}: its rows of {setting.name} are of {printable(str(config))}{edited}; "
                "choose another --output and --work"
            )


def finished_runs(file: Path) -> Runs:
    """The runs of a JSON file; none where there is no file.

    Raises:
        UserError: It cannot be read or holds something else.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(run, dict) for run in found.values()):
        raise UserError(f"{file}: no runs of an experiment; move it away, or choose another output")
    return found


def typed(kind: type[T], runs: Runs) -> dict[str, T]:
    """Finished runs as values of a type.

    Raises:
        UserError: One is not of it.
    """
    try:
        return {key: from_json(kind, run, key) for key, run in runs.items()}
    except ValueError as error:
        raise UserError(f"the finished rows are damaged: {error}") from None


def write(file: Path, text: str) -> None:
    """Writes a file of a page.

    Raises:
        UserError: It cannot be written.
    """
    try:
        write_text(file, text)
    except OSError as error:
        raise UserError(f"{file}: cannot be written ({error.strerror})") from None
