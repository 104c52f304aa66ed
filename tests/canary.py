"""A secret in every URL, setting and credential of the tests, and a search for it after them all.

It is searched for as it is, and as base64 has it: an inline file's content is a secret, too. It may
be in what a test itself writes down as an input, and nowhere else: in no log line, no result, no
graph, no bundle and no video that is left in a test's folder.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

CANARY = "c4nary-5e37"
# Of the three ways in which base64 may cut it into groups of three bytes, what is always the same.
FORMS = (
    CANARY.encode(),
    *(base64.b64encode(bytes(cut) + CANARY.encode())[4:-4] for cut in range(3)),
)
# Written by the tests as inputs, with their URLs; and the S3 server's own configuration.
INPUTS = ("request*.json", "s3.json", "s3*/*")
LARGEST_BYTES = 50_000_000

_sung: list[str] = []


def pytest_configure() -> None:
    """Credentials that a worker may have, as every process of the tests inherits them."""
    for name in ("HF_TOKEN", "RUNPOD_API_KEY"):
        os.environ[name] = f"{name.lower()}-{CANARY}"


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Search what the test logged and printed."""
    said = [text.encode() for name, text in report.sections if name.startswith("Captured")]
    if any(form in text for text in said for form in FORMS):
        _sung.append(f"the output of {report.nodeid}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Search the files that the tests have left."""
    factory: pytest.TempPathFactory = session.config._tmp_path_factory  # type: ignore[attr-defined]
    _sung.extend(f"{path}" for path in factory.getbasetemp().rglob("*") if _holds_it(path))
    if _sung:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say where it was found."""
    for place in _sung:
        terminalreporter.write_line(f"a secret is in {place}", red=True)


def _holds_it(path: Path) -> bool:
    if not path.is_file() or path.is_symlink() or any(path.match(name) for name in INPUTS):
        return False
    if path.stat().st_size > LARGEST_BYTES:
        return False
    content = path.read_bytes()
    return any(form in content for form in FORMS)
