"""The command as a person types it; a browser, and the TypeScript client as JavaScript."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from talkinghead.settings import PROJECT_DIR
from tests.clients.conftest import built  # noqa: F401 - a fixture
from tests.gui.browser import find_chromium
from tests.gui.test_playlist import render  # noqa: F401
from tests.timing import LAST_RESORT_SECONDS

# What was typed -> the exit code, and what was said.
Type = Callable[..., tuple[int, str]]


def started(folder: Path, *words: object, **environment: str) -> subprocess.Popen[str]:
    """The command, running in `folder`."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("COMFYUI_URL",)}
    own = {"WORK_DIR": str(folder / ".work"), "PYTHONPATH": str(PROJECT_DIR), "COLUMNS": "200"}
    return subprocess.Popen(
        [sys.executable, "-m", "talkinghead", *map(str, words)],
        cwd=folder,
        env=inherited | own | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture
def typed(tmp_path: Path) -> Type:
    def run(*words: object, **environment: str) -> tuple[int, str]:
        process = started(tmp_path, *words, **environment)
        said, _ = process.communicate(timeout=LAST_RESORT_SECONDS)
        return process.returncode, said

    return run


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        program = find_chromium(playwright)
        if program is None:
            pytest.skip("NO WALK WITH A BROWSER: there is no Chromium; scripts/install-chromium")
        microphone = [f"--use-fake-{what}-for-media-stream" for what in ("device", "ui")]
        options = ["--no-sandbox", "--disable-dev-shm-usage", *microphone]
        with playwright.chromium.launch(executable_path=program, args=options) as browser:
            yield browser.new_context().new_page()
