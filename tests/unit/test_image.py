"""The image's files, as far as they can be tried without building it."""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from talkinghead.local_api.http import Access, ApiServer, access_of
from talkinghead.local_api.jobs import JobQueue
from talkinghead.models.manifest import load_manifest
from talkinghead.settings import PROJECT_DIR, Settings

WORKFLOWS = sorted(path.name for path in (PROJECT_DIR / ".github" / "workflows").glob("*.yml"))
COMMIT = re.compile(r"@[0-9a-f]{40}$")
INSTRUCTION = re.compile(r"^([A-Z]+)\s+((?:.*\\\n)*.*)$", re.MULTILINE)


def instructions(name: str) -> list[str]:
    """What follows each `name` in the Dockerfile, its continued lines joined."""
    text = (PROJECT_DIR / "Dockerfile").read_text("utf-8")
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    found = INSTRUCTION.findall(text)
    return [re.sub(r"\s*\\\n\s*", " ", rest) for each, rest in found if each == name]


def run_step(containing: str) -> str:
    return next(step for step in instructions("RUN") if containing in step)


def copied() -> list[str]:
    lines = [line for line in instructions("COPY") if not line.startswith("--from=")]
    return [source for line in lines for source in shlex.split(line)[:-1]]


def is_ignored(path: str) -> bool:
    """As Docker decides: the last pattern that fits the path, or a folder above it, wins."""
    ignored = False
    levels = [path.rsplit("/", up)[0] for up in range(path.count("/") + 1)]
    for line in (PROJECT_DIR / ".dockerignore").read_text("utf-8").splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        where = [level.rsplit("/", 1)[-1] for level in levels] if "**/" in line else levels
        if line and not line.startswith("#") and any(fnmatch.fnmatch(at, pattern) for at in where):
            ignored = not line.startswith("!")
    return ignored


@pytest.mark.parametrize("path", copied())
def test_what_the_image_copies_is_there_and_not_ignored(path: str) -> None:
    assert (PROJECT_DIR / path).exists()
    assert not is_ignored(path)


@pytest.mark.parametrize(
    "path", [".git", ".venv/bin/python", ".comfyui/main.py", "tests/store.py", "out/demo.mp4"]
)
def test_what_the_image_does_not_need_stays_out_of_the_build(path: str) -> None:
    assert is_ignored(path)


def test_compiled_files_stay_out_of_the_build() -> None:
    assert is_ignored("talkinghead/__pycache__/render.pyc")
    assert not is_ignored("talkinghead/render/run.py")


def test_every_file_of_the_package_is_copied() -> None:
    named = [PROJECT_DIR / name for name in copied()]
    needed = [
        "handler.py",
        "comfy_client.py",
        "model_manifest.yaml",
        "custom_nodes.txt",
        "start.sh",
    ]
    needed += ["README.md", "LICENSE", "pyproject.toml"]  # pip builds the package from these
    assert all(PROJECT_DIR / name in named for name in needed)
    assert {PROJECT_DIR / name for name in ("talkinghead", "workflows", "custom_nodes")} <= {*named}


def test_our_own_packs_are_in_the_image_where_comfyui_is_told_to_look() -> None:
    (folder,) = Settings().node_dirs
    packs = {path.parent.name for path in folder.glob("*/__init__.py")}
    assert packs == {"talkinghead_draft", "talkinghead_windows"}
    files = [path.relative_to(PROJECT_DIR).as_posix() for path in folder.glob("*/*.py")]
    assert [file for file in files if is_ignored(file)] == []
    assert folder in [PROJECT_DIR / name for name in copied()]


def test_comfyui_and_its_packs_are_pinned_in_one_place() -> None:
    pins = re.findall(r"^(https\S+) (\S+)$", (PROJECT_DIR / "custom_nodes.txt").read_text(), re.M)
    assert len(pins) == 4
    workflows = [f".github/workflows/{name}" for name in WORKFLOWS]
    for name in ("Dockerfile", "docker-compose.yml", "start.sh", *workflows):
        text = (PROJECT_DIR / name).read_text("utf-8")
        fetched = re.findall(r"git (?:clone|fetch).* (https\S+)", text)
        assert set(fetched) <= {"https://github.com/thu-ml/SageAttention"}
        assert not any(url in text or ref in text for url, ref in pins)


def test_the_image_has_comfyui_where_the_worker_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run_step("install-comfyui").split()[2]
    for line in instructions("ENV"):
        for name, value in (pair.split("=", 1) for pair in shlex.split(line)):
            monkeypatch.setenv(name, value)
    assert str(Settings().comfyui_dir) == folder


@pytest.mark.parametrize("source", ["Git, with the node packs", "a wheel, without node packs"])
def test_an_image_without_the_node_packs_is_not_built(tmp_path: Path, source: str) -> None:
    (tmp_path / ".install-comfyui.json").write_text(f'{{"source": "{source}"}}')
    (tmp_path / "custom_nodes" / "pack" / ".git").mkdir(parents=True)
    (tmp_path / "custom_nodes" / "pack" / "broken.py").write_text("no python")
    _, checks = run_step("install-comfyui").split("&&", 1)
    code = checks.replace("/opt/ComfyUI", str(tmp_path)).replace("python ", f"{sys.executable} ")
    done = subprocess.run(["sh", "-c", code], check=False)
    assert (done.returncode == 0) is source.startswith("Git")
    assert (tmp_path / "custom_nodes" / "pack" / ".git").exists() is (done.returncode != 0)


