"""The worker's log: one line an event, with the job's id, and nothing of what a caller wrote.

Plain, for people (a traceback takes lines of its own), or JSON, for machines:

    2026-01-31T12:00:00Z INFO job=7f3a stage ended: name=render seconds=38.7
    {"time": "2026-01-31T12:00:00Z", "level": "INFO", "job_id": "7f3a", "event": "stage ended", …}
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any, TextIO

from talkinghead.plan.request import RenderRequest
from talkinghead.redact import redact_urls
from talkinghead.settings import LogFormat

log = logging.getLogger("talkinghead")

SENTENCE_CHARACTERS = 300

_job_id: ContextVar[str | None] = ContextVar("job_id", default=None)


def start_logging(
    log_format: LogFormat, *, stream: TextIO | None = None, level: int = logging.INFO
) -> None:
    """Write our own logger's lines to `stream`, stderr if None. Other loggers are left alone."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_JsonFormatter() if log_format == "json" else _PlainFormatter())
    log.handlers[:] = [handler]
    log.setLevel(level)
    log.propagate = False


@contextlib.contextmanager
def about(job_id: str) -> Iterator[None]:
    """Lines written in here, and in what copies the context, carry the job's id."""
    token = _job_id.set(job_id)
    try:
        yield
    finally:
        _job_id.reset(token)


def tell(event: str, *, level: int = logging.INFO, **facts: object) -> None:
    """Write an event and its facts: words and numbers of ours, never a URL or a prompt."""
    log.log(level, event, extra={"facts": facts})


def sentence(error: object) -> str:
    """An error's first line, not too long: some end in ComfyUI's log, which is in the result."""
    return (str(error).splitlines() or [""])[0][:SENTENCE_CHARACTERS]


def job_started(request: RenderRequest) -> None:
    """The request was understood."""
    tell(
        "job started",
        dialect=request.dialect,
        size=f"{request.width or 'auto'}x{request.height or 'auto'}",
        draft=request.draft,
        speakers=len(request.speakers),
    )


def retry(how: str, code: str, error: object = "") -> None:
    """The render is done once more, after a failure with this code."""
    tell("retry", level=logging.WARNING, how=how, code=code, sentence=sentence(error))


def job_ended(result: Mapping[str, Any], seconds: float) -> None:
    """The job's result, or its failure, `seconds` after it began."""
    seconds = round(seconds, 1)
    if "error" in result:
        tell(
            "job failed",
            level=logging.WARNING,
            code=result["error_code"],
            stage=result["stage"],
            seconds=seconds,
            sentence=sentence(result["error"]),
        )
        return
    if "outputs" in result:
        count, warnings = len(result["outputs"]), len(result["warnings"])
        tell("job completed", seconds=seconds, outputs=count, warnings=warnings)
        return
    if "video_info" not in result:
        tell(f"job {result['status']}", seconds=seconds, warnings=len(result["warnings"]))
        return
    info = result["video_info"]
    tell(
        "job completed",
        seconds=seconds,
        size=f"{info['width']}x{info['height']}",
        frames=info["frames"],
        file_size_mb=info["file_size_mb"],
        warnings=len(result["warnings"]),
    )


class _PlainFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        job_id = _job_id.get()
        job = "" if job_id is None else f" job={_word(job_id)}"
        facts = "".join(f" {name}={_word(value)}" for name, value in _facts(record).items())
        message = _line(record.getMessage())
        line = f"{_time(record)} {record.levelname}{job} {message}{':' if facts else ''}{facts}"
        return redact_urls(f"{line}\n{trace}" if (trace := _traceback(record)) else line)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        job_id, trace = _job_id.get(), _traceback(record)
        fields = {
            "time": _time(record),
            "level": record.levelname,
            **({} if job_id is None else {"job_id": job_id}),
            "event": redact_urls(record.getMessage()),
            **_facts(record),
            **({"traceback": redact_urls(trace)} if trace else {}),
        }
        return json.dumps(fields, ensure_ascii=False, default=str)


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    facts: dict[str, Any] = getattr(record, "facts", {})
    return {
        name: redact_urls(value) if isinstance(value, str) else value
        for name, value in facts.items()
    }


def _time(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))


def _traceback(record: logging.LogRecord) -> str:
    return logging.Formatter().formatException(record.exc_info) if record.exc_info else ""


def _word(value: object) -> str:
    """The value so that one can see where it ends."""
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    return text if re.fullmatch(r"[^\s\"=]+", text) else json.dumps(text, ensure_ascii=False)


def _line(text: str) -> str:
    return text.replace("\n", "\\n").replace("\r", "\\r")
