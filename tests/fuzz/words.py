"""Options from anywhere: words of the command line, config files, stored records."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import get_type_hints

import atd.config
from atd.commands import train
from atd.config import Config, find_config, load, restore, to_yaml
from atd.config.values import known_keys
from atd.errors import UserError
from tests.fuzz.mutations import NUMBERS, TEXTS, damaged_bytes, damaged_text, damaged_value

KEYS = known_keys(Config)
TEXT_KEYS = [
    f"{name}.{option}"
    for name, group in get_type_hints(Config).items()
    if dataclasses.is_dataclass(group)
    for option, kind in get_type_hints(group).items()
    if kind is str
]
_BOMB = "\n".join(
    f"{b}: &{b} [*{a}, *{a}, *{a}]" for a, b in zip("bcdefghi", "abcdefgh", strict=True)
)
SNIPPETS = [
    "&a [x, x]",
    "a: &a [x]\n" + _BOMB,
    "*a",
    "!!python/object/apply:os.system ['touch canary']",
    "!!binary aGk=",
    "<<: {epochs: 3}",
    "? [a, b]\n: c",
    "- - - - - - - - - -",
    "[" * 2000,
    "{a: " * 500,
    "--- x\n--- y\n",
    "%TAG ! tag:x,2000:\n---\n",
    "|\n  text\n   more\n",
    "\ufeff",
    "\t",
    "'",
    '"\\xZZ"',
    "a: 1\na: 2\n",
]


def an_override(rng: Random, _: Path) -> Callable[[], object]:
    """One to four words of a command line."""
    words = []
    for _ in range(rng.choice((1, 1, 2, 4))):
        key = rng.choice(KEYS) if rng.random() < 0.8 else damaged_text(rng, rng.choice(KEYS))
        value = rng.choice([*TEXTS, *map(_written, NUMBERS), damaged_text(rng, "0.5")])
        word = f"{key}={value}"
        words.append(damaged_text(rng, word) if rng.random() < 0.1 else word)

    def case() -> object:
        config = load(None, words)
        written = dict(word.partition("=")[::2] for word in words)
        for key in TEXT_KEYS:
            group, _, option = key.partition(".")
            found = getattr(getattr(config, group), option)
            if key in written:
                assert found == written[key], f"{key} is not as written"
        return to_yaml(config)

    return case


def a_command(rng: Random, _: Path) -> Callable[[], object]:
    """A whole command line of `train.py --dry-run`."""
    words = [f"{rng.choice(KEYS)}={rng.choice(TEXTS)}"]
    if rng.random() < 0.5:
        words.insert(rng.randrange(2), damaged_text(rng, rng.choice(("--config", "x", "a=b"))))
    elif rng.random() < 0.5:
        words += ["--config", rng.choice((*TEXTS, "cifar10", "configs/digits.yaml"))]

    _honest_dry_run()  # imports whatever an honest one needs
    return lambda: _told(words)


@cache
def _honest_dry_run() -> str:
    return _told([])


def _told(words: list[str]) -> str:
    """What `train.py --dry-run` prints."""
    told, wrong = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    sys.argv = ["train.py", "--dry-run", *(word.replace("\0", "") for word in words)]
    try:
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(wrong):
            train.main()
    except SystemExit as stop:
        if stop.code != 2:
            raise
        raise UserError(wrong.getvalue().strip().split("\n")[-1]) from None
    told.seek(0)
    return told.read()


def _written(number: float) -> str:
    return str(number)


def a_config_file(rng: Random, scratch: Path) -> Callable[[], object]:
    """A shipped YAML file, damaged."""
    shipped = sorted(find_config(None).parent.glob("*.yaml"))
    content = rng.choice(shipped).read_bytes()
    match rng.randrange(5):
        case 0:
            lines = content.decode().split("\n")
            at = rng.randrange(len(lines))
            lines[at:at] = [rng.choice(SNIPPETS)]
            content = "\n".join(lines).encode()
        case 1:
            words = content.decode().split(" ")
            words[rng.randrange(len(words))] = rng.choice([*SNIPPETS, *TEXTS])
            content = " ".join(words).encode("utf-8", "surrogatepass")
        case 2:
            content = content.decode().encode(rng.choice(["utf-16", "utf-32", "cp037"]))
        case _:
            content = damaged_bytes(rng, content)
    file = scratch / "config.yaml"
    file.write_bytes(content)
    return lambda: to_yaml(load(file, ["atd.epochs=3"]))


def a_record(rng: Random, _: Path) -> Callable[[], object]:
    """The options stored with a detector, damaged."""
    stored = damaged_value(rng, dataclasses.asdict(Config()))
    if not isinstance(stored, dict):
        stored = {"atd": stored}
    return lambda: atd.config.to_yaml(restore(stored, "config.json"))
