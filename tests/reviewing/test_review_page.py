"""The page on which people rate, and the files of a review: harmless whatever the answers hold, and nothing is lost.

The page is driven in a real browser where one is installed: Playwright's Python package and Chromium.
"""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from review_browser import chromium
from review_worlds import LABELS, SCALE

from evalkit.errors import UsageError
from evalkit.records.review import DrawnAnswer, DrawnTask, Item, Review
from evalkit.reports.review_page import embedded, review_page
from evalkit.reviewing import Exported
from evalkit.store.reviews import ITEMS, PAGE, SHEET, read_items, read_labels, write_review

HOSTILE = [
    "</script><script>document.title='owned'</script>",
    "<!--<script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "nul \0 bell \a escape \x1b[31m delete \x7f",
    "\u202eright to left\u2066 \u2069 end",
    "lone \ud800 surrogate, \u2028 separator, \ufeff mark",
    '=HYPERLINK("http://example.invalid","click")',
    "{{data}} {{policy}} ${document.title='owned'}",
    "x" * 1_000_000,
    "",
]


def exported(texts, spec=SCALE):
    items = tuple(
        Item(item=f"item{n:08}", task="write", prompt=f"Say {n}", targets=("ref",), answer=text)
        for n, text in enumerate(texts)
    )
    answers = tuple(
        DrawnAnswer(item=i.item, task="write", sample=f"s{n}", models=("candidate",))
        for n, i in enumerate(items)
    )
    task = DrawnTask(task="write", review=spec, drawn=len(items), of=len(items))
    review = Review(
        id="feed12345678",
        scorecard="c" * 64,
        draw="uniform",
        seed=0,
        both=False,
        tasks=(task,),
        answers=answers,
    )
    return Exported(review, items)


class Scripts(HTMLParser):
    """The scripts of a page, as an HTML parser sees them."""

    def __init__(self):
        super().__init__()
        self.tags, self.texts = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.texts.append("")

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] == "script":
            self.texts[-1] += data


def scripts(page):
    parser = Scripts()
    parser.feed(page)
    return parser


@given(st.text() | st.sampled_from(HOSTILE))
def test_any_text_reaches_the_page_as_the_same_text_and_adds_no_element(text):
    made = exported([text])
    parsed = scripts(review_page(made.review, made.items))
    content, _ = parsed.texts[:2]
    assert json.loads(content)["items"][0]["answer"] == text
    assert len(parsed.texts) == 2
    assert not [tag for tag, _ in parsed.tags if tag in ("img", "iframe", "link", "object")]


def test_the_policy_lets_nothing_be_fetched_and_runs_the_pages_own_script_alone():
    made = exported(HOSTILE)
    page = review_page(made.review, made.items)
    policy = next(
        a["content"] for t, a in scripts(page).tags
        if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )  # fmt: skip
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy and "http" not in policy.replace("http-equiv", "")
    outside = re.sub(r'<script id="data".*?</script>', "", page, flags=re.DOTALL)
    assert not re.search(r"(?:src|href)\s*=\s*[\"'\w]+[:/]|https?://|url\(|@import", outside)


def test_the_page_does_not_hold_the_key():
    made = exported(["an answer"])
    page = review_page(made.review, made.items)
    assert "candidate" not in page
    assert made.review.scorecard not in page


def test_embedded_json_has_no_character_that_html_reads():
    assert not set(embedded(HOSTILE)) & set("<>&\u2028")


def test_hostile_answers_come_back_from_the_files_and_start_no_formula(tmp_path):
    made = exported(HOSTILE)
    write_review(tmp_path, made, review_page(made.review, made.items))
    assert [item.answer for item in read_items(tmp_path).values()] == HOSTILE
    csv.field_size_limit(1 << 24)
    with (tmp_path / SHEET).open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(HOSTILE)
    assert not [r for r in rows for cell in r.values() if cell.startswith(("=", "+", "-", "@"))]
    assert b"\0" not in (tmp_path / SHEET).read_bytes() + (tmp_path / ITEMS).read_bytes()


def test_a_filled_in_sheet_is_read_back_with_the_line_of_each_label(tmp_path):
    made = exported(["one\nof two lines", "=2+2", "last"])
    write_review(tmp_path, made, "")
    with (tmp_path / SHEET).open(encoding="utf-8-sig", newline="") as file:
        head, *rows = csv.reader(file)
    place = {name: head.index(name) for name in ("rating", "annotator", "comment")}
    for row, rating in zip(rows, ("4", "", "2"), strict=True):
        row[place["rating"]], row[place["annotator"]] = rating, "ann"
    filled = tmp_path / "filled.csv"
    with filled.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=";").writerows([head, *rows])
    labels = read_labels([filled])
    assert [(label.item, label.rating, label.line) for label in labels] == [
        ("item00000000", "4", 2), ("item00000001", "", 4), ("item00000002", "2", 5)
    ]  # fmt: skip
    assert {label.review for label in labels} == {"feed12345678"}