@pytest.mark.parametrize("profile", ["", "fp8"])
def test_models_are_baked_into_the_image_only_when_asked(tmp_path: Path, profile: str) -> None:
    command = tmp_path / "talkinghead"
    command.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/said\n')
    command.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PROFILE": profile}
    steps = [step for step in instructions("RUN") if " talkinghead models " in step]
    for step in steps:
        subprocess.run(["sh", "-c", step], env=environment, check=True)
    said = (tmp_path / "said").read_text().splitlines() if profile else []
    fetches = max(len(each.file_names) for each in load_manifest().profiles.values())
    asked = ["models fetch --profile fp8 --most 1"] * fetches
    assert said == ([*asked, "models verify --profile fp8"] if profile else [])


@pytest.mark.parametrize("profile", ["", "fp8"])
def test_an_image_with_models_renders_with_them_on_a_card_that_holds_larger_ones(
    profile: str,
) -> None:
    (pair,) = [each for each in instructions("ENV") if each.startswith("MODEL_PROFILE=")]
    said = subprocess.run(
        ["sh", "-c", f"{pair}; echo $MODEL_PROFILE"],
        env={"PROFILE": profile},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == (profile or "auto")


def test_the_example_profile_of_the_dockerfile_is_in_the_manifest() -> None:
    text = (PROJECT_DIR / "Dockerfile").read_text("utf-8")
    assert set(re.findall(r"PROFILE=(\w+)", text)) <= load_manifest().profiles.keys()


def test_start_sh_is_executable_and_parses() -> None:
    script = PROJECT_DIR / "start.sh"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)


def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((PROJECT_DIR / "docker-compose.yml").read_text())
    worker: dict[str, Any] = content["services"]["worker"]
    assert set(content["volumes"]) == {"models"}
    return worker


def test_compose_sets_settings_that_there_are() -> None:
    names = {name.lower() for name in compose()["environment"]} - {"hf_token"}
    assert names <= Settings.model_fields.keys()


def test_compose_shows_the_api_to_this_machine_alone_and_keeps_the_models() -> None:
    worker = compose()
    assert worker["ports"] == ["127.0.0.1:8000:8000"]
    assert worker["volumes"] == [f"models:{worker['environment']['MODELS_DIR']}"]
    assert worker["command"][0] == "./start.sh"
    device = worker["deploy"]["resources"]["reservations"]["devices"][0]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert any(
        f"useradd --create-home --uid 10001 {worker['user']} " in step
        for step in instructions("RUN")
    )


def test_composes_command_is_an_api_that_may_be_called_with_the_token(tmp_path: Path) -> None:
    stub = tmp_path / "python"
    stub.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    stub.chmod(0o755)
    with (tmp_path / "said").open("wb") as file:  # no pipe: start.sh's other half keeps it open
        env = os.environ | {"PYTHON": str(stub)}
        subprocess.run(compose()["command"], cwd=PROJECT_DIR, env=env, stdout=file, check=True)
    said = (tmp_path / "said").read_text().split()
    assert said[:4] == ["-u", "-m", "talkinghead", "serve"]
    host = said[said.index("--host") + 1]
    assert access_of(Settings(api_token=SecretStr("t")), host) == Access("t")
    assert said[said.index("--port") + 1] == compose()["ports"][0].rpartition(":")[2]


def test_composes_health_check_hears_the_api() -> None:
    queue = JobQueue(lambda job: {}, lambda url, body: None)
    server = ApiServer(("127.0.0.1", 0), queue, Access("secret"))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    code = compose()["healthcheck"]["test"][-1].replace("localhost:8000", server.url[7:])
    for token, status in (("secret", 0), ("another", 1)):
        env = os.environ | {"API_TOKEN": token}
        ended = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, check=False
        )
        assert ended.returncode == status, ended.stderr
    server.shutdown()
    server.server_close()


def test_the_workflow_builds_on_a_tag_alone() -> None:
    text = (PROJECT_DIR / ".github/workflows/image.yml").read_text("utf-8")
    content = yaml.load(text, yaml.BaseLoader)
    assert content["on"] == {"push": {"tags": ["v*"]}}
    steps = content["jobs"]["image"]["steps"]
    said = [step.get("run", "") for step in steps]
    assert "scripts/test-image" in said[-3] and "docker push" in said[-1]
    (built,) = [step["with"] for step in steps if "build-push" in step.get("uses", "")]
    assert (built["load"], built["provenance"]) == ("true", "false") and "push" not in built


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_s_pipe_fails_where_its_first_half_does(name: str) -> None:
    """A release of a tag that the changelog does not have would have no text. GitHub's default
    shell does not look at it, and `shell: bash` does."""
    content = yaml.safe_load((PROJECT_DIR / ".github/workflows" / name).read_text("utf-8"))
    steps = [step for job in content["jobs"].values() for step in job["steps"]]
    piped = [step for step in steps if " | " in step.get("run", "") and "echo" not in step["run"]]
    assert [step["run"] for step in piped if step.get("shell") != "bash"] == []


def test_every_action_is_named_by_its_commit() -> None:
    for name in WORKFLOWS:
        text = (PROJECT_DIR / ".github" / "workflows" / name).read_text("utf-8")
        assert [use for use in re.findall(r"uses: (\S+)", text) if not COMMIT.search(use)] == []


def test_the_release_has_the_entry_of_the_changelog() -> None:
    def notes(tag: str) -> subprocess.CompletedProcess[str]:
        command = [str(PROJECT_DIR / "scripts" / "release-notes"), tag]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    changelog = (PROJECT_DIR / "CHANGELOG.md").read_text("utf-8")
    version, entry = re.findall(r"^## (\S+).*\n((?:(?!## ).*\n)+)", changelog, re.MULTILINE)[0]
    assert notes(f"v{version}").stdout.strip() == entry.strip()
    assert notes("v99.0.0").returncode != 0
