"""The sections on groups, judges, people and weights in a real browser: drawn, harmless, legible, accessible."""

from __future__ import annotations

import pytest
from evidence_runs import HOSTILE, made
from review_browser import chromium

from evalkit.reports.page import scorecard_page

pytest.importorskip("safetensors", reason="the spectral extra is not installed")
pytest.importorskip("vl_convert", reason="the spectral extra is not installed")

SECTIONS = {"reviewed": ("fairness", "judges", "people"), "weighed": ("weights",)}
VIEWS = {
    "desktop": {"viewport": {"width": 1280, "height": 900}},
    "phone": {"viewport": {"width": 390, "height": 844}},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory, root):
    """Kind of run → the file of its page."""
    base, models = tmp_path_factory.getbasetemp(), root / "suites" / "quickstart" / "models"
    files = {}
    for kind in SECTIONS:
        run = made(kind, base, models)
        files[kind] = tmp_path_factory.mktemp("page") / f"{kind}.html"
        files[kind].write_text(scorecard_page(run))
    return files


@pytest.fixture(scope="module")
def browser(pages):
    """Chromium, started after the runs are made: no command can be run in a thread that drives a browser."""
    with chromium() as running:
        yield running


def opened(browser, file, view):
    """A page with every plot of these sections drawn, and what it said or asked for meanwhile."""
    page = browser.new_context(**VIEWS[view]).new_page()
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on(
        "request",
        lambda request: None if request.url == file.as_uri() else said.append(request.url),
    )
    page.goto(file.as_uri())
    return page, said


def draw(page, sections):
    for name in sections:
        for figure in page.query_selector_all(f"#{name} figure.plot"):
            figure.scroll_into_view_if_needed()
            page.wait_for_function("figure => figure.querySelector('svg')", arg=figure)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("kind", SECTIONS)
def test_every_plot_is_drawn_nothing_is_said_or_loaded_and_the_sections_are_accessible(
    browser, pages, kind, view
):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    )
    page, said = opened(browser, pages[kind], view)
    draw(page, SECTIONS[kind])
    for name in SECTIONS[kind]:
        marks = page.eval_on_selector_all(
            f"#{name} figure.plot", "all => all.map(f => f.querySelectorAll('svg path').length)"
        )
        assert marks
        assert all(count > 3 for count in marks), (name, marks)
    assert said == []
    assert page.title() != "owned"
    assert page.evaluate("document.documentElement.scrollWidth") <= VIEWS[view]["viewport"]["width"]
    found = axe.Axe().run(page, context={"include": [[f"#{name}"] for name in SECTIONS[kind]]})
    serious = [v for v in found.response["violations"] if v["impact"] in ("serious", "critical")]
    assert not serious, [(v["id"], [n["html"][:200] for n in v["nodes"][:3]]) for v in serious]
    page.context.close()


def test_a_groups_name_that_is_markup_is_read_as_it_is(browser, pages):
    page, said = opened(browser, pages["reviewed"], "desktop")
    cell = page.locator("#fairness table[data-name='fairness-0-groups'] tbody th").first
    assert cell.inner_text() == HOSTILE
    assert said == []
    page.context.close()


def luminance(colour):
    """WCAG 2.2's relative luminance of ``rgb(…)``."""
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("view", ["desktop", "dark"])
@pytest.mark.parametrize("kind", SECTIONS)
def test_text_in_plots_has_the_contrast_that_aa_asks_for(browser, pages, kind, view):
    page, _ = opened(browser, pages[kind], view)
    draw(page, SECTIONS[kind])
    pairs = page.evaluate(
        """sections => sections.flatMap(name => [...document.querySelectorAll(`#${name} figure.plot`)].flatMap(
          figure => [...figure.querySelectorAll('svg text')].filter(t => t.textContent).map(
            t => [getComputedStyle(t).fill, getComputedStyle(figure).backgroundColor])))""",
        list(SECTIONS[kind]),
    )
    assert len(pairs) > 20
    for text, ground in set(map(tuple, pairs)):
        light, dark = sorted((luminance(text), luminance(ground)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)
    page.context.close()


def test_without_scripts_every_number_is_still_there(browser, pages):
    for kind, sections in SECTIONS.items():
        page = browser.new_context(java_script_enabled=False).new_page()
        page.goto(pages[kind].as_uri())
        for name in sections:
            assert page.locator(f"#{name} table tbody tr").count() > 5
        page.context.close()
