"""`talkinghead run --report`: a page of what was rendered into a folder, as a replay has one."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from talkinghead.delivery.file import bundle_path
from talkinghead.errors import JobError
from talkinghead.files import hash_of, sha256_of
from talkinghead.media.sandbox import Sandboxes
from talkinghead.plan.shown import without_secrets
from talkinghead.redact import redact_urls
from talkinghead.replay.look import look
from talkinghead.replay.page import poster_path, write_page
from talkinghead.replay.report import Report

LINES, PAGE = "runs.jsonl", "report.html"


def report(out: Path, source: Path, flags: Mapping[str, Any], result: Mapping[str, Any]) -> Path:
    """Add the render of `source` to the report beside `out`; returns the page.

    Raises:
        OSError
    """
    lines = out.parent / LINES
    error = result.get("error")
    entry = {
        "key": hash_of({"out": out.name, "flags": {k: str(v) for k, v in flags.items()}}),
        "status": "failed" if error else "done",
        "name": out.stem,
        "file": str(source),
        "kind": "request",
        "row": None,
        "set": without_secrets(flags),
        "seed": (result.get("generation_params") or {}).get("seed"),
        "server": "",
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": float(result.get("processing_time_seconds") or 0.0),
        "timings": result.get("timings") or {},
        "warnings": [redact_urls(each) for each in result.get("warnings") or []],
        "files": [] if error else _files(out, result),
        "error": redact_urls(str(error)) if error else None,
    }
    lines.parent.mkdir(parents=True, exist_ok=True)
    Report(lines).add(entry)
    write_page(lines, lines.with_name(PAGE))
    return lines.with_name(PAGE)


def _files(out: Path, result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The video, with what the worker saw of it, and a bundle if there is one."""
    sha256 = sha256_of(out)
    with (
        contextlib.suppress(JobError),  # a still is missing then, and nothing else
        Sandboxes() as sandboxes,
        sandboxes.open() as sandbox,
    ):
        look(out, sandbox, poster=poster_path(out.parent, sha256))
    seen: dict[str, Any] = {"quality": result.get("quality"), "defect": None, "warnings": []}
    about = {"path": out.name, "sha256": sha256, "bytes": out.stat().st_size, "look": seen}
    bundle = bundle_path(out)
    return [about, *([{"path": bundle.name}] if bundle.exists() else [])]
