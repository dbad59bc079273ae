"""
The explorer in a real browser: eight journeys, by mouse and by keyboard, on wide and narrow screens.

The browser is the distribution's Chromium, driven by Playwright's asynchronous interface: the other one
runs a loop of its own. One installation and one browser serve all journeys, and each that fails is named.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.e2e.harness import Stage
from tests.integration.exploring import HOSTILE, Explored, explorer, with_a_past
from tests.integration.operating import NO_SWEEPS, owner

pytestmark = [
    pytest.mark.parametrize("redis_binary", ["valkey"], indirect=True),
    pytest.mark.timeout(180),
]
#: Milliseconds for whatever a page should come to.
_PATIENCE: Final = 30_000
PAGES: Final = ("/", "/list", "/receivers", "/health", "/list?group=receiver", "/nothing")


@dataclass
class Visit:
    """A visitor at an installation; `faults` is what the browser complained about."""

    here: Stage
    site: Explored
    browser: Browser
    faults: list[str]

    @property
    def ns(self) -> str:
        """Namespace of the notifications."""
        return self.here.namespace

    @asynccontextmanager
    async def page(self, path: str = "/list", **options: Any) -> AsyncIterator[Page]:
        """A fresh tab, opened at a page."""
        context = await self.browser.new_context(**options)
        page = await context.new_page()
        page.set_default_timeout(_PATIENCE)
        page.on("console", lambda m: self.faults.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("request", lambda r: self._asked(r.url))
        try:
            await page.goto(self.site.url + path)
            yield page
        finally:
            await context.close()

    def _asked(self, url: str) -> None:
        if not url.startswith(self.site.url):
            self.faults.append(f"a request to {url}")

    async def axe(self, page: Page) -> list[str]:
        """What axe-core finds that is serious, or worse."""
        await page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text())
        # What passes is not described: that is half of its work.
        found = await page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{page.url}: {v['id']}: {v['nodes'][0]['html'][:200]}"
            for v in found["violations"]
            if v["impact"] in {"serious", "critical"}
        ]


async def _begins_with_what_needs_attention(visit: Visit) -> None:
    """The first page says what is not as it should be, and leads there; times are the reader's."""
    async with visit.page("/", timezone_id="Asia/Tokyo") as page:
        row = page.locator("tbody tr", has_text="UNKNOWN").first
        await expect(row).to_contain_text("LOOK")
        await row.get_by_role("link", name="UNKNOWN").click()
        await expect(page.locator("tbody tr")).to_have_count(1)
        await page.get_by_role("link", name=f"{visit.ns}/lost").click()
        await expect(page.locator(".story time").first).to_contain_text("GMT+9")


async def _filters_by_a_phase(visit: Visit) -> None:
    """A phase in the totals leads to those in it, and the way back to all."""
    async with visit.page() as page:
        await page.locator(".totals").get_by_role("link", name="Failed").click()
        await expect(page.locator("tbody tr")).to_have_count(1)
        await page.get_by_role("link", name="Clear").click()
        await expect(page.locator("tbody tr")).to_have_count(6)


async def _learns_why_not(visit: Visit) -> None:
    """A page of what is held says who may let it go, and the hostile text of the hold is a text."""
    async with visit.page(f"/n/{visit.ns}/held") as page:
        await expect(page.locator(".next")).to_contain_text("nothing: ")
        for text in await page.get_by_text(HOSTILE, exact=True).all():
            await expect(text).to_be_visible()
        assert await page.get_by_text(HOSTILE, exact=True).count() == 2, "its subject and its hold"
        assert await page.locator("main script, main img").count() == 0
        assert "taken" not in await page.title()


async def _sees_it_arrive(visit: Visit) -> None:
    """A notification that is created shows on the open page, which is neither left nor typed over."""
    async with visit.page() as page:
        await expect(page.locator("#state")).to_have_text("live")
        await page.get_by_label("Search").type("half a w")
        before = await page.locator("tbody tr").count()
        await visit.here.create("arriving")
        await expect(page.locator("tbody tr")).to_have_count(before + 1)
        await expect(page.get_by_label("Search")).to_have_value("half a w")
        await expect(page.get_by_label("Search")).to_be_focused()


