"""The JSON Schemas of requests and answers: for docs/, OpenAPI and the clients.

All of it follows from `fields` and `answers`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args

from pydantic import TypeAdapter

from talkinghead.plan.answers import (
    EstimateFields,
    FailureFields,
    ProgressFields,
    ResultFields,
)
from talkinghead.plan.fields import Delivery, RequestFields, field_order

DRAFT = "https://json-schema.org/draft/2020-12/schema"
ANSWERS: Mapping[str, Any] = {
    "Progress": ProgressFields,
    "Result": ResultFields,
    "Estimate": EstimateFields,
    "Failure": FailureFields,
}
WORKFLOW: dict[str, Any] = {
    "type": "object",
    "title": "WorkflowRequest",
    "description": "A workflow of one's own to run, where ALLOW_WORKFLOWS lets",
    "required": ["workflow"],
    "additionalProperties": False,
    "properties": {
        "workflow": {
            "type": ["object", "string"],
            "description": "A GUI file, or an API graph, or the text of one",
        },
        "files": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "What it loads: URLs by the names that its nodes have of them",
        },
        "delivery": {
            "type": ["string", "null"],
            "enum": [*get_args(Delivery), None],
            "description": "Where what it makes goes",
        },
        "price_per_hour": {
            "type": ["number", "null"],
            "exclusiveMinimum": 0,
            "description": "What an hour of the worker costs, for the result's `cost`",
        },
    },
}
POLICY: dict[str, Any] = {
    "type": "object",
    "title": "Policy",
    "description": "RunPod's limits of this one job, in milliseconds",
    "properties": {
        "executionTimeout": {
            "type": "integer",
            "minimum": 5000,
            "description": "A job that runs longer is ended; the endpoint has a default",
        },
        "ttl": {
            "type": "integer",
            "minimum": 10000,
            "default": 86400000,
            "description": "A job that is older is ended, also in the queue",
        },
        "lowPriority": {
            "type": "boolean",
            "default": False,
            "description": "true: the job starts no worker",
        },
    },
}


def request_schema(examples: list[dict[str, Any]]) -> dict[str, Any]:
    """The JSON Schema of a job: an object whose `input` holds the request.

    The rules between fields are not in it: `parse_request` tells of those. null is the same as a
    field that is not there, also where the field has a default.
    """
    fields = _named(RequestFields.model_json_schema())
    definitions = fields.pop("$defs")
    fields["properties"] = {name: _nullable(fields["properties"][name]) for name in field_order()}
    return {
        "$schema": DRAFT,
        "title": "Job",
        "description": "The body of /run and /runsync",
        "type": "object",
        "required": ["input"],
        "properties": {
            "input": fields | {"title": "Request", "description": "What is asked for"},
            "webhook": {
                "type": "string",
                "format": "uri",
                "description": "Is told the job's last state, as /status has it, by POST",
            },
            "policy": POLICY,
        },
        "$defs": definitions,
        "examples": examples,
    }


def answer_schema(name: str) -> dict[str, Any]:
    """The JSON Schema of an answer: one of `ANSWERS`."""
    schema = _named(TypeAdapter(ANSWERS[name]).json_schema())
    return {"$schema": DRAFT, **schema, "title": name}


def definitions() -> dict[str, dict[str, Any]]:
    """Every object of a request or an answer by its name; they refer to each other as `$defs`."""
    job = request_schema([])
    found = {**job["$defs"], "Request": job["properties"]["input"], "Policy": POLICY}
    found["WorkflowRequest"] = WORKFLOW
    for name in ANSWERS:
        schema = answer_schema(name)
        found |= schema.pop("$defs", {}) | {name: _without(schema, "$schema")}
    return dict(sorted(found.items()))


def _nullable(field: dict[str, Any]) -> dict[str, Any]:
    """The rule of a field; null is taken, too."""
    if "null" in field.get("type", []) or "anyOf" in field:
        return field
    return _in_one(field)


def _in_one(rule: dict[str, Any]) -> dict[str, Any]:
    """A rule that takes null, too, without an `anyOf`, in which others lose what it limits."""
    if "const" in rule:
        rule["enum"] = [rule.pop("const")]
    if "enum" in rule:
        rule["enum"] = [*rule["enum"], None]
    return {**rule, "type": [rule["type"], "null"]}


def _named(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema of pydantic's with our names, and nothing that says nothing.

    A title of a property makes a type of its own in what others generate; a default of null means
    that there is none.
    """
    found = with_each_object(schema, _renamed)
    for each in [found, *found.get("$defs", {}).values()]:
        for name, field in each.get("properties", {}).items():
            field.pop("title", None)
            if field.get("default", "") is None:
                del field["default"]
            match field.get("anyOf"):
                case [{"type": _} as rule, {"type": "null"}]:
                    del field["anyOf"]
                    each["properties"][name] = {**_in_one(rule), **field}
        each["title"] = _name(each["title"])
    return dict(found)


def _renamed(schema: dict[str, Any]) -> dict[str, Any]:
    if "$defs" in schema:
        schema["$defs"] = {_name(key): each for key, each in schema["$defs"].items()}
    if isinstance(schema.get("$ref"), str):
        schema["$ref"] = f"#/$defs/{_name(schema['$ref'].rpartition('/')[2])}"
    if isinstance(schema.get("description"), str):
        schema["description"] = " ".join(schema["description"].split())
    return schema


def with_each_object(value: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:  # noqa: ANN401 - JSON
    """A copy of the JSON value, `change` made to every object in it, the inner ones first."""
    if isinstance(value, list):
        return [with_each_object(each, change) for each in value]
    if not isinstance(value, dict):
        return value
    return change({key: with_each_object(each, change) for key, each in value.items()})


def _name(model: str) -> str:
    return {"PromptFields": "TimedPrompt"}.get(model, model.removesuffix("Fields"))


def _without(schema: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != key}
