"""What JSON can carry: asked of what comes in, and made of what goes out.

Python reads and writes more than there is: NaN, and half of a character (a lone surrogate, as
JavaScript's slice() leaves of an emoji). An answer that repeats one cannot be encoded, and is lost.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

DEEPEST = 100  # of values in values: what reads them calls itself
DIGITS_BITS = 1024  # of a whole number: the range of JavaScript's, and of a float's


def json_fault(value: object, field: str = "", depth: int = 0) -> tuple[str, str] | None:
    """The first value in `value` that JSON does not have: its field, and what is wrong with it."""
    if depth > DEEPEST:
        return field, f"it is nested deeper than {DEEPEST} values"
    if isinstance(value, Mapping | list | tuple):
        found = (
            fault if (fault := _name_fault(name, field)) else json_fault(item, at, depth + 1)
            for name, at, item in _items(value, field)
        )
        return next((fault for fault in found if fault), None)
    why = _why(value)
    return (field, why) if why else None


def encodable(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result as JSON can carry it: what JSON does not have is escaped, or null."""
    return {_text(str(name)): _encodable(value) for name, value in result.items()}


def _encodable(value: object, depth: int = 0) -> object:
    if depth > DEEPEST:
        return "..."
    if isinstance(value, Mapping):
        return {_text(str(name)): _encodable(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encodable(item, depth + 1) for item in value]
    if value is None or isinstance(value, int | float):
        return None if _why(value) else value
    return _text(str(value))


def _items(
    value: Mapping[object, object] | list[object] | tuple[object, ...], field: str
) -> Iterator[tuple[object, str, object]]:
    """Of each item its name, if it has one, its field, and itself."""
    before = f"{field}." if field else ""
    if isinstance(value, Mapping):
        yield from ((name, before + _text(str(name))[:80], item) for name, item in value.items())
    else:
        yield from ((None, f"{before}{index}", item) for index, item in enumerate(value))


def _name_fault(name: object, field: str) -> tuple[str, str] | None:
    if name is None:
        return None
    where = f"{field}." if field else ""
    if not isinstance(name, str):
        return f"{where}{_text(str(name))[:80]}", "the name of a field is no text"
    why = _why(name)
    return (f"{where}{_text(name)[:80]}", f"its name has {why}") if why else None


def _why(value: object) -> str | None:
    """What of a value that holds no others JSON does not have."""
    if isinstance(value, str):
        return _broken_character(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "no number: JSON has no NaN and no Infinity"
    if isinstance(value, int) and value.bit_length() > DIGITS_BITS:
        return "a number of more than 308 digits"
    known = value is None or isinstance(value, bool | int | float)
    return None if known else f"a {type(value).__name__}, which JSON does not have"


def _broken_character(text: str) -> str | None:
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return (
            f"half of a character ({text[error.start]!a}) at its character {error.start + 1}: cut "
            "texts between characters"
        )
    return None


def _text(text: str) -> str:
    """The text; halves of characters are written out."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
