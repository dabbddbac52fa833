"""The browser over samples and the difference of two answers, in a real browser: found, filtered, paged, compared."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replayed_runs import finished, replayed, write_lines
from review_browser import chromium

from evalkit.reports.page.frame import page as page_of
from evalkit.reports.page.sections import flips, samples

COUNT = 130
THINGS = ["kettle", "lamp", "rope", "ladder", "stove", "crate", "drill"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    draw = random.Random(3)
    rows, candidate, baseline = [], {}, {}
    for n in range(COUNT):
        thing = draw.choice(THINGS)
        row = {"id": f"s{n:03}", "question": f"What is in box {n}?", "target": f"a {thing}"}
        rows.append(row | {"region": "north" if n % 3 else "south"})
        for answers, right in ((candidate, 0.7), (baseline, 0.8)):
            answers[row["id"]] = row["target"] if draw.random() < right else f"some {thing}s"
    candidate["s007"] = baseline["s008"] = None
    return replayed(tmp_path_factory.mktemp("browsed"), rows, candidate, baseline)


@pytest.fixture(scope="module")
def file(run, tmp_path_factory):
    """The page's two parts on samples, inside the page's own frame."""
    parts = [flips.section(run), samples.section(run)]
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page_of("browsed", parts), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture
def tab(browser, file):
    """The page, opened from a file without any network, with the browser of samples in view."""
    told = []
    tab = browser.new_page()
    tab.on("console", lambda message: told.append(message.text))
    tab.on("pageerror", lambda error: told.append(str(error)))
    tab.on("request", lambda r: told.append(r.url) if not r.url.startswith("file:") else None)
    tab.goto(file.as_uri())
    tab.locator("#samples-browser").scroll_into_view_if_needed()
    tab.wait_for_selector("details.sample")
    yield tab
    tab.close()
    assert not told


@pytest.fixture(scope="module")
def rows(run):
    """Truth, as any JSON reader reads it: id → model → row."""
    found = {}
    for line in (run.path / "samples.jsonl").read_bytes().splitlines():
        row = json.loads(line)
        found.setdefault(row["id"], {})[row["model"]] = row
    return found


def right(row):
    return "failed" not in row and row["scores"]["exact_match"]["match"] == 1


def settled(tab, count):
    """Wait until the browser tells this many matches."""
    tab.wait_for_function(
        "count => document.getElementById('samples-told').textContent.startsWith(count + ' of')",
        arg=str(count),
    )


def shown(tab):
    """The ids of all samples found, page after page."""
    ids = []
    while True:
        names = tab.locator("details.sample > summary code").all_text_contents()
        assert len(names) <= 50
        ids += [name.split("/")[-1] for name in names]
        following = tab.locator("#samples-next")
        if not following.is_visible() or following.is_disabled():
            return ids
        following.click()


def test_every_sample_is_found_in_pages_of_fifty(tab, rows):
    settled(tab, COUNT)
    assert tab.locator("details.sample").count() == 50
    ids = shown(tab)
    assert sorted(ids) == sorted(rows)
    assert tab.locator("#samples-place").text_content() == "page 3 of 3"
    tab.locator("#samples-before").click()
    assert tab.locator("#samples-place").text_content() == "page 2 of 3"


def test_the_pages_own_search_reaches_the_samples(tab, rows):
    tab.fill("#search", "12? s01")  # both words, in any order and in any text
    held = [
        i for i, r in rows.items() if i.startswith("s01") and "12?" in json.dumps(r["candidate"])
    ]
    assert 0 < len(held) < COUNT
    settled(tab, len(held))
    assert sorted(shown(tab)) == held
    tab.fill("#search", "")
    settled(tab, COUNT)


def test_what_is_looked_for_stands_first(tab, rows):
    ids = shown(tab)
    worse = {i for i, r in rows.items() if right(r["baseline"]) and not right(r["candidate"])}
    worse -= {"s007", "s008"}
    assert set(ids[: len(worse)]) == worse
    assert set(ids[len(worse) : len(worse) + 2]) == {"s007", "s008"}


@pytest.mark.parametrize(
    ("model", "state", "holds"),
    [
        ("", "worse", lambda c, b: right(b) and not right(c) and "failed" not in c),
        ("", "better", lambda c, b: right(c) and not right(b) and "failed" not in b),
        ("", "failed", lambda c, b: "failed" in c or "failed" in b),
        ("0", "failed", lambda c, b: "failed" in c),
        ("1", "right", lambda c, b: right(b)),
        ("0", "wrong", lambda c, b: not right(c) and "failed" not in c),
    ],
)
def test_filters_show_the_samples_of_that_state_alone(tab, rows, model, state, holds):
    tab.locator("#samples-model").select_option(model)
    tab.locator("#samples-state").select_option(state)
    meant = sorted(i for i, r in rows.items() if holds(r["candidate"], r["baseline"]))
    assert meant
    settled(tab, len(meant))
    assert sorted(shown(tab)) == meant


@pytest.mark.parametrize(
    "words", ["LAMP", "box 12?", "region=south", "s007", "nothing of the kind"]
)
def test_search_finds_what_stands_in_any_text_of_a_sample(tab, rows, words):
    tab.locator("#samples-search").fill(words)
    meant = []
    for name, held in rows.items():
        texts = [name]
        for row in held.values():
            texts += [row["prompt"], *row["targets"], *(a.get("text", "") for a in row["answers"])]
            texts += [f"{field}={value}" for field, value in row["slices"].items()]
            texts.append(row.get("failed", {}).get("message", ""))
        if any(words.lower() in text.lower() for text in texts):
            meant.append(name)
    settled(tab, len(meant))
    assert sorted(shown(tab)) == sorted(meant)


def test_a_sample_opens_by_keyboard_and_shows_both_answers_scores_and_their_difference(tab, rows):
    tab.locator("#samples-search").fill("some")
    tab.locator("#samples-state").select_option("worse")
    settled(tab, sum(right(r["baseline"]) and not right(r["candidate"]) for r in rows.values()) - 1)
    name = tab.locator("details.sample > summary code").first.text_content().split("/")[-1]
    tab.locator("details.sample > summary").first.press("Enter")
    opened = tab.locator("details.sample").first
    opened.locator(".answer").first.wait_for()
    ours, theirs = (rows[name][role]["answers"][0]["text"] for role in ("candidate", "baseline"))
    assert opened.locator(".answer .model-text").all_text_contents() == [theirs, ours]
    assert rows[name]["candidate"]["prompt"] in opened.text_content()
    marked = opened.locator(".difference .model-text").first
    assert marked.locator("del").count() and marked.locator("ins").count()
    assert "[removed:" in marked.text_content() and "[added:" in marked.text_content()
    assert opened.locator("tbody tr", has_text="exact_match").locator("td").all_text_contents() == [
        "0",
        "1",
    ]


def test_the_ledger_marks_the_difference_when_a_sample_is_opened(tab):
    flip = tab.locator("details.flip").first
    assert flip.locator("ins, del").count() == 0
    flip.locator("summary").first.click()
    flip.locator(".difference p").first.wait_for()
    old, new = flip.locator(".answer .model-text").all_text_contents()
    pieces = flip.locator(".difference .model-text")
    kept = pieces.evaluate(
        """(text, gone) => {
            const copy = text.cloneNode(true);
            copy.querySelectorAll(gone + ', .said').forEach((e) => e.remove());
            return copy.textContent;
        }""",
        "ins",
    )
    assert kept == old != new


def test_the_ledger_leads_to_all_samples_that_got_worse(tab, rows):
    worse = [i for i, r in rows.items() if right(r["baseline"]) and not right(r["candidate"])]
    worse.remove("s007")  # it failed
    assert len(worse) > 10
    tab.locator("button.to-samples", has_text=f"all {len(worse)}").first.click()
    settled(tab, len(worse))
    assert sorted(shown(tab)) == sorted(worse)


KINDS = """\
  - name: talk
    dataset: {path: talk.jsonl}
    messages: [{role: system, content: Be brief.}, {role: user, content: "{{ question }}"}]
    target: "{{ target }}"
    decoding: {temperature: 0.7, replicates: 2}
    metrics: [exact_match]
  - name: choose
    kind: multiple_choice
    dataset: {path: choose.jsonl}
    prompt: "{{ question }}"
    choices: choices
    target: "{{ answer }}"
  - name: fluent
    kind: perplexity
    dataset: {path: fluent.jsonl}
    text: "{{ text }}"
