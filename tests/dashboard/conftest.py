"""One browser and one farm for all tests of the dashboard; each test works on tasks and queues of its own."""

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from warm import Cluster

from client.testing import LocalCluster

CHROMIUM = "/usr/bin/chromium"
HANDLERS = Path(__file__).with_name("handlers")
PATIENCE_MS = 10_000
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with tempfile.TemporaryDirectory(prefix="taskmill-browser-") as home, sync_playwright() as playwright:
        options = {"executable_path": CHROMIUM, "args": ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]}
        launched = playwright.chromium.launch(**options, env={**os.environ, "HOME": home})
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def farm() -> Iterator[LocalCluster]:
    with Cluster(workers=1, concurrency=2, settings={"TASKS_PATH": str(HANDLERS)}) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def guarded() -> Iterator[LocalCluster]:
    """A dispatcher with both tokens, without workers."""
    settings = {"DISPATCHER_TOKEN": "may-do-everything", "DISPATCHER_READ_TOKEN": "may-look"}
    with Cluster(workers=0, settings=settings) as cluster:
        yield cluster


@pytest.fixture
def new_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Pages in a profile of their own; none may break its security policy or its scripts."""
    opened: list[BrowserContext] = []
    complaints: list[str] = []

    def make(url: str, width: int = 1280, **options: object) -> Page:
        context = browser.new_context(base_url=url, viewport={"width": width, "height": 900}, **options)
        opened.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if _is_serious(said.type, said.text) else None)
        return page

    yield make
    for context in opened:
        context.close()
    assert complaints == []


def _is_serious(kind: str, text: str) -> bool:
    """What the browser says by itself is meant where it is tested: a refused request, a script that a sandbox holds."""
    meant = ("Failed to load resource", "ERR_", "Blocked script execution")
    return kind == "error" and not any(words in text for words in meant)


@pytest.fixture
def page(new_page: Callable[..., Page], farm: LocalCluster) -> Page:
    return new_page(farm.client.url)


@pytest.fixture
def name() -> str:
    """A name that no other test uses."""
    return f"own{next(_numbers)}"
