"""Whether a value is of the type that a setting's annotation names: settings come from flags, files and notebooks."""

from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def is_a(value: object, hint: Any) -> bool:
    """Whether `value` suits an annotation of numbers, words, tuples of them, alternatives, None and dictionaries.

    A whole number passes for a float, a list for a tuple, any dictionary for another; a bool is no number.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(is_a(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if origin is tuple:
        if not isinstance(value, list | tuple):
            return False
        each = inner[:1] * len(value) if Ellipsis in inner else inner
        return len(each) == len(value) and all(map(is_a, value, each))
    if origin is dict:
        return isinstance(value, dict)
    if hint is None or hint is type(None):
        return value is None
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, int | float if hint is float else hint)


def check_types(kind: type, values: dict[str, Any]) -> None:
    """Raises TypeError for a value that does not suit its field of a data class."""
    hints = get_type_hints(kind)
    for name, value in values.items():
        if not is_a(value, hints[name]):
            raise TypeError(f"{name} is {value}")


def words(hint: Any) -> str:
    """The annotation as a user reads it: "a whole number", "a list of numbers or none"."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(words(one) for one in inner)
    if origin is Literal:
        return " or ".join(map(str, inner))
    if origin is tuple:
        many = words(inner[0]).removeprefix("a ") + "s"
        return f"a list of {many}" if Ellipsis in inner else f"{len(inner)} {many}"
    names = {int: "a whole number", float: "a number", str: "a word", bool: "true or false"}
    return names.get(hint, "none")