"""


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """One sample of each kind of task; the baseline never answered."""
    folder = tmp_path_factory.mktemp("kinds")
    write_lines(folder / "talk.jsonl", [{"id": "1", "question": "Who?", "target": "me"}])
    choices = {"question": "Sky?", "choices": ["red", "blue"], "answer": 1}
    write_lines(folder / "choose.jsonl", [{"id": "2"} | choices])
    write_lines(folder / "fluent.jsonl", [{"id": "3", "text": "A text that is read."}])
    said = [
        {"id": "1", "text": "me"},
        {"id": "1", "text": "somebody", "replicate": 1, "finish_reason": "length"},
        {"id": "2", "choice": "red", "logprobs": [-0.5]},
        {"id": "2", "choice": "blue", "logprobs": [-2.0, -1.0]},
        {"id": "3", "logprobs": [-1.0, -2.5]},
    ]
    write_lines(folder / "candidate.jsonl", said)
    path = folder / "report.html"
    path.write_text(page_of("kinds", [samples.section(finished(folder, KINDS))]), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("task", "state", "told"),
    [
        ("talk", "partly", ["Be brief.", "Who?", "me", "somebody", "cut off", "0.5"]),
        ("choose", "wrong", ["Sky?", "blue (target)", "-0.5 (likeliest)", "-3"]),
        ("fluent", "measured", ["A text that is read.", "log-probability -3.5, 2 tokens"]),
    ],
)
def test_every_kind_of_task_shows_what_was_asked_and_answered(browser, kinds, task, state, told):
    tab = browser.new_page()
    errors = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.goto(kinds.as_uri())
    tab.locator("#samples-browser").scroll_into_view_if_needed()
    tab.locator("#samples-task").select_option(label=task)
    settled(tab, 1)
    opened = tab.locator("details.sample").first
    assert opened.locator("summary .status").all_text_contents()[0].split()[-1] == state
    opened.locator("summary").click()
    opened.locator(".sample-parts").wait_for()
    text = opened.text_content()
    assert [each for each in told if each not in text] == []
    tab.close()
    assert not errors


def test_nothing_is_unpacked_before_somebody_comes_near(browser, file):
    tab = browser.new_page(viewport={"width": 800, "height": 300})
    tab.add_init_script(
        "window.unpacked = 0; const real = DecompressionStream;"
        "window.DecompressionStream = class { constructor(f) { window.unpacked += 1; return new real(f); } };"
    )
    tab.goto(file.as_uri())
    tab.wait_for_timeout(300)
    assert tab.evaluate("window.unpacked") == 0
    tab.locator("#samples-browser").scroll_into_view_if_needed()
    tab.wait_for_selector("details.sample")
    assert tab.evaluate("window.unpacked") == 1
    tab.close()


def test_a_browser_that_cannot_unpack_says_so_and_the_counts_stand(browser, file):
    tab = browser.new_page()
    tab.add_init_script("delete window.DecompressionStream")
    tab.goto(file.as_uri())
    tab.locator("#samples-browser").scroll_into_view_if_needed()
    tab.wait_for_function(
        "() => document.getElementById('samples-told').textContent.includes('cannot unpack')"
    )
    assert tab.locator("#samples-search").is_disabled()
    assert tab.locator("table[data-name=standing] tbody tr").count() == 2
    tab.close()


def test_without_scripts_counts_and_flips_can_be_read(browser, file):
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(file.as_uri())
    assert tab.locator("#samples noscript").count() == 1
    assert not tab.locator("#samples-browser").is_visible()
    assert tab.locator("table[data-name=standing]").is_visible()
    tab.locator("details.flip summary").first.click()
    assert tab.locator("details.flip .answers").first.is_visible()
    context.close()


# The difference itself.

TEXT = st.text(
    alphabet=st.sampled_from("abc \n\u00e9\U0001f642\U0001f680\u0301\u202e"), max_size=40
)
ANY = st.text(alphabet=st.characters(), max_size=60)  # lone surrogates too


def edits(one, two):
    """Fewest code points removed and added: |a| + |b| − 2 · longest common subsequence, by the textbook's table."""
    row = [0] * (len(two) + 1)
    for a in one:
        before, row = row, [0]
        for place, b in enumerate(two, start=1):
            row.append(before[place - 1] + 1 if a == b else max(row[-1], before[place]))
    return len(one) + len(two) - 2 * row[-1]