def test_lines_that_are_no_labels_are_all_told(tmp_path):
    one, two = tmp_path / "ann.jsonl", tmp_path / "bob.csv"
    one.write_text('{"item": "a", "rating": 1, "annotator": "ann"}\n\n{oops\n[1]\n')
    two.write_text("item,score\na,1\n")
    with pytest.raises(UsageError) as raised:
        read_labels([one, two])
    assert [(p.file, p.line) for p in raised.value.problems] == [
        (str(one), 3), (str(one), 4), (str(two), 1)
    ]  # fmt: skip


def test_another_review_never_replaces_one_whose_labels_may_be_under_way(tmp_path):
    write_review(tmp_path, exported(["one"]), "first")
    write_review(tmp_path, exported(["one"]), "first")
    other = exported(["two"])
    changed = other.review.model_copy(update={"id": "another"})
    with pytest.raises(UsageError, match="another review"):
        write_review(tmp_path, Exported(changed, other.items), "second")
    assert (tmp_path / PAGE).read_text() == "first"


# --- in a browser -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture
def opened(browser, tmp_path):
    """Opens a review's page from its file; complaints of the page and requests beyond the file are failures."""
    faults = []
    context = browser.new_context(accept_downloads=True)

    def open_(made, name="Ann", **settings):
        nonlocal context
        if settings:
            context.close()
            context = browser.new_context(accept_downloads=True, **settings)
        file = tmp_path / PAGE
        file.write_text(review_page(made.review, made.items), encoding="ascii")
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
        page.on(
            "request",
            lambda r: (
                None if r.url.startswith(("file:", "blob:", "data:")) else faults.append(r.url)
            ),
        )
        page.goto(file.as_uri())
        if name:
            page.fill("#name", name)
            page.keyboard.press("Enter")
        return page

    yield open_
    context.close()
    assert not faults


def exported_labels(page):
    page.click("#export")
    rows = [json.loads(line) for line in page.input_value("#labels").splitlines()]
    page.click("#close")
    return rows


def test_twenty_answers_are_rated_by_keyboard_and_a_reload_midway_loses_nothing(opened, tmp_path):
    page = opened(exported([f"answer {n}" for n in range(20)]))
    ratings = [1 + n % 5 for n in range(20)]
    for n, rating in enumerate(ratings):
        if n == 9:
            page.reload()
            assert page.text_content("#place") == "Answer 10 of 20", "it goes on where it was"
            assert not page.is_visible("#name"), "the name is asked once"
        assert page.text_content("#answer") == f"answer {n}"
        page.keyboard.press(str(rating))
        assert page.text_content('#ratings [aria-pressed="true"]') == f"✓{rating}"
        if n == 4:
            page.fill("#comment", "cut off mid-\nsentence")
            page.keyboard.press("Escape")
        page.keyboard.press("ArrowRight")
    assert page.text_content("#state") == "Rated 5 · 20 of 20 done"
    page.click("#export")
    with page.expect_download() as waiting:
        page.click("#download")
    file = tmp_path / "labels.jsonl"
    waiting.value.save_as(file)
    assert waiting.value.suggested_filename == "labels-feed12345678-Ann.jsonl"
    labels = read_labels([file])
    assert [(label.item, label.rating) for label in labels] == [
        (f"item{n:08}", rating) for n, rating in enumerate(ratings)
    ]
    assert {(label.annotator, label.review) for label in labels} == {("Ann", "feed12345678")}
    assert [label.comment for label in labels if label.comment] == ["cut off mid-\nsentence"]


def test_labels_are_rated_by_their_first_letters_and_by_number(opened):
    page = opened(exported(["one", "two", "three"], LABELS))
    for key in ("g", "2", "B"):
        page.keyboard.press(key)
        page.keyboard.press("ArrowRight")
    assert [row["rating"] for row in exported_labels(page)] == ["good", "fair", "bad"]


def test_keys_typed_into_a_comment_do_not_rate(opened):
    page = opened(exported(["one", "two"]))
    page.click("#comment")
    page.keyboard.type("5 of 5")
    page.keyboard.press("ArrowRight")
    assert page.text_content("#place") == "Answer 1 of 2"
    assert exported_labels(page) == []


def test_a_rating_can_be_changed_and_taken_back(opened):
    page = opened(exported(["one"]))
    page.keyboard.press("2")
    page.keyboard.press("4")
    assert [row["rating"] for row in exported_labels(page)] == [4]
    page.click("#clear")
    assert exported_labels(page) == []
    assert page.text_content("#state") == "Not rated · 0 of 1 done"