async def _goes_by_keyboard(visit: Visit) -> None:
    """The first key leads past the navigation, and Enter on a name opens it."""
    async with visit.page() as page:
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator("#live")).to_be_focused()
        link = page.get_by_role("link", name=f"{visit.ns}/sent", exact=True)
        for _ in range(60):
            await page.keyboard.press("Tab")
            if await link.evaluate("(a) => a === document.activeElement"):
                break
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_have_text(f"{visit.ns}/sent")


async def _follows_a_receiver(visit: Visit) -> None:
    """From a receiver to the notifications that wait for it."""
    async with visit.page("/receivers") as page:
        row = page.locator("tbody tr", has_text="slack:ops")
        await expect(row.locator('[data-label="Attempts"]')).not_to_have_text("0")
        await row.locator('[data-label="Waiting"] a').click()
        await expect(page.locator("tbody")).to_contain_text("/waits")
        await expect(page.locator("tbody")).not_to_contain_text("/sent")


async def _finds_without_scripts(visit: Visit) -> None:
    """A search leaves what has a word in its error, and a name leads to a story, also without scripts."""
    async with visit.page(java_script_enabled=False) as page:
        await page.get_by_label("Search").fill("receiver is busy")
        await page.get_by_role("button", name="Show").click()
        await expect(page.locator("tbody tr")).to_have_count(1)
        await page.get_by_role("link", name=f"{visit.ns}/waits").click()
        await expect(page.locator(".next")).to_contain_text("an attempt at")
        await expect(page.locator(".story li").nth(2)).to_contain_text("code 503")


async def _reads_on_every_screen(visit: Visit) -> None:
    """At 360 pixels nothing is wider than the screen, and axe finds nothing serious, dark or light."""
    found = []
    looked_at = {"/", "/list", "/receivers", "/health", f"/n/{visit.ns}/lost"}
    paths = [*PAGES, *(f"/n/{visit.ns}/{name}" for name in ("refused", "lost", "held"))]
    async with visit.page(viewport={"width": 360, "height": 740}) as page:
        for path in paths:
            await page.goto(visit.site.url + path)
            wide = await page.evaluate("() => document.documentElement.scrollWidth")
            if wide > 360:
                found.append(f"{path} is {wide} pixels wide")
            if path in looked_at:
                found += await visit.axe(page)
    async with visit.page(color_scheme="dark") as page:
        for path in ("/", f"/n/{visit.ns}/waits"):
            await page.goto(visit.site.url + path)
            found += await visit.axe(page)
    visit.faults[:] = [f for f in visit.faults if "404" not in f]  # the page that does not exist
    assert found == []


Journey = Callable[[Visit], Awaitable[None]]
JOURNEYS: Final[tuple[Journey, ...]] = (
    _begins_with_what_needs_attention, _filters_by_a_phase, _learns_why_not, _follows_a_receiver,
    _goes_by_keyboard, _finds_without_scripts, _reads_on_every_screen, _sees_it_arrive,
)  # fmt: skip


async def test_eight_journeys(here: Stage) -> None:
    """Each journey ends where it should, and the browser complains about nothing."""
    program = shutil.which("chromium")
    assert program is not None, "scripts/test installs it"
    failed: dict[str, str] = {}
    expect.set_options(timeout=_PATIENCE)
    async with (
        owner(here.notifier(sync=NO_SWEEPS)),
        async_playwright() as playwright,
    ):
        await with_a_past(here)
        async with explorer(here) as site:
            browser = await playwright.chromium.launch(executable_path=program)
            try:
                for journey in JOURNEYS:
                    visit = Visit(here, site, browser, [])
                    try:
                        await journey(visit)
                        assert visit.faults == []
                    except AssertionError as error:
                        failed[journey.__name__] = str(error)[:2000]
            finally:
                await browser.close()
    assert failed == {}