def compared(tab, pairs):
    """Return the differences; texts travel as lists of code points, which may be halves of a pair."""
    found = tab.evaluate(
        """pairs => pairs.map(([a, b]) => {
            const text = (points) => points.map((p) => String.fromCodePoint(p)).join('');
            const units = (text) => Array.from({ length: text.length }, (_, at) => text.charCodeAt(at));
            const { pieces, exact } = window.evalkitSamples.diff(text(a), text(b));
            return { exact, pieces: pieces.map(({ kind, text }) => [kind, units(text)]),
                     whole: [units(text(a)), units(text(b))] };
        })""",
        [[list(map(ord, a)), list(map(ord, b))] for a, b in pairs],
    )
    for each in found:
        for place, gone in enumerate(("added", "removed")):
            joined = [unit for kind, units in each["pieces"] if kind != gone for unit in units]
            assert joined == each["whole"][place]
    return found


def changed(found):
    texts = (
        b"".join(unit.to_bytes(2, "little") for unit in units)
        for kind, units in found["pieces"]
        if kind != "kept"
    )
    return sum(len(text.decode("utf-16-le", "surrogatepass")) for text in texts)


@pytest.fixture(scope="module")
def differ(browser, file):
    tab = browser.new_page()
    tab.goto(file.as_uri())
    yield tab
    tab.close()


