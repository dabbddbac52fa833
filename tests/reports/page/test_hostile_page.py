"""A page of texts that try everything: nothing runs, nothing is asked of a network, and all of it can be read."""

from __future__ import annotations

import shutil

import pytest
from replayed_runs import replayed
from review_browser import chromium

from evalkit.cli.past_runs import open_run
from evalkit.reports.page import scorecard_page
from evalkit.store.runs import RunFolder

GREAT = 5_000_000
TEXTS = {
    "script": "</script><script>document.title='owned';alert(1)</script>",
    "comment": "<!--<script>",
    "image": "<img src=x onerror=\"document.title='owned'\">",
    "control": "nul \0 bell \a escape \x1b[31mred\x1b[0m delete \x7f",
    "bidi": "\u202eright to left\u2066 \u2069 end",
    "invisible": "zero\u200bwidth, \u2028 separator, \ufeff mark",
    "markdown": "**bold** [x](javascript:alert(1)) `code` | cell |",
    "template": "{{ 7*7 }} {% raw %} ${document.title='owned'} {{data}}",
    "entities": "]]>&lt;b&gt;&amp;&#x3c;script&#x3e;",
    "style": "</style><style>*{display:none}</style>",
    "text area": "</textarea></title></template><svg onload=alert(1)>",
    "address": "https://example.invalid/x.png //example.invalid/y.js",
    "great": "x" * GREAT,
}
SEEN = {
    "control": r"nul \x00 bell \x07 escape \x1b[31mred\x1b[0m delete \x7f",
    "bidi": r"\u202eright to left\u2066 \u2069 end",
    "invisible": r"zero\u200bwidth, \u2028 separator, \ufeff mark",
}
"""How texts that hide something are shown; the others as they are."""
LONE = "lone \ud800 half"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Every text stands as prompt, target, answer, sample id and slice; one answer is half a character too."""
    rows, candidate, baseline = [], {}, {}
    texts = list(TEXTS.values())
    for place, text in enumerate(texts):
        following = texts[(place + 1) % len(texts)]
        row = {"id": f"{place} {text[:120]}", "question": text, "target": following}
        rows.append(row | {"region": text[:120]})
        candidate[row["id"]], baseline[row["id"]] = text, following
    rows.append({"id": "silent <b>", "question": "?", "target": "t", "region": "<b>"})
    candidate["silent <b>"] = None
    baseline["silent <b>"] = "t"
    folder = tmp_path_factory.mktemp("hostile")
    made = replayed(folder, rows, candidate, baseline, metrics="[exact_match, json_fields]")
    return with_half_a_character(made, folder)


def with_half_a_character(run, out):
    """Write the run again as a run is written, with a lone surrogate in the first answer: recorded ones refuse it."""
    with RunFolder.create(out, "again", command=["evalkit"]) as folder:
        with folder.write_samples() as write:
            for place, row in enumerate(run.rows()):
                if place == 0:
                    row["answers"][0]["text"] = LONE
                write(row)
        folder.write_suite(run.suite)
        card = run.scorecard.model_copy(update={"samples": folder.samples_digest}).sealed()
        folder.write_verdict(run.verdict.model_copy(update={"scorecard": card.digest}))
        folder.write_scorecard(card)
    return open_run(str(out / "again"), out)


@pytest.fixture(scope="module")
def file(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(scorecard_page(run), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def seen(file):
    """What a browser did with the page, everything in it opened."""
    told = {"dialogs": [], "console": [], "requests": []}
    with chromium() as browser:
        tab = browser.new_page()
        tab.on("dialog", lambda dialog: (told["dialogs"].append(dialog.message), dialog.dismiss()))
        tab.on("console", lambda message: told["console"].append(message.text))
        tab.on("pageerror", lambda error: told["console"].append(str(error)))
        tab.on("request", lambda request: told["requests"].append(request.url))
        tab.goto(file.as_uri())
        told["title"] = tab.title()
        tab.locator("#samples-browser").scroll_into_view_if_needed()
        tab.wait_for_selector("details.sample")
        tab.evaluate(
            "() => document.querySelectorAll('details').forEach((e) => { e.open = true; })"
        )
        tab.wait_for_function(
            "() => [...document.querySelectorAll('details.sample')].every((e) => e.childElementCount > 1)"
        )
        tab.wait_for_timeout(300)
        told["title after"] = tab.title()
        told["elements"] = tab.evaluate(
            """() => ({
                images: document.querySelectorAll('main img, main iframe, main object, main b').length,
                loaders: document.querySelectorAll('main svg[onload], link, base, main textarea').length,
                scripts: [...document.scripts].filter((s) => s.type !== 'application/json').length,
                styles: document.querySelectorAll('body style').length,
                links: [...document.querySelectorAll('main a')].map((a) => a.getAttribute('href')),
            })"""
        )
        for part in ("flips", "samples"):
            told[part] = tab.evaluate("id => document.getElementById(id).textContent", part)
            told[f"{part} bdi"] = tab.evaluate(
                """id => [...document.querySelectorAll(`#${id} bdi`)].map(
                    (e) => [e.textContent, getComputedStyle(e).unicodeBidi])""",
                part,
            )
        tab.close()
    return told


def test_nothing_runs_and_nothing_is_asked_of_a_network(seen, file):
    assert seen["dialogs"] == []
    assert seen["console"] == []
    assert seen["requests"] == [file.as_uri()]
    assert seen["title"] == seen["title after"] and "owned" not in seen["title"]


def test_no_text_becomes_an_element(seen, file):
    found = seen["elements"]
    own = file.read_text().count("<script>")
    assert found["images"] == found["loaders"] == found["styles"] == 0
    assert found["scripts"] == own
    assert all(link.startswith("#") for link in found["links"])


@pytest.mark.parametrize("part", ["flips", "samples"])
@pytest.mark.parametrize("name", [name for name in TEXTS if name != "great"])
def test_every_text_can_be_read(seen, part, name):
    assert SEEN.get(name, TEXTS[name]) in seen[part]


@pytest.mark.parametrize("part", ["flips", "samples"])
def test_no_character_hides_or_turns_the_direction(seen, part):
    hidden = [c for c in seen[part] if not c.isprintable() and c not in "\n\t"]
    assert not hidden


def test_texts_are_held_apart_from_what_surrounds_them(seen):
    for part in ("flips", "samples"):
        assert len(seen[f"{part} bdi"]) > 20
        assert {style for _, style in seen[f"{part} bdi"]} <= {"isolate", "plaintext"}


def test_a_great_text_is_cut_and_the_cut_tells_how_much_is_missing(seen, file):
    assert "characters left out" in seen["flips"] and "characters left out" in seen["samples"]
    assert "4,99" in seen["flips"] and "4,9" in seen["samples"]
    assert len(file.read_bytes()) < 3_000_000


def test_half_a_character_is_shown_as_what_it_is(seen):
    assert r"lone \ud800 half" in seen["samples"]


def test_a_sample_that_failed_and_why_targets_are_unfit_is_counted(seen):
    assert "no_answer" in seen["samples"] and "target is not JSON" in seen["samples"]


def test_the_page_of_a_tampered_run_is_refused(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "run")
    with (tmp_path / "run" / "samples.jsonl").open("ab") as file:
        file.write(b"{}\n")
    with pytest.raises(Exception, match="changed after the run"):
        scorecard_page(open_run(str(tmp_path / "run"), tmp_path))
