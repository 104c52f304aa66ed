"""examples/calling/call.sh where something goes wrong: it says so, and ends."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from talkinghead.settings import PROJECT_DIR
from tests.clients.runpod import KEY, NO_ID, RunPod, completed
from tests.timing import LAST_RESORT_SECONDS


@pytest.mark.parametrize(
    ("verb", "faults", "said"),
    [
        ("run", [400], "refused: 400"),
        ("run", [NO_ID], ""),
        ("status", [404] * 20, "error: 404"),
        ("", [], "/volume/me.mp4"),
    ],
    ids=["refused", "no id", "expired", "on the volume"],
)
def test_a_shell_is_told_and_does_not_wait_for_ever(
    api: RunPod, tmp_path: Path, verb: str, faults: list[int | str | None], said: str
) -> None:
    api.faults[verb] = faults
    api.script = [completed(video=None, video_path="/volume/me.mp4")]
    (tmp_path / "me").write_bytes(b"x")
    ended = subprocess.run(
        [str(PROJECT_DIR / "examples" / "calling" / "call.sh"), "me", "me", "me.mp4"],
        cwd=tmp_path,
        env=os.environ
        | {"TALKINGHEAD_URL": api.url, "TALKINGHEAD_TOKEN": KEY, "POLL_SECONDS": "0"},
        capture_output=True,
        text=True,
        timeout=LAST_RESORT_SECONDS,
        check=False,
    )
    assert ended.returncode == 1
    assert said in ended.stderr
    assert not (tmp_path / "me.mp4").exists()
