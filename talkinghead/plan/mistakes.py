"""What is wrong with a field of a request, in words: the field, what came, what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from pydantic_core import ErrorDetails

from talkinghead.plan.fields import RequestFields, SpeakerFields
from talkinghead.redact import redact_url


@dataclass(frozen=True)
class Problem:
    """One mistake: the field, what came, what is allowed, and a sentence with all three."""

    field: str
    message: str
    got: Any = None
    allowed: Any = None


def problem_of(mistake: ErrorDetails) -> Problem:
    """What pydantic says of one field, in our words."""
    field = _field_path(mistake["loc"])
    got = _shown(mistake.get("input"))
    if mistake["type"] == "extra_forbidden":
        return _unknown_field(field, mistake["loc"], got)
    if mistake["type"] == "missing":
        return Problem(field, f"Missing required parameter: {field}")
    allowed = _allowed(mistake)
    return Problem(field, f"{field} is {got!r}, allowed: {allowed}", got, allowed)


def _field_path(loc: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in loc)


def _unknown_field(field: str, loc: tuple[int | str, ...], got: object) -> Problem:
    model = RequestFields if len(loc) == 1 else SpeakerFields
    near = difflib.get_close_matches(str(loc[-1]), model.model_fields, 1, cutoff=0.5)
    hint = f"; the nearest known one is {near[0]}" if near else ""
    return Problem(field, f"{field} is not a known field{hint}", got, near or None)


def _shown(value: object) -> object:
    """What came, short and without the secrets that URLs carry."""
    if isinstance(value, str):
        text = redact_url(value) if "://" in value else value
        return text if len(text) <= 80 else text[:77] + "..."
    if isinstance(value, Collection):
        return f"{type(value).__name__} of {len(value)}"
    return value


_TYPES = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "a string",
    "bool_type": "true or false",
    "list_type": "a list",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "finite_number": "a finite number",
}


def _allowed(mistake: ErrorDetails) -> str:
    kind = mistake["type"]
    if kind in _TYPES:
        return _TYPES[kind]
    if kind == "string_pattern_mismatch":
        return "1 to 64 letters, digits, _ and -"
    if kind == "literal_error":
        return str(mistake["ctx"]["expected"]).replace("'", '"')
    return _range(mistake["loc"]) or mistake["msg"]


def _range(loc: tuple[int | str, ...]) -> str | None:
    """The range of a field in words, from its JSON Schema."""
    model = RequestFields if len(loc) == 1 else SpeakerFields
    schema = model.model_json_schema()["properties"].get(loc[-1], {})
    bounds = schema.get("anyOf", [schema])[0]
    match bounds:
        case {"minItems": low, "maxItems": high}:
            return f"{low} items" if low == high else f"{low} to {high} items"
        case {"exclusiveMinimum": low}:
            return f"more than {low}"
        case {"minimum": low, "maximum": high}:
            return f"{low} to {high}"
        case {"minimum": low}:
            return f"{low} or more"
    return None
