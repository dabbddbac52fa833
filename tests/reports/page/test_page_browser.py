"""The page of the quickstart in a real browser: read, searched, sorted, printed, on a phone and by keyboard."""

from __future__ import annotations

import shlex
from itertools import pairwise
from pathlib import PurePath

import pytest
from page_browser import draw_all, opened, quickstart, shown_rows
from report_runs import card, estimate, finished_run
from review_browser import chromium

from evalkit.reports.page import scorecard_page

SIZE = 3_000_000
"""Bytes that travel by mail without trouble."""


@pytest.fixture(scope="module")
def run(tmp_path_factory, root):
    return quickstart(root, tmp_path_factory.mktemp("quickstart"))


@pytest.fixture(scope="module")
def file(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(scorecard_page(run), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture
def tab(browser, file):
    """The page on a desk; whatever it says or asks for is a fault."""
    with opened(browser, file) as (tab, told):
        yield tab
        assert told == []


def column(tab, table, heading):
    """What stands in one column of the rows that are shown."""
    return tab.evaluate(
        """([name, heading]) => {
          const table = document.querySelector(`table[data-name="${name}"]`);
          const at = [...table.tHead.rows[0].cells].findIndex(th => th.innerText.trim().startsWith(heading));
          return [...table.tBodies[0].rows].filter(row => row.offsetParent).map(row => row.cells[at].dataset.value);
        }""",
        [table, heading],
    )


def numbers(values):
    return [float(value) for value in values if value]


def test_the_verdict_is_seen_before_anything_is_scrolled(tab, run):
    assert tab.title() == "quickstart: failed · scorecard"
    word = tab.locator(".verdict .word")
    assert word.inner_text().strip() == "✗ Failed"
    assert word.bounding_box()["y"] < 500
    assert run.verdict.reason in tab.locator(".verdict .sentence").inner_text()
    colour = word.evaluate("each => getComputedStyle(each).color")
    assert colour == tab.locator(".cards .fail .figure").evaluate(
        "each => getComputedStyle(each).color"
    )


def test_each_reason_leads_to_the_row_of_its_rule(tab):
    link = tab.locator(".reasons a").first
    rule, target = link.inner_text(), link.get_attribute("href")
    link.click()
    row = tab.locator(target)
    assert row.is_visible()
    assert rule in row.inner_text()
    number = row.locator("th a")
    number.click()
    assert tab.locator(number.get_attribute("href")).is_visible()


def test_every_link_of_the_page_leads_somewhere(tab):
    dead = tab.evaluate(
        "[...document.querySelectorAll('a[href^=\"#\"]')].map(a => a.hash.slice(1))"
        ".filter(id => !document.getElementById(id))"
    )
    assert dead == []
    assert (
        tab.evaluate(
            "[...document.querySelectorAll('[id]')].map(e => e.id).filter((id, n, all) => all.indexOf(id) !== n)"
        )
        == []
    )


@pytest.mark.parametrize("part", ["flips", "fairness", "weights"])
def test_a_link_to_a_part_stays_with_it_while_plots_above_it_are_drawn(tab, part):
    tab.click(f'nav a[href="#{part}"]')
    tab.wait_for_function("() => !document.querySelector('[data-drawn=begun]')")
    tab.wait_for_timeout(500)  # plots that came into view meanwhile
    assert 0 <= tab.locator(f"#{part}").bounding_box()["y"] < 200


def test_a_search_leaves_the_rows_with_its_words_in_every_table(tab):
    before = {name: len(shown_rows(tab, name)) for name in ("rules", "estimates", "slices")}
    tab.fill("#search", "EXACT_match oak")
    left = {name: shown_rows(tab, name) for name in before}
    assert all(0 <= len(rows) < before[name] for name, rows in left.items())
    assert left["rules"] and left["slices"]
    for rows in left.values():
        assert all("exact_match" in row and "Oak" in row for row in rows)
    assert "rows" in tab.locator("#found").inner_text()
    assert tab.locator('.contents a[href="#slices"] .hits').inner_text() == str(len(left["slices"]))
    tab.press("#search", "Enter")
    tab.fill("#search", "")
    assert {name: len(shown_rows(tab, name)) for name in before} == before


def test_filters_leave_what_was_chosen_and_say_how_much_that_is(tab, run):
    tab.select_option('.filters[data-for="rules"] select[data-column="status"]', "fail")
    rows = shown_rows(tab, "rules")
    assert len(rows) == sum(outcome.counts_as == "fail" for outcome in run.verdict.outcomes)
    assert all("failed" in row for row in rows)
    assert (
        tab.locator('.filters[data-for="rules"] output').inner_text().startswith(f"{len(rows)} of ")
    )
    tab.fill('.filters[data-for="rules"] input', "no such rule")
    assert shown_rows(tab, "rules") == []


def test_a_link_to_a_row_that_is_filtered_away_brings_it_back(tab):
    target = tab.locator('table[data-name="rules"] tbody tr').first.get_attribute("id")
    tab.fill("#search", "no such thing")
    tab.evaluate("id => { location.hash = id; }", target)
    tab.locator(f"#{target}").wait_for(state="visible")
    assert tab.input_value("#search") == ""


def test_numbers_sort_as_numbers_up_down_and_back(tab):
    button = tab.locator('table[data-name="estimates"] th button', has_text="Difference")
    heading = 'table[data-name="estimates"] th:has(button:text-is("Difference"))'
    before = column(tab, "estimates", "Difference")
    button.click()
    up = column(tab, "estimates", "Difference")
    assert tab.get_attribute(heading, "aria-sort") == "ascending"
    assert numbers(up) == sorted(numbers(before))
    button.click()
    assert numbers(column(tab, "estimates", "Difference")) == sorted(numbers(before), reverse=True)
    button.click()
    assert column(tab, "estimates", "Difference") == before
    assert tab.get_attribute(heading, "aria-sort") is None


def test_what_has_no_number_stays_behind_those_that_have_one(browser, tmp_path):
    held = [estimate(value, metric=f"m{n}") for n, value in enumerate((0.3, None, 0.1))]
    path = tmp_path / "some.html"
    path.write_text(scorecard_page(finished_run(card(held), None)), encoding="utf-8")
    with opened(browser, path) as (tab, told):
        button = tab.locator('table[data-name="estimates"] th button', has_text="Candidate")
        button.click()
        assert column(tab, "estimates", "Candidate") == ["0.1", "0.3", ""]
        button.click()
        assert column(tab, "estimates", "Candidate") == ["0.3", "0.1", ""]
        assert told == []


def test_every_plot_is_drawn_when_it_comes_into_view_and_none_before(browser, file):
    with opened(browser, file) as (tab, told):
        first = tab.eval_on_selector_all(
            "figure.plot", "all => all.filter(f => f.dataset.drawn).length"
        )
        draw_all(tab)
        drawn = tab.eval_on_selector_all("figure.plot", "all => all.map(f => f.dataset.drawn)")
        assert first < len(drawn)
        assert set(drawn) == {"done"}
        assert tab.locator("figure.plot svg").count() >= len(drawn)
        assert told == []


def test_plots_and_page_follow_the_theme_that_the_reader_chooses(tab):
    draw_all(tab)
    label = "figure.plot svg text"
    ink = "each => getComputedStyle(each).fill"
    ground = "getComputedStyle(document.body).backgroundColor"
    before = tab.eval_on_selector(label, ink), tab.evaluate(ground)
    tab.click("#theme")
    after = tab.eval_on_selector(label, ink), tab.evaluate(ground)
    assert before[0] != after[0]
    assert before[1] != after[1]
    assert tab.inner_text("#theme") == "Light theme"


@pytest.mark.parametrize(
    ("screen", "scheme"), [("desktop", "light"), ("desktop", "dark"), ("phone", "light")]
)
def test_axe_finds_nothing(browser, file, screen, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    # The checker is a script of its own, which the page's policy keeps out.
    with opened(browser, file, screen, scheme, bypass_csp=True) as (tab, _):
        draw_all(tab)
        found = axe.Axe().run(tab).response["violations"]
    assert [(each["id"], each["nodes"][0]["target"]) for each in found] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_part_of_the_page_is_wider_than_a_phone(browser, file, scheme):
    with opened(browser, file, "phone", scheme) as (tab, told):
        draw_all(tab)
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert told == []


def test_the_keyboard_reaches_content_search_and_tables_and_is_seen_to(tab):
    tab.keyboard.press("Tab")
    skip = tab.locator(".skip")
    assert skip.evaluate("each => each === document.activeElement")
    assert skip.bounding_box()["y"] >= 0
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "main"
    for selector in (
        "#search",
        "#theme",
        ".contents a",
        "th button.sort",
        ".wide",
        ".filters select",
    ):
        tab.evaluate("document.activeElement.blur()")
        place = tab.locator(selector).first
        place.focus()
        tab.keyboard.press("Shift+Tab")
        tab.keyboard.press("Tab")
        assert place.evaluate("each => each === document.activeElement"), selector
        style = place.evaluate("each => getComputedStyle(each).outlineStyle")
        width = place.evaluate("each => parseFloat(getComputedStyle(each).outlineWidth)")
        assert style != "none" and width >= 2, selector
    button = tab.locator('table[data-name="rules"] th button').first
    button.focus()
    tab.keyboard.press("Enter")
    assert tab.locator('table[data-name="rules"] th[aria-sort="ascending"]').count() == 1


def test_headings_have_an_order_and_parts_have_names(tab):
    levels = tab.eval_on_selector_all("h1, h2, h3, h4, h5", "all => all.map(h => +h.tagName[1])")
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert tab.get_attribute("html", "lang") == "en"
    for part in tab.query_selector_all("main > section"):
        assert tab.locator(f"#{part.get_attribute('aria-labelledby')}").inner_text()


def test_the_print_is_light_with_every_plot_drawn_and_nothing_folded(browser, file):
    with opened(browser, file, scheme="dark") as (tab, told):
        first = tab.pdf(format="A4")
        again = tab.pdf(format="A4")
        assert first.startswith(b"%PDF")
        drawn = tab.eval_on_selector_all("figure.plot", "all => all.map(f => f.dataset.drawn)")
        assert set(drawn) == {"done"}
        # Were a plot drawn only after the first print, the second would be longer.
        assert abs(len(first) - len(again)) < 0.01 * len(again)
        assert tab.locator("details.more[open]").count() == 0
        tab.emulate_media(media="print")
        assert (
            tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        )
        assert told == []


def test_a_script_that_is_not_the_pages_own_does_not_run(browser, file, tmp_path):
    text = file.read_text(encoding="utf-8")
    forged = tmp_path / "forged.html"
    attack = (
        "<script>document.title = 'owned'</script>"
        '<img src="data:," onerror="document.title = \'owned\'">'
        '<img src="https://example.invalid/seen.png">'
    )
    forged.write_text(text.replace("</main>", f"{attack}</main>"), encoding="utf-8")
    with opened(browser, forged) as (tab, told):
        tab.wait_for_timeout(300)
        assert tab.title() == "quickstart: failed · scorecard"
        refused = [each for each in told if "Content Security Policy" in each]
        assert any("inline script" in each for each in refused)
        assert any("inline event handler" in each for each in refused)
        assert any("https://example.invalid/seen.png" in each for each in refused)


def test_the_command_is_copied_without_a_clipboard_too(browser, file, run):
    with opened(browser, file) as (tab, told):
        tab.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
        tab.click('button[data-copy="reproduce"]')
        tab.wait_for_selector('button.copy:not(:text-is("Copy"))')
        assert tab.evaluate("String(getSelection())") == tab.inner_text("#reproduce")
        words = shlex.split(tab.inner_text("#reproduce"))
        assert words[0] == PurePath(run.scorecard.circumstances.command[0]).name
        assert tuple(words[1:]) == run.scorecard.circumstances.command[1:]
        assert told == []


def test_every_number_can_be_read_where_no_script_runs(browser, file):
    held = browser.new_context(java_script_enabled=False)
    tab = held.new_page()
    tab.goto(file.as_uri())
    assert "Scripts are off" in tab.inner_text("main")
    assert "Failed" in tab.inner_text(".verdict")
    assert tab.locator('table[data-name="estimates"] tbody tr').first.is_visible()
    assert not tab.locator("#search").is_visible()
    assert not tab.locator("figure.plot").first.is_visible()
    held.close()


def test_the_file_is_small_enough_for_a_mail_and_names_no_other_server(file):
    text = file.read_text(encoding="utf-8")
    assert len(text.encode()) < SIZE
    body = text[: text.index('<script type="application/json"')]
    assert "http://" not in body
    assert "https://" not in body
