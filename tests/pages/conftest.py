"""Pages in a real browser: Debian's chromium, or the one that BROWSER names. Skipped where there is none."""

import os
import shutil
from dataclasses import dataclass, field

import pytest

LIGHT_AND_DARK = ("light", "dark")


@pytest.fixture(scope="session")
def browser():
    program = os.environ.get("BROWSER") or shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no browser: apt-get install chromium, or name one by BROWSER")
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install -e '.[dev]'")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--enable-unsafe-swiftshader"])
        yield chromium
        chromium.close()


@dataclass
class Opened:
    """A page as a browser shows it, with its console messages and requests."""

    page: object
    complaints: list = field(default_factory=list)  # errors on the console
    requests: list = field(default_factory=list)  # addresses other than its own

    def texts(self, selector):
        return [text.strip() for text in self.page.locator(selector).all_inner_texts()]

    @property
    def overflows(self):
        """Whether the page itself scrolls sideways."""
        return self.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")

    def accessibility(self):
        """What axe-core finds wrong, a line each."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [
            f"{one['id']}: {node['html'][:200]} {node['any'][0]['message'] if node['any'] else ''}"
            for one in found
            for node in one["nodes"]
        ]


@pytest.fixture(scope="module")
def opened(browser):
    """opened(path, width=1400, scheme="light") → Opened: a file as a browser shows it."""
    contexts = []

    def open_page(path, width=1400, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        contexts.append(context)
        shown = Opened(context.new_page())
        shown.page.on("console", lambda line: shown.complaints.append(line.text) if line.type == "error" else None)
        shown.page.on("pageerror", lambda error: shown.complaints.append(str(error)))
        shown.page.on("request", lambda asked: shown.requests.append(asked.url) if asked.url != path.as_uri() else None)
        shown.page.goto(path.as_uri())
        return shown

    yield open_page
    for context in contexts:
        context.close()
