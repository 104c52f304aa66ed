"""Places to deliver to, in the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.store import S3Server


@pytest.fixture
def on_s3(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A bucket on a real server."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty network volume."""
    folder = tmp_path / "volume"
    folder.mkdir()
    monkeypatch.setenv("VOLUME_DIR", str(folder))
    return folder
