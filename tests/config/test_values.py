"""Every option of every group: its type is known, and every number has a range that is kept."""

import dataclasses
import math
from typing import Annotated, Literal, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atd.config import Config
from atd.config.ranges import OptionError, Range
from atd.config.values import build, option_types, settle

GROUPS = {
    name: kind for name, kind in option_types(Config).items() if dataclasses.is_dataclass(kind)
}
NUMBERS = [
    (name, option, kind)
    for name, group in GROUPS.items()
    for option, kind in option_types(group).items()
    if get_origin(kind) is Annotated
]


def test_every_number_has_a_range() -> None:
    for name, group in GROUPS.items():
        for option, kind in option_types(group).items():
            inner = get_args(kind)[0] if get_origin(kind) is list else kind
            assert inner not in (int, float), f"{name}.{option}: declare a Range"
            if get_origin(inner) is Annotated:
                assert sum(isinstance(mark, Range) for mark in get_args(inner)) == 1
            else:
                assert inner in (str, bool) or get_origin(inner) is Literal, f"{name}.{option}"


@pytest.mark.parametrize(("name", "option", "kind"), NUMBERS, ids=lambda value: str(value)[:30])
def test_a_number_out_of_its_range_is_refused_by_its_key(name, option, kind) -> None:
    base, allowed = get_args(kind)
    outside = [allowed.low - 1, allowed.high + 1, math.nan, math.inf, -math.inf, 10**400]
    outside += [allowed.low] * allowed.above + [allowed.high] * allowed.below
    for value in outside:
        for written in (value, str(value) if value != 10**400 else "1e400"):
            with pytest.raises(OptionError, match=f"^{name}.{option}=") as caught:
                GROUPS[name](**{option: written})
            assert caught.value.key == f"{name}.{option}"
            assert len(str(caught.value)) < 200
    assert getattr(GROUPS[name](), option) in allowed


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    rate: Annotated[float, Range(0, 10)] = 1.0
    steps: Annotated[int, Range(0, 10)] = 1
    flag: bool = False
    word: str = ""
    choice: Literal["", "a", "b"] = ""
    number: Literal[0, 2] = 0
    limit: Annotated[float, Range(0, 10)] | None = None
    record: dict[str, object] = dataclasses.field(default_factory=dict)
    mean: list[Annotated[float, Range(0, 1)]] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        settle(self, "example")


def test_text_becomes_what_the_type_says() -> None:
    written = {"rate": "8/255", "steps": "+7", "flag": "Yes", "word": "1", "choice": "a"}
    found = build(Example, written | {"number": "2", "mean": "0.5,1/4"}, "example")
    assert found == Example(
        rate=8 / 255, steps=7, flag=True, word="1", choice="a", number=2, mean=[0.5, 0.25]
    )
    assert type(Example(rate=1).rate) is float
    assert [Example(limit=text).limit for text in ("", "null", "3")] == [None, None, 3.0]


@given(rate=st.floats(0, 10), steps=st.integers(0, 10), flag=st.booleans(), word=st.text())
def test_values_and_their_text_mean_the_same(rate, steps, flag, word) -> None:
    word = word.replace("\0", "")
    values = {"rate": rate, "steps": steps, "flag": flag, "word": word}
    as_text = {key: value if key == "word" else repr(value) for key, value in values.items()}
    assert Example(**values) == Example(**as_text)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("steps", True),
        ("steps", 1.0),
        ("steps", "1.0"),
        ("steps", " 1"),
        ("steps", "0x1"),
        ("steps", []),
        ("steps", None),
        ("rate", "1e"),
        ("rate", "1/2/3"),
        ("rate", "nan"),
        ("rate", True),
        ("flag", 1),
        ("flag", "y"),
        ("word", 7),
        ("word", None),
        ("word", "x" * 30_000),
        ("choice", "A"),
        ("number", True),
        ("number", 2.0),
        ("number", 1),
        ("limit", "nan"),
        ("limit", "11"),
        ("record", []),
        ("record", {1: 2}),
        ("mean", {}),
        ("mean", "0.5,2"),
        ("mean", ["x"]),
    ],
)
def test_another_type_is_refused(option: str, value: object) -> None:
    with pytest.raises(OptionError, match=f"example.{option}"):
        build(Example, {option: value}, "example")


def test_a_number_without_a_range_is_a_fault_of_the_class() -> None:
    @dataclasses.dataclass
    class Forgotten:
        steps: int = 1

    Forgotten.__annotations__["steps"] = int
    with pytest.raises(TypeError, match="Range"):
        settle(Forgotten(), "forgotten")


@pytest.mark.parametrize("option", ["rate", "steps", "flag", "number", "limit", "record", "mean"])
def test_a_stored_value_that_became_text_is_damage(option: str) -> None:
    with pytest.raises(OptionError, match=f"example.{option}='1': it must not be text"):
        build(Example, {option: "1"}, "example", stored=True)
    assert build(Example, {"word": "1", "choice": "a"}, "example", stored=True).word == "1"


def test_what_has_no_default_must_be_given() -> None:
    @dataclasses.dataclass(frozen=True)
    class Needed:
        word: str

    Needed.__annotations__["word"] = str
    with pytest.raises(OptionError, match="^word is missing"):
        build(Needed, {"other": 1}, "", ignore_unknown=True)


def test_unknown_option_names_the_nearest() -> None:
    with pytest.raises(
        OptionError, match=r"example\.step: unknown key; did you mean example\.steps"
    ):
        build(Example, {"step": 1}, "example")
    with pytest.raises(OptionError, match=r"example\.qqqq: unknown key; did you mean example\."):
        build(Example, {"qqqq": 1}, "example")
