"""The JSON Schema of a job, for docs/request.schema.json and the table of docs/request.md."""

from __future__ import annotations

from typing import Any

from talkinghead.plan.fields import RequestFields, field_order


def request_schema(examples: list[dict[str, Any]]) -> dict[str, Any]:
    """The JSON Schema of a job: an object whose `input` holds the request.

    The rules between fields are not in it: `parse_request` tells of those. null is the same as a
    field that is not there, also where the field has a default.
    """
    fields = RequestFields.model_json_schema()
    definitions = fields.pop("$defs")
    fields["properties"] = {name: _nullable(fields["properties"][name]) for name in field_order()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A job of the talkinghead worker",
        "type": "object",
        "required": ["input"],
        "properties": {"input": fields},
        "$defs": definitions,
        "examples": examples,
    }


def _nullable(field: dict[str, Any]) -> dict[str, Any]:
    if "anyOf" in field:
        return field
    about = {key: field.pop(key) for key in ("default", "title", "description")}
    return {"anyOf": [field, {"type": "null"}], **about}
