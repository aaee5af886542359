"""Damages of bytes, of JSON values and of words, all drawn from a given random stream."""

from __future__ import annotations

import copy
import json
import struct
from random import Random
from typing import Any

NUMBERS: list[Any] = [0, 1, -1, 2, 3, 7, 255, 256, 65535, 2**31 - 1, 2**31, 2**63, 10**8, 10**13]
NUMBERS += [10**100, -(10**30), 0.5, -0.0, 1e-320, 1e308, float("nan"), float("inf"), -1e999]
TEXTS = [
    "",
    " ",
    "0",
    "nan",
    "-inf",
    "1e999",
    "8/255",
    "1/0",
    "true",
    "null",
    "007",
    "{}",
    "[]",
    "[[[[",
    "a,,b",
    "..",
    "../../canary",
    "/canary/file",
    "/dev/zero",
    "~/canary",
    "${oc.env:ATD_FUZZ_SECRET}",
    "$ATD_FUZZ_SECRET",
    "{ATD_FUZZ_SECRET}",
    "%(ATD_FUZZ_SECRET)s",
    "!!python/object/apply:os.system ['id']",
    "__import__('os').system('id')",
    "import:os:getcwd",
    "import:canary:make",
    "import:antigravity:x",
    "timm:vit_gigantic_patch14_224",
    "timm:nothing",
    "hf-hub:canary/canary",
    "https://canary.invalid/x.pt",
    "file:///canary",
    "folder:/proc/self/mem",
    "<script>alert(1)</script>",
    "'\"><img src=x onerror=alert(1)>",
    "=1+1",
    "\x1b[31mred\x07",
    "line\nbreak\r\n",
    "nul\0byte",
    "\udcff\udc80",
    "\u202egnp.exe",
    "Grüße 写真",
    "x" * 5000,
    "9" * 5000,
    ".".join("a" * 2001),
]
VALUES: list[Any] = [*NUMBERS, *TEXTS, True, False, None, [], {}, [[]], [0], {"": {}}, [None, "a"]]


def damaged_bytes(rng: Random, content: bytes) -> bytes:
    """One to four damages of a file."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        length = rng.choice((1, 2, 4, 8, 64, 512))
        match rng.randrange(8):
            case 0 if data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            case 1 if data:
                data[at % len(data)] = rng.randrange(256)
            case 2:
                del data[at : at + length]
            case 3:
                data[at:at] = data[at : at + length] * rng.randint(1, 3)
            case 4:
                data[at:at] = rng.randbytes(length)
            case 5:
                del data[at:]
            case 6:
                number = rng.choice((0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1))
                order = rng.choice("<>")
                data[at : at + 4] = struct.pack(f"{order}I", number)
            case _:
                other = rng.randrange(len(data) + 1)
                data[at : at + length] = data[other : other + length]
    return bytes(data)


def damaged_value(rng: Random, tree: Any) -> Any:
    """A copy of a JSON value with one to three changes anywhere inside."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        tree = _changed(rng, tree)
    return tree


def _changed(rng: Random, tree: Any) -> Any:
    place = rng.choice(_places(tree))
    if not place:
        return rng.choice(VALUES) if rng.random() < 0.1 else tree
    parent = tree
    for step in place[:-1]:
        parent = parent[step]
    key = place[-1]
    match rng.randrange(7):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, dict):
            parent[_damaged_word(rng, str(key))] = parent.pop(key)
        case 2 if isinstance(parent, dict):
            parent[rng.choice(TEXTS)] = rng.choice(VALUES)
        case 3:
            parent[key] = _other_type(parent[key])
        case 4:
            parent[key] = [parent[key]] * rng.choice((1, 2, 1000))
        case _:
            parent[key] = rng.choice(VALUES)
    return tree


def _places(tree: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [above]
    if isinstance(tree, dict):
        for key, value in tree.items():
            found += _places(value, (*above, key))
    elif isinstance(tree, list) and len(tree) < 50:
        for index, value in enumerate(tree):
            found += _places(value, (*above, index))
    return found


def _other_type(value: Any) -> Any:
    match value:
        case bool():
            return str(value)
        case int() | float():
            return str(value)
        case str():
            return len(value)
        case dict():
            return list(value.items())
        case list():
            return {str(index): item for index, item in enumerate(value)}
    return 0


def _damaged_word(rng: Random, word: str) -> str:
    at = rng.randrange(len(word) + 1)
    extra = rng.choice(["", "x", ".", " ", "\0", "\n", "é", "\udcff", "$", "/", "..", "a" * 300])
    return word[:at] + extra + word[at + rng.randrange(2) :]


def damaged_text(rng: Random, word: str) -> str:
    """A word with a few changes, or another one."""
    if rng.random() < 0.4:
        return rng.choice(TEXTS)
    for _ in range(rng.randint(1, 3)):
        word = _damaged_word(rng, word)
    return word


def as_json(value: Any) -> bytes:
    """JSON as a stranger may write it: NaN, broken surrogates and all."""
    return json.dumps(value, ensure_ascii=True).encode()
