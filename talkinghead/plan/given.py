"""What of an object is given: not what is null, nor what a form left blank."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PROMPTS = ("prompt", "positive_prompt", "negative_prompt")


def as_given(data: Mapping[str, Any]) -> dict[str, Any]:
    """An object without blanks around its texts, but for prompts, and without blank fields.

    A form sends those that nobody filled in; so it does at the end of a list.
    """
    trimmed = {name: _without_blanks(name, value) for name, value in data.items()}
    return {name: value for name, value in trimmed.items() if value not in (None, "")}


def _without_blanks(name: str, value: object) -> object:
    if isinstance(value, str):
        return value if name in PROMPTS and value.strip() else value.strip()
    if not isinstance(value, list) or not value:
        return value
    count = len(value)
    while count and isinstance(value[count - 1], str) and not value[count - 1].strip():
        count -= 1
    return value[:count] or None
