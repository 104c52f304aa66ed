"""The endpoint's API as an OpenAPI 3.1 document: RunPod's verbs with this worker's bodies."""

from __future__ import annotations

from typing import Any

from talkinghead import __version__
from talkinghead.plan.schema import definitions, with_each_object

JSON = "application/json"
STATUSES = ("IN_QUEUE", "IN_PROGRESS", "COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT")
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
                "Refused": {
                    "description": "The call is refused, and no job was started",
                    "content": {JSON: {"schema": {"$ref": "#/components/schemas/Refusal"}}},
                }
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
    state, refused = _ref("JobState"), ("400", "401", "404")
    return {
        "/run": {
            "post": _call("run", "Queue a job", _ref("JobState"), _body(), ("400", "401", "429"))
        },
        "/runsync": {
            "post": _call(
                "runsync", "Queue a job and wait for it", state, _body(), ("400", "401", "429")
            )
            | {"parameters": [wait]}
        },
        "/status/{id}": {"get": _call("status", "How a job is", state, {}, refused) | _BY_ID},
        "/cancel/{id}": {"post": _call("cancel", "End a job", state, {}, refused) | _BY_ID},
        "/stream/{id}": {
            "get": _call("stream", "What a job yields: nothing, here", _ref("Stream"), {}, refused)
            | _BY_ID
        },
        "/health": {"get": _call("health", "Jobs and workers", _ref("Health"), {}, ("401",))},
    }


_BY_ID: dict[str, Any] = {"parameters": [{"$ref": "#/components/parameters/id"}]}


def _call(
    name: str, summary: str, answer: dict[str, Any], body: dict[str, Any], refused: tuple[str, ...]
) -> dict[str, Any]:
    refusal = {"$ref": "#/components/responses/Refused"}
    ok = {"description": summary, "content": {JSON: {"schema": answer}}}
    return {
        "operationId": name,
        "summary": summary,
        **body,
        "responses": {"200": ok} | dict.fromkeys(refused, refusal),
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
