"""The programs of examples/calling where they are called amiss: a line says why, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from talkinghead.settings import PROJECT_DIR
from tests.clients.drivers import NODE
from tests.clients.runpod import KEY, SHA256, RunPod, completed
from tests.timing import LAST_RESORT_SECONDS

EXAMPLES = PROJECT_DIR / "examples" / "calling"
Call = Callable[..., tuple[int, str]]


@pytest.fixture(params=["call.sh", "call.py", "call.ts"])
def call(request: pytest.FixtureRequest, tmp_path: Path) -> Call:
    """The example with a picture and a voice, and these variables: its exit code, what it says."""
    program = tmp_path / request.param
    program.write_bytes((EXAMPLES / request.param).read_bytes())
    (tmp_path / "me").write_bytes(b"x")
    command = ["sh", program.name]
    if request.param == "call.py":
        (tmp_path / "talkinghead_client").symlink_to(PROJECT_DIR / "talkinghead" / "client")
        command = [sys.executable, program.name]
    if request.param == "call.ts":
        built = request.getfixturevalue("built")
        (tmp_path / "node_modules").mkdir()
        (tmp_path / "node_modules" / "talkinghead-client").symlink_to(built.parent)
        (tmp_path / "package.json").write_text('{"type": "module"}')
        command = [NODE, program.name]

    def run(files: str = "me me me.mp4", **environment: str) -> tuple[int, str]:
        ended = subprocess.run(
            [*command, *files.split()],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "POLL_SECONDS": "0", **environment},
            capture_output=True,
            text=True,
            timeout=LAST_RESORT_SECONDS,
            check=False,
        )
        return ended.returncode, ended.stderr

    return run


def is_short(said: str) -> bool:
    return 0 < len(said.strip().splitlines()) < 5 and "Traceback" not in said


def test_who_names_no_endpoint_is_told_how(call: Call) -> None:
    code, said = call()
    assert code != 0
    assert "ENDPOINT_ID" in said and is_short(said)


def test_who_gives_no_files_is_told_how(call: Call) -> None:
    code, said = call("me", TALKINGHEAD_URL="http://127.0.0.1:9")
    assert code != 0
    assert is_short(said)


def test_a_file_that_is_not_there_is_named(call: Call) -> None:
    code, said = call("you me me.mp4", TALKINGHEAD_URL="http://127.0.0.1:9")
    assert code != 0
    assert "you" in said and is_short(said)


def test_what_is_no_url_is_named(call: Call) -> None:
    code, said = call(TALKINGHEAD_URL="ftp://127.0.0.1:9")
    assert code != 0
    assert is_short(said)


def test_of_both_the_url_counts_and_gets_its_own_key(call: Call, api: RunPod) -> None:
    info = {"sha256": SHA256, "duration_seconds": 1}
    api.script = [completed(video_info=info)]
    variables = {"ENDPOINT_ID": "abc", "RUNPOD_API_KEY": "runpods"}
    code, said = call(**variables, TALKINGHEAD_URL=api.url, TALKINGHEAD_TOKEN=KEY)
    assert code == 0, said
    assert set(api.keys) == {f"Bearer {KEY}"}
    call(**variables, TALKINGHEAD_URL=api.url)
    assert not any("runpods" in str(key) for key in api.keys)
