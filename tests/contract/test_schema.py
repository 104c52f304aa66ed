"""The request's JSON Schema in docs/."""

from __future__ import annotations

import json
import runpy
from typing import Any

import jsonschema
import pytest

from talkinghead.settings import PROJECT_DIR

PATH = PROJECT_DIR / "docs" / "request.schema.json"


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(PATH.read_text("utf-8"))
    return content


def test_what_is_written_from_the_code_is_current() -> None:
    written = runpy.run_path(str(PROJECT_DIR / "scripts" / "write-docs"))["written"]
    old = [path.name for path, text in written().items() if path.read_text("utf-8") != text]
    assert old == [], "run scripts/write-docs"


def test_the_examples_are_the_contracts_eleven_and_follow_the_schema(
    schema: dict[str, Any],
) -> None:
    assert len(schema["examples"]) == 11
    for example in schema["examples"]:
        jsonschema.validate(example, schema)


@pytest.mark.parametrize("fields", [{"steps": "4"}, {"fps": 100}, {"stepps": 4}])
def test_the_schema_refuses_what_the_worker_refuses(
    schema: dict[str, Any], fields: dict[str, Any]
) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"input": fields}, schema)
