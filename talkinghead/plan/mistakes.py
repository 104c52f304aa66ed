"""What is wrong with a field of a request, in words: the field, what came, what is allowed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from talkinghead.plan.fields import PromptFields, RequestFields, SpeakerFields
from talkinghead.plan.json_values import json_fault
from talkinghead.plan.shown import shown

SHOWN_CHARACTERS = 80


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
    got = _shown(mistake.get("input"), field)
    if mistake["type"] == "extra_forbidden":
        return _unknown_field(field, mistake["loc"], got)
    if mistake["type"] == "missing":
        return Problem(field, f"Missing required parameter: {field}")
    allowed = _allowed(mistake)
    if (right := _unquoted(mistake)) is not None:
        sentence = f'{field}: got "{got}", a text; write {right} without quotes'
        return Problem(field, sentence, got, allowed)
    return Problem(field, f"{field} is {got!r}, allowed: {allowed}", got, allowed)


def json_problem(name: object, value: object) -> Problem | None:
    """What of a field JSON does not have, its name included."""
    fault = json_fault({name: value})
    return None if fault is None else Problem(fault[0], f"{fault[0]}: {fault[1]}")


def _field_path(loc: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in loc)


def _model_at(loc: tuple[int | str, ...]) -> type[BaseModel]:
    """What the last name of the path is a field of."""
    if len(loc) == 1:
        return RequestFields
    return PromptFields if loc[0] == "prompts" else SpeakerFields


def _unknown_field(field: str, loc: tuple[int | str, ...], got: object) -> Problem:
    model = _model_at(loc)
    near = difflib.get_close_matches(str(loc[-1]), model.model_fields, 1, cutoff=0.5)
    hint = f"; the nearest known one is {near[0]}" if near else ""
    return Problem(field, f"{field} is not a known field{hint}", got, near or None)


def _shown(value: object, field: str) -> object:
    """What came, short and without the secrets that URLs carry."""
    if isinstance(value, str):
        text = shown(value, field)
        return text if len(text) <= SHOWN_CHARACTERS else _beginning(text)
    if isinstance(value, Collection):
        return f"{type(value).__name__} of {len(value)}"
    return value


def _beginning(text: str) -> str:
    """Of a word as long as that, which may be a file, less than of a sentence."""
    start = text[: SHOWN_CHARACTERS - 3]
    return f"{start}..." if " " in start else f"{text[:17]}... ({len(text)} characters)"


def _unquoted(mistake: ErrorDetails) -> str | None:
    """How the number, true or false that came as text is written; None for another mistake."""
    kind, value = mistake["type"], mistake.get("input")
    if not isinstance(value, str):
        return None
    text = value.strip().lower()
    if kind == "bool_type":
        return text if text in ("true", "false") else None
    if kind not in ("int_type", "float_type") or not re.fullmatch(r"-?\d{1,16}(\.\d{1,9})?", text):
        return None
    whole = text.rstrip("0").rstrip(".") if "." in text else text
    return whole if kind == "float_type" or "." not in whole else None


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
    schema = _model_at(loc).model_json_schema()["properties"].get(loc[-1], {})
    bounds = schema.get("anyOf", [schema])[0]
    match bounds:
        case {"minLength": low}:
            return f"{low} or more characters"
        case {"minItems": low, "maxItems": high}:
            return f"{low} items" if low == high else f"{low} to {high} items"
        case {"exclusiveMinimum": low}:
            return f"more than {low}"
        case {"minimum": low, "maximum": high}:
            return f"{low} to {high}"
        case {"minimum": low}:
            return f"{low} or more"
    return None
