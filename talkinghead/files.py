"""What is asked of any file, whatever is in it."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def sha256_of(path: Path) -> str:
    """The SHA-256 of the whole file, as 64 hex digits; read piece by piece, however large.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_of(content: object) -> str:
    """SHA-256 of a JSON value, whatever the order of its fields; as 64 hex digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_json(path: Path) -> Any:  # noqa: ANN401 - JSON
    """The JSON in a file, whichever Unicode it is written in, with or without a byte order mark.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON.
    """
    return parse_json(path.read_bytes())


def parse_json(text: str | bytes) -> Any:  # noqa: ANN401 - JSON
    """As `read_json`, of what was read.

    Raises:
        ValueError: it is no JSON.
    """
    if not text.strip():
        raise ValueError("it is empty")
    try:
        return json.loads(text.removeprefix("\ufeff") if isinstance(text, str) else text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def numbered(path: Path) -> Iterator[Path]:
    """The path, and then, for ever, as it is with a number: me.mp4, me-2.mp4, me-3.mp4."""
    yield path
    for number in itertools.count(2):
        yield path.with_name(f"{path.stem}-{number}{path.suffix}")
