"""Config files: scalars stay text, and nothing in them can act or grow."""

import time

import pytest

from atd.config.yaml_text import parse_yaml

BOMB = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)
)


def test_scalars_stay_text() -> None:
    found = parse_yaml(b"atd: {epochs: 007, x: no}\ndata:\n  id: 8/255\n  far: [1e5, 'a b', ~]\n")
    assert found == {
        "atd": {"epochs": "007", "x": "no"},
        "data": {"id": "8/255", "far": ["1e5", "a b", "~"]},
    }


@pytest.mark.parametrize("content", [b"", b"# nothing\n", b"---\n", b"\xef\xbb\xbf"])
def test_an_empty_file_holds_no_options(content: bytes) -> None:
    assert parse_yaml(content) == {}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("atd: {epochs: 1}".encode("utf-16"), "UTF-8"),
        (b"a: 1\nb: \xff", "line 2: not UTF-8"),
        (b"- 1\n", "groups of options"),
        (b"a: 1\nb: 2\na: 3\n", "line 3: a is given twice"),
        (b"a: {b: 1, b: 2}", "b is given twice"),
        (BOMB.encode(), "line 1: anchors"),
        (b"a: *b", "aliases"),
        (b"a: !!python/object/apply:os.system ['id']", "tags"),
        (b"? [a]\n: 1", "a key must be a word"),
        (b"[" * 100_000, "nested too deeply"),
        (b"a: {" * 1000, "nested too deeply"),
        (b"x" * 300_000, "larger than"),
        (b"a: 1\n---\nb: 1\n", "line 2: a second document"),
        (b"a: [1\n", "not valid YAML"),
        (b"a: \x01", "not valid YAML"),
        (b"%YAML 9.9\n---\na: 1", "not valid YAML"),
    ],
)
def test_anything_else_is_one_line_with_its_place(content: bytes, words: str) -> None:
    since = time.process_time()
    with pytest.raises(ValueError, match=words) as caught:
        parse_yaml(content)
    assert time.process_time() - since < 5
    assert "\n" not in str(caught.value)