@settings(max_examples=40)
@given(st.lists(st.tuples(TEXT, TEXT) | st.tuples(ANY, ANY), min_size=1, max_size=10))
def test_what_is_kept_and_removed_is_the_old_text_what_is_kept_and_added_the_new(differ, pairs):
    compared(differ, pairs)


@settings(max_examples=40)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=10))
def test_no_shorter_difference_exists(differ, pairs):
    for (one, two), found in zip(pairs, compared(differ, pairs), strict=True):
        assert found["exact"]
        assert changed(found) == edits(one, two)


def test_no_half_of_a_character_is_kept(differ):
    """U+1F642 and U+1F680 share their first UTF-16 unit; a difference of units would tear them apart."""
    (found,) = compared(differ, [("a\U0001f642b", "a\U0001f680b")])
    assert [kind for kind, _ in found["pieces"]] == ["kept", "removed", "added", "kept"]
    assert [len(units) for _, units in found["pieces"]] == [1, 2, 2, 1]


def test_texts_too_different_are_replaced_between_their_common_ends_and_it_is_said(differ):
    draw = random.Random(0)
    one, two = ("".join(draw.choices("abcdefgh", k=6_000)) for _ in "ab")
    (found,) = compared(differ, [(f"same {one} end", f"same {two} end")])
    assert not found["exact"]
    assert len(found["pieces"]) == 4


def test_a_small_change_in_a_great_text_is_found(differ):
    text = "lorem ipsum " * 300
    (found,) = compared(differ, [(f"{text}a{text}", f"{text}b{text}")])
    assert found["exact"] and changed(found) == 2
