"""A browser, and the TypeScript client as JavaScript."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.clients.conftest import built  # noqa: F401 - a fixture
from tests.gui.browser import find_chromium


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        program = find_chromium(playwright)
        if program is None:
            pytest.skip("NO WALK WITH A BROWSER: there is no Chromium; scripts/install-chromium")
        with playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"]
        ) as browser:
            yield browser.new_page()
