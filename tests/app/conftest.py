"""The page of `facegen app`, and a browser for who visits it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from visiting import QUIET, Server, Visitor, chromium, serving


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The page, whose refinements are short."""
    pytest.importorskip("gradio", reason="the page needs gradio")
    with serving(REFINE_STEPS=80) as one:
        yield one


@pytest.fixture(scope="module")
def browser():
    """Chromium: Playwright's, or else the machine's."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with playwright.sync_playwright() as driver:
        try:
            started = driver.chromium.launch(executable_path=chromium(), args=QUIET)
        except playwright.Error as error:
            pytest.skip(f"no Chromium: {str(error).splitlines()[0]}")
        yield started
        started.close()


@pytest.fixture
def visit(browser, server: Server) -> Iterator[Callable[..., Visitor]]:
    """A function that opens the page; afterwards, nothing went wrong, and no other machine was asked for anything."""
    visitors, before = [], len(server.log)

    def open_page(address: str = server.address, **window: object) -> Visitor:
        visitors.append(Visitor(browser, address, **window))
        return visitors[-1]

    yield open_page
    for visitor in visitors:
        visitor.context.close()
    for visitor in visitors:
        assert visitor.complaints == []
        others = [url for url in visitor.requests if not url.startswith((server.address, "data:", "blob:"))]
        assert others == []
    assert "Traceback" not in server.log[before:], server.log[before:]
