"""A secret in every URL, setting and credential of the tests, and a search for it after them all.

It may be in what a test itself writes down as an input, and nowhere else: in no log line, no
result, no graph, no bundle and no video that is left in a test's folder.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

CANARY = "c4nary-5e37"
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
    if any(CANARY in text for name, text in report.sections if name.startswith("Captured")):
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
    return CANARY.encode() in path.read_bytes()
