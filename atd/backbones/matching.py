"""Which tensors of a weight file belong to a network, and why they do not fit if they do not."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from atd.backbones.checkpoints import Table
from atd.backbones.layouts import looks_like, renamed
from atd.errors import UserError

__all__ = ["Match", "best_match", "refuse_misfit"]

_NOT_NEEDED = re.compile(
    r"(^|\.)(num_batches_tracked|n_averaged|total_ops|total_params|relative_position_index"
    r"|attn_mask|position_ids|mask_token)$"
    r"|(^|\.)(aux_logits|AuxLogits|aux1|aux2|aux_classifier|head_dist)\."
)
"""What other versions of the same network hold besides, and what only training needs."""


_DEEPEST = 12
"""Wrappers around a network that are looked through."""


@dataclass(frozen=True, slots=True)
class Match:
    """A network's tensors found in a file.

    Attributes:
        found: Tensors by the network's names.
        where: Key and prefix under which they lay.
        unknown: Tensors beside them that the network does not have, by names without the prefix.
        rest: All tensors of the same table that are not the network's, by their full names.
        others: Keys of the file that hold such a network too.
    """

    found: dict[str, Tensor]
    where: str
    unknown: dict[str, Tensor]
    rest: dict[str, Tensor]
    others: list[str]


def best_match(path: Path, tables: Sequence[Table], expected: Mapping[str, Tensor]) -> Match:
    """Finds the network in a file, whatever wraps its names (`module.`, `model.`, ...).

    Args:
        path: The file, for messages.
        tables: Its tensors.
        expected: The network's own tensors.

    Returns:
        The place where most of its names are found; averaged weights are preferred.

    Raises:
        UserError: It holds two different networks of this kind side by side.
    """
    places = [
        (-names, -shapes, table.rank, len(prefix), number, prefix)
        for number, table in enumerate(tables)
        for prefix, (names, shapes) in _prefixes(table, expected).items()
    ]
    if not places:
        return Match({}, "", tables[0].tensors, tables[0].tensors, [])
    best, *others = sorted(places)
    match = _taken(tables[best[4]], best[5], expected)
    for place in others:
        twin = _taken(tables[place[4]], place[5], expected)
        if place[:2] != best[:2]:
            break
        if all(value.equal(twin.found[key]) for key, value in match.found.items()):
            continue
        if place[2] == best[2]:
            raise UserError(
                f"{path}: holds several networks of this architecture, under "
                f"{match.where or 'no key'} and {twin.where}; save the one that is meant alone"
            )
        match.others.append(twin.where)
    return match


def _prefixes(table: Table, expected: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
    """How many names, and how many shapes, of the network each prefix would account for."""
    names: Counter[str] = Counter()
    shapes: Counter[str] = Counter()
    for key, value in table.tensors.items():
        parts = key.split(".")
        for at in range(min(len(parts), _DEEPEST)):
            name = renamed(".".join(parts[at:]))
            if name in expected:
                prefix = "".join(f"{part}." for part in parts[:at])
                names[prefix] += 1
                shapes[prefix] += value.shape == expected[name].shape
    return {prefix: (count, shapes[prefix]) for prefix, count in names.items()}


def _taken(table: Table, prefix: str, expected: Mapping[str, Tensor]) -> Match:
    match = Match({}, ".".join(filter(None, (table.where, prefix[:-1]))), {}, {}, [])
    for key, value in table.tensors.items():
        name = renamed(key.removeprefix(prefix))
        if key.startswith(prefix) and name in expected:
            match.found[name] = value
            continue
        match.rest[key] = value
        if key.startswith(prefix) and not _NOT_NEEDED.search(name):
            match.unknown[name] = value
    return match


def refuse_misfit(path: Path, title: str, match: Match, expected: Mapping[str, Tensor]) -> None:
    """Refuses weights that are not exactly the network's.

    Args:
        path: The file.
        title: The network's architecture.
        match: What was found in the file.
        expected: What the network needs.

    Raises:
        UserError: Names are missing or unknown, or shapes differ; the first few are named, and
            the likely reason.
    """
    missing = [key for key in expected if key not in match.found]
    reshaped = [
        f"{key} is {tuple(match.found[key].shape)} instead of {tuple(value.shape)}"
        for key, value in expected.items()
        if key in match.found and match.found[key].shape != value.shape
    ]
    faults = [
        f"{words} {', '.join(names[:3])}" + (f" and {len(names) - 3} more" if names[3:] else "")
        for words, names in (
            ("lacks", missing),
            ("has", [name[:80] for name in match.unknown]),
            ("shape:", reshaped),
        )
        if names
    ]
    if faults:
        reason = _reason(match, expected)
        raise UserError(f"{path}: does not fit {title}: {'; '.join(faults)}; {reason}")


def _reason(match: Match, expected: Mapping[str, Tensor]) -> str:
    """The likely cause of a misfit and its remedy."""
    differing = [
        key
        for key, value in expected.items()
        if key in match.found and match.found[key].shape != value.shape
    ]
    first = next((key for key, value in expected.items() if value.ndim == 4), "")
    if differing and all("pos" in key or "relative" in key for key in differing):
        side = _side(match.found[differing[0]], match.found.get(first))
        return f"it was made for images of another size; set data.image_size{side}"
    if first in differing and match.found[first].ndim == 4:
        theirs, ours = match.found[first].shape[1], expected[first].shape[1]
        if theirs != ours:
            return (
                f"it was trained on images of {theirs} channels, these have {ours}; set "
                f"data.channels={theirs}"
            )
    if found := _looks_like(match.unknown | match.found):
        return f"these look like weights of {found}; choose that as backbone.architecture"
    if len(match.found) < len(expected) / 2:
        return "these are weights of another network; set backbone.architecture to the right one"
    return "it is another variant of this network; check backbone.architecture and its options"


def _side(positions: Tensor, patches: Tensor | None) -> str:
    """The image size that a vision transformer's table of positions was made for."""
    if positions.ndim != 3 or patches is None or patches.ndim != 4:
        return " to its own"
    return f"={math.isqrt(positions.shape[1]) * patches.shape[-1]}"


def _looks_like(tensors: Mapping[str, Tensor]) -> str:
    """Whose weights these are, with or without a prefix."""
    prefixes = {""}
    for key in tensors:
        parts = key.split(".")[:4]
        prefixes |= {"".join(f"{part}." for part in parts[:at]) for at in range(len(parts))}
    for prefix in sorted(prefixes, key=len)[:100]:
        inner = {
            renamed(key.removeprefix(prefix)): value
            for key, value in tensors.items()
            if key.startswith(prefix)
        }
        if found := looks_like(inner):
            return found
    return ""
