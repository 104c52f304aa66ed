"""Model files are in memory before the first render needs them."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import pytest

from talkinghead.comfy import pages
from talkinghead.comfy.pages import read_pages
from talkinghead.memory import GIB

SIZE = 64 * mmap.PAGESIZE


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file whose pages the system has dropped."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(os.urandom(SIZE))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if resident(path) > 0.5:
        pytest.skip("this file system is in memory")
    return path


def resident(path: Path) -> float:
    """The share of the file's pages that are in memory."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        first = ctypes.c_char.from_buffer(mapped)
        states = (ctypes.c_ubyte * (SIZE // mmap.PAGESIZE))()
        address = ctypes.c_void_p(ctypes.addressof(first))
        assert ctypes.CDLL(None).mincore(address, ctypes.c_size_t(SIZE), states) == 0
        del first
        return sum(state & 1 for state in states) / len(states)


def test_the_first_render_finds_the_weights_in_memory(weights: Path, tmp_path: Path) -> None:
    read_pages([tmp_path / "not-there", weights])
    assert resident(weights) == 1


def test_weights_that_do_not_fit_into_memory_are_not_read_ahead(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "ram_gib", lambda: SIZE / GIB)
    read_pages([weights])
    assert resident(weights) < 0.5
