"""A plugin of pytest's for scripts/test: a failure is told as it happens, the counts in the end.

The counts go, as JSON, into the file that TEST_COUNTS names.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if reporter is not None:
        config.pluginmanager.register(_AtOnce(reporter))


class _AtOnce:
    """Instead of the reporter's own account of the failures, which comes when all is over."""

    def __init__(self, reporter: pytest.TerminalReporter) -> None:
        self._reporter = reporter
        reporter.summary_failures = lambda: None  # type: ignore[method-assign]
        reporter.summary_errors = lambda: None  # type: ignore[method-assign]

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._tell(report)

    @pytest.hookimpl(trylast=True)
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._tell(report)

    def pytest_unconfigure(self) -> None:
        if path := os.environ.get("TEST_COUNTS"):
            Path(path).write_text(json.dumps(self._counts()))

    def _tell(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        reporter = self._reporter
        reporter.ensure_newline()
        what = getattr(report, "when", "collection")
        reporter.write_sep("_", f"FAILED {report.nodeid} ({what})", red=True, bold=True)
        report.toterminal(reporter._tw)
        for name, text in report.sections:
            reporter.write_sep("-", name)
            reporter.write_line(text)
        reporter.write_sep("_")

    def _counts(self) -> dict[str, list[str]]:
        """The tests by their outcome: their names, and why those that did not run did not."""
        stats = self._reporter.stats
        failed = [*stats.get("failed", []), *stats.get("error", [])]
        skipped = [
            f"{report.longrepr[0]}:{report.longrepr[1]}: {report.longrepr[2]}"
            for report in stats.get("skipped", [])
        ]
        return {
            "passed": [report.nodeid for report in stats.get("passed", [])],
            "failed": [f"{report.nodeid} ({report.when})" for report in failed],
            "skipped": skipped,
        }
