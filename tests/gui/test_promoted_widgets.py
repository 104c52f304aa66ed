"""Widgets of inner nodes that an instance of a subgraph shows, in both frontends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from talkinghead.workflow.gui_to_api import to_api
from tests.gui.browser import Gui, comparable
from tests.gui.conftest import NEWEST, gui_of, newest_frontend
from tests.gui.server import OWN_VERSION
from tests.promoted_widgets import CASES, NEWER, OLDER, RESIZES, SCHEMAS, Case, resize_sent


@pytest.fixture(scope="module")
def shown_in(
    browser: Browser, frontend: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gui]:
    with gui_of(SCHEMAS, browser, frontend, tmp_path_factory.mktemp("promoted")) as gui:
        yield gui


def test_shown_widgets_are_sent_as_recorded(shown_in: Gui, frontend: Path) -> None:
    is_newest = frontend == newest_frontend()
    if not is_newest and OWN_VERSION != OLDER:
        pytest.skip(f"what {OWN_VERSION} sends is not recorded")
    for name, case in CASES.items():
        sent = shown_in.load(case.workflow(NEWER if is_newest else OLDER)).api
        assert Case.sent(sent) == (case.newer if is_newest else case.older), name


@pytest.mark.parametrize("frontend", [NEWEST], indirect=True, scope="package")
def test_shown_dynamic_combos_are_sent_as_recorded(shown_in: Gui) -> None:
    for name, (workflow, expected) in RESIZES.items():
        shown = shown_in.load(workflow)
        sent = comparable(shown.api, SCHEMAS)
        assert resize_sent(sent) == expected, name
        assert comparable(to_api(shown.saved, SCHEMAS), SCHEMAS) == sent, name
        assert comparable(to_api(shown.exported, SCHEMAS), SCHEMAS) == sent, name
