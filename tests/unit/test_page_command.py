"""What `talkinghead page` keeps of people, and for how long."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from talkinghead.page.command import FOLDER, _folder


def test_what_a_page_that_was_killed_has_left_goes_and_that_of_one_that_runs_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left, others = tmp_path / f"{FOLDER}left", tmp_path / "else"
    for folder in (left, others):
        folder.mkdir()
        (folder / "me.jpg").touch()
    with _folder() as first:
        assert not left.exists() and others.exists()
        with _folder() as second:
            assert first.exists() and second.exists()
        assert first.exists() and not second.exists()
    assert [*tmp_path.iterdir()] == [others]
