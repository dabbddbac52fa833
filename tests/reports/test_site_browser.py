"""The site as a reader has it: opened from its folder in a real browser, without a network."""

from __future__ import annotations

from itertools import pairwise

import pytest
from report_runs import HOSTILE, card, estimate, outcome, verdict
from review_browser import chromium

from evalkit.reports.site import SiteRun, UnreadRun, site_pages
from evalkit.store.aliases import Promotion

STATUSES = ["pass", "fail", "inconclusive", "incomplete", "pass", "pass"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A site of six runs with two numbers, one measured anew half-way, and hostile names in all places."""
    runs = []
    for n, status in enumerate(STATUSES):
        version = 1 + (n >= 3)
        scorecard = card(
            [
                estimate(0.6 + 0.05 * n, signature=f"exact_match|v:{version}"),
                estimate(0.5, task="summarise", metric="rouge.rougeL"),
                estimate(0.4, task="hostile", metric=HOSTILE[n], unit=HOSTILE[1]),
            ],
            finished=f"2026-0{n + 1}-07T09:30:00+00:00",
            names={"candidate": HOSTILE[n]},
        )
        held = verdict([outcome()], status, reason=HOSTILE[n + 1])
        runs.append(SiteRun(f"orders-{n}", scorecard, held, f"runs/orders-{n}.html"))
    told = [
        Promotion(
            time="2026-03-09T10:00:00+00:00", alias="production", run=runs[n].name,
            scorecard=runs[n].scorecard.digest, status="pass", exit_code=0, by="kim",
            note=HOSTILE[n],
        )
        for n in (0, 3)
    ]  # fmt: skip
    site = tmp_path_factory.mktemp("site")
    unread = [UnreadRun("reports/broken", HOSTILE[0])]
    for name, content in site_pages(runs, told, unread).items():
        (site / name).write_text(content, encoding="utf-8")
    return site


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


class Opened:
    """A page, with what it said and what it asked for."""

    def __init__(self, browser, file, **context):
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.said, self.asked = [], []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.as_uri())

    def __enter__(self):
        return self

    def __exit__(self, *told):
        self.context.close()

    def drawn(self):
        """Scroll past every plot and wait until each is drawn."""
        figures = self.page.locator("figure.plot")
        for n in range(figures.count()):
            figures.nth(n).scroll_into_view_if_needed()
            self.page.wait_for_function(
                "n => ['done', 'failed'].includes(document.querySelectorAll('figure.plot')[n].dataset.drawn)",
                arg=n,
            )
        return [figures.nth(n) for n in range(figures.count())]


VIEWS = {
    "desktop": {"viewport": {"width": 1400, "height": 900}},
    "phone": {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2},
    "dark": {"viewport": {"width": 1100, "height": 900}, "color_scheme": "dark"},
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", ["index.html", "orders.html"])
def test_a_page_opens_without_a_request_or_a_complaint_and_is_accessible(
    browser, folder, name, view
):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    with Opened(browser, folder / name, **VIEWS[view]) as opened:
        opened.drawn()
        assert opened.page.title() in ("Scorecards", "Suite orders")
        assert opened.said == []
        assert opened.asked == [(folder / name).as_uri()]
        width = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert opened.page.evaluate(width) == 0
    # axe is put into the page by the driver, which the page's own policy would refuse.
    with Opened(browser, folder / name, bypass_csp=True, **VIEWS[view]) as opened:
        opened.drawn()
        found = axe.run(opened.page).response["violations"]
        serious = [each for each in found if each["impact"] in ("serious", "critical")]
        assert not serious, [(each["id"], each["nodes"][0]["html"]) for each in serious]


def test_every_plot_is_drawn_with_a_point_for_each_run_and_a_line_for_each_part(browser, folder):
    with Opened(browser, folder / "orders.html", **VIEWS["desktop"]) as opened:
        figures = opened.drawn()
        assert [figure.get_attribute("data-drawn") for figure in figures] == ["done"] * len(figures)
        article = opened.page.locator('article[data-name="extract/exact_match"]')
        points = article.locator("svg .mark-symbol.role-mark path")
        assert points.count() == len(STATUSES)
        lines = article.locator("svg .mark-line.role-mark path")
        assert lines.count() == 2
        assert "production" in article.locator("svg").text_content()
        # Of time: from left to right.
        places = [points.nth(n).bounding_box()["x"] for n in range(points.count())]
        assert all(one < two for one, two in pairwise(sorted(places)))
        assert article.locator("tbody tr").count() == len(STATUSES)


def test_numbers_are_found_by_their_names_and_tasks(browser, folder):
    with Opened(browser, folder / "orders.html", **VIEWS["desktop"]) as opened:
        page = opened.page
        shown = page.locator("article.series:visible")
        every = shown.count()
        page.get_by_label("Search numbers").fill("rouge")
        assert shown.count() == 1
        assert page.locator(".series-filters output").text_content() == f"1 of {every} shown"
        page.get_by_label("Search numbers").fill("")
        page.get_by_label("Task").select_option("extract")
        assert [shown.nth(0).get_attribute("data-name")] == ["extract/exact_match"]
        assert shown.count() == 1


def test_runs_are_filtered_by_verdict(browser, folder):
    with Opened(browser, folder / "index.html", **VIEWS["desktop"]) as opened:
        rows = opened.page.locator("#runs tbody tr:visible")
        assert rows.count() == len(STATUSES)
        opened.page.locator("#runs select[data-column=verdict]").select_option("fail")
        assert rows.count() == 1
        assert "failed" in rows.first.text_content()


def test_hostile_names_change_nothing_of_the_page(browser, folder):
    for name in ("index.html", "orders.html"):
        with Opened(browser, folder / name, **VIEWS["desktop"]) as opened:
            opened.drawn()
            assert opened.page.title() in ("Scorecards", "Suite orders")
            assert opened.page.locator("img, iframe, object, embed").count() == 0
            outside = opened.page.locator('a[href^="http"]')
            assert outside.count() == 0
