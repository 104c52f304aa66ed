"""The endpoint's API as an OpenAPI 3.1 document: RunPod's verbs with this worker's bodies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from talkinghead import __version__
from talkinghead.plan.schema import definitions, with_each_object

JSON = "application/json"
STATUSES = ("IN_QUEUE", "IN_PROGRESS", "COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT")
# What a call may be refused for. `talkinghead serve` alone says 403 and 411.
REFUSALS: Mapping[str, str] = {
    "400": "The body is no job, or too large; no job was started",
    "401": "The Authorization header has no key, or token, that is taken",
    "403": "Pages of this origin may not call, as API_CORS_ORIGINS says",
    "404": "There is no such job, or its result has expired",
    "405": "The path is called by another method, which Allow names",
    "411": "The body came without its Content-Length",
    "429": "The queue is full, or too many call at once: try again later",
}
TEXT = """\
A job is queued by /run, followed by /status, and ended by /cancel. /runsync waits for it, for 90 \
seconds if `wait` does not say otherwise. Results are kept for 30 minutes, those of /runsync for \
one. `talkinghead serve` answers in the same way on your own machine. The schemas beside this \
document, docs/*.schema.json, are the same for other tools."""


def openapi() -> dict[str, Any]:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "talkinghead",
            "version": __version__,
            "description": TEXT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [
            {
                "url": "https://api.runpod.ai/v2/{endpoint_id}",
                "description": "A RunPod endpoint",
                "variables": {
                    "endpoint_id": {"default": "ENDPOINT_ID", "description": "Your endpoint's"}
                },
            },
            {"url": "http://127.0.0.1:8000", "description": "talkinghead serve"},
        ],
        "security": [{"key": []}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "RunPod's API key, or API_TOKEN of `talkinghead serve`",
                }
            },
            "schemas": _schemas(),
            "parameters": {
                "id": {
                    "name": "id",
                    "in": "path",
                    "required": True,
                    "schema": {"type": "string"},
                    "description": "The job's, as /run gave it",
                }
            },
            "responses": {
                name: {"description": text, "content": {JSON: {"schema": _ref("Refusal")}}}
                for name, text in REFUSALS.items()
            },
        },
    }


def _paths() -> dict[str, Any]:
    wait = {
        "name": "wait",
        "in": "query",
        "schema": {"type": "integer", "minimum": 1000, "maximum": 300000, "default": 90000},
        "description": "How long the call waits for the job's end, milliseconds",
    }
    state, refused = _ref("JobState"), ("400", "404")
    return {
        "/run": {"post": _call("run", "Queue a job", _ref("JobState"), _body(), ("400",))},
        "/runsync": {
            "post": _call("runsync", "Queue a job and wait for it", state, _body(), ("400",))
            | {"parameters": [wait]}
        },
        "/status/{id}": {"get": _call("status", "How a job is", state, {}, refused) | _BY_ID},
        "/cancel/{id}": {"post": _call("cancel", "End a job", state, {}, refused) | _BY_ID},
        "/stream/{id}": {
            "get": _call("stream", "What a job yields: nothing, here", _ref("Stream"), {}, refused)
            | _BY_ID
        },
        "/health": {"get": _call("health", "Jobs and workers", _ref("Health"), {}, ())},
    }


_BY_ID: dict[str, Any] = {"parameters": [{"$ref": "#/components/parameters/id"}]}


def _call(
    name: str, summary: str, answer: dict[str, Any], body: dict[str, Any], refused: tuple[str, ...]
) -> dict[str, Any]:
    refusals = {
        status: {"$ref": f"#/components/responses/{status}"}
        for status in sorted((*refused, "401", "403", "405", "411", "429"))
    }
    ok = {"description": summary, "content": {JSON: {"schema": answer}}}
    return {
        "operationId": name,
        "summary": summary,
        **body,
        "responses": {"200": ok} | refusals,
    }


def _body() -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {JSON: {"schema": _ref("Job")}}}}


def _schemas() -> dict[str, Any]:
    made = {
        "Job": _object(
            "The body of /run and /runsync",
            ["input"],
            input={"anyOf": [_ref("Request"), _ref("WorkflowRequest")]},
            webhook={
                "type": "string",
                "format": "uri",
                "description": "Is told the job's last state, as /status has it, by POST",
            },
            policy=_ref("Policy"),
        ),
        "JobState": _object(
            "A job as RunPod tells of it",
            ["id", "status"],
            id=_text("The job's id"),
            status={"type": "string", "enum": list(STATUSES), "description": "Where it is"},
            output={
                "description": "Progress while it runs, then the result, or more of the failure",
                "anyOf": [_ref("Progress"), _ref("Result"), _ref("Failure")],
            },
            error=_text("Of a FAILED job: what went wrong, in a sentence"),
            delayTime=_number("Milliseconds in the queue"),
            executionTime=_number("Milliseconds on the worker"),
            workerId=_text("The worker that has it, or had it"),
        ),
        "Stream": _object(
            "What a job yielded since the last call",
            ["status", "stream"],
            status={"type": "string", "enum": list(STATUSES)},
            stream={"type": "array", "items": {}, "description": "Always empty"},
        ),
        "Health": _object(
            "How many jobs and workers there are, by state",
            ["jobs", "workers"],
            jobs={"type": "object", "additionalProperties": {"type": "integer"}},
            workers={"type": "object", "additionalProperties": {"type": "integer"}},
        ),
        "Refusal": _object("Why a call is refused", ["error"], error=_text("A sentence")),
    }
    return dict(sorted({**made, **with_each_object(definitions(), _pointed)}.items()))


def _object(description: str, required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "description": description,
        "required": required,
        "properties": properties,
    }


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _text(description: str) -> dict[str, Any]:
    return {"type": "string", "description": description}


def _number(description: str) -> dict[str, Any]:
    return {"type": "integer", "description": description}


def _pointed(schema: dict[str, Any]) -> dict[str, Any]:
    """The same, its reference to where OpenAPI keeps schemas."""
    if isinstance(schema.get("$ref"), str):
        schema["$ref"] = schema["$ref"].replace("#/$defs/", "#/components/schemas/")
    return schema