def test_hostile_answers_are_shown_as_text(opened):
    page = opened(exported(HOSTILE))
    shown = []
    for _ in HOSTILE:
        shown.append(page.text_content("#answer"))
        page.keyboard.press("3")
        page.keyboard.press("ArrowRight")
    assert shown[0] == HOSTILE[0]
    assert shown[3] == "nul ␀ bell ␇ escape ␛[31m delete ␡"
    assert len(shown[8]) == 1_000_000
    assert shown[9] == "The answer is empty."
    assert page.title() == "Rate answers"
    assert page.evaluate("document.querySelectorAll('img').length") == 0
    assert len(exported_labels(page)) == len(HOSTILE)


def test_annotators_on_one_machine_keep_their_ratings_apart(opened):
    page = opened(exported(["one"]))
    page.keyboard.press("5")
    page.click("#rename")
    page.fill("#name", "Bob <b>")
    page.keyboard.press("Enter")
    assert exported_labels(page) == []
    page.keyboard.press("1")
    assert [(r["annotator"], r["rating"]) for r in exported_labels(page)] == [("Bob <b>", 1)]
    page.click("#rename")
    page.fill("#name", "Ann")
    page.keyboard.press("Enter")
    assert [(r["annotator"], r["rating"]) for r in exported_labels(page)] == [("Ann", 5)]


def test_two_open_pages_do_not_undo_one_another(opened):
    made = exported(["one", "two"])
    first, second = opened(made), opened(made, name="")
    first.keyboard.press("5")
    second.keyboard.press("ArrowRight")
    second.keyboard.press("2")
    assert [row["rating"] for row in exported_labels(first)] == [5, 2]


def test_a_page_that_was_not_told_of_another_ones_rating_keeps_it_all_the_same(opened):
    """A sleeping tab gets no event: what was stored meanwhile is read again before it is written over."""
    made = exported(["one", "two"])
    first, second = opened(made), opened(made, name="")
    for page in (first, second):
        page.add_init_script(
            "window.addEventListener('storage', (event) => event.stopImmediatePropagation());"
        )
    # What one tab stores reaches the other's process when the browser comes to it.
    second.wait_for_function("() => localStorage.length > 0")
    for page in (first, second):
        page.reload()
    first.keyboard.press("5")
    second.wait_for_function("() => JSON.stringify({...localStorage}).includes('rating')")
    second.keyboard.press("ArrowRight")
    second.keyboard.press("2")
    assert [row["rating"] for row in exported_labels(second)] == [5, 2]


def test_where_nothing_can_be_kept_the_page_says_so_and_exports_all_the_same(opened):
    page = opened(exported(["one"]), name="")
    page.evaluate("() => { Storage.prototype.setItem = () => { throw new Error('full'); }; }")
    page.fill("#name", "Ann")
    page.keyboard.press("Enter")
    page.keyboard.press("4")
    assert "export your ratings before" in page.text_content("#warning")
    assert [row["rating"] for row in exported_labels(page)] == [4]


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_no_width_of_screen_needs_sideways_scrolling(opened, width):
    page = opened(exported(HOSTILE), viewport={"width": width, "height": 800})
    for _ in HOSTILE:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.keyboard.press("ArrowRight")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_the_contrast_that_wcag_asks_for(opened, scheme):
    """Source: WCAG 2.2, success criterion 1.4.3: at least 4.5 to 1 for text of this size."""
    page = opened(exported(["one"], LABELS), color_scheme=scheme)
    page.keyboard.press("g")
    found = page.evaluate(
        """() => [...document.querySelectorAll('h1,h2,p,button:not([disabled]),label,span,kbd')]
          .filter((e) => e.offsetParent && e.textContent.trim()).map((e) => {
            const lum = (c) => c.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
              .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
              .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
            let behind = e;
            while (getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)') behind = behind.parentElement;
            const pair = [lum(getComputedStyle(e).color), lum(getComputedStyle(behind).backgroundColor)];
            return [e.id || e.tagName, (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05)];
          })"""
    )
    assert len(found) > 10
    assert not [pair for pair in found if pair[1] < 4.5]


def test_everything_can_be_reached_by_tab_and_is_named(opened):
    page = opened(exported(["one", "two"]))
    names, outlined = set(), set()
    for _ in range(30):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            """() => {
              const e = document.activeElement;
              const name = e.id || e.getAttribute('aria-keyshortcuts') || e.tagName;
              return [name, getComputedStyle(e).outlineStyle];
            }"""
        )
        names.add(name)
        outlined |= {name} if outline == "solid" else set()
    wanted = {"export", "rename", "answer", "comment", "next", "1", "5"}
    assert wanted <= names
    assert wanted <= outlined, "what has the focus is seen to have it"
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('button,textarea,input,progress')].filter((e) =>
          !(e.textContent.trim() || e.getAttribute('aria-label') || (e.labels && e.labels.length))).length"""
    )
    assert unnamed == 0
