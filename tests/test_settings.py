"""Values against annotations of settings."""

from typing import Any, Literal

import pytest

from aekit.settings import is_a, words

PAIR = tuple[float, float]
WIDTHS = tuple[int, ...] | None


@pytest.mark.parametrize(
    ("value", "hint", "suits"),
    [
        (3, int, True),
        (3, float, True),
        (3.5, int, False),
        (True, int, False),
        (True, float, False),
        (True, bool, True),
        ("3", int, False),
        (None, int, False),
        (None, int | None, True),
        ([1, 2], WIDTHS, True),
        ((), WIDTHS, True),
        ([1, 2.5], WIDTHS, False),
        (4, WIDTHS, False),
        ((0.9, 1), PAIR, True),
        ((0.9,), PAIR, False),
        ("one", Literal["one", "two"], True),
        ("three", Literal["one", "two"], False),
        ("word", tuple[str, ...], False),
    ],
)
def test_values_suit_annotations(value: Any, hint: Any, suits: bool) -> None:
    assert is_a(value, hint) is suits


def test_annotations_are_put_in_words() -> None:
    assert words(int | None) == "a whole number or none"
    assert words(WIDTHS) == "a list of whole numbers or none"
    assert words(PAIR) == "2 numbers"
    assert words(Literal["one", "two"]) == "one or two"
