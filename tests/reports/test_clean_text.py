"""Text that somebody else wrote is shown and does nothing."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from report_runs import HOSTILE, card, comparison, estimate, hostile, outcome, verdict, waiver
from rich.console import Console
from rich.text import Text

from evalkit.records.scorecard import Finding, TaskTally, Unread
from evalkit.records.verdict import FamilyRecord
from evalkit.reports.clean import (
    cut,
    harmless,
    markdown,
    markdown_block,
    markdown_code,
    printable,
    printable_lines,
    xml_line,
    xml_text,
)
from evalkit.reports.terminal import drawing

DIRECTION = re.compile("[\u202a-\u202e\u2066-\u2069\u200b-\u200f\u2060\ufeff\x00]")
"""Turns the direction of writing, or takes no room."""
LEGAL = re.compile("[\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")
"""XML 1.0, 2.2: Char."""


@given(hostile)
def test_printable_text_holds_nothing_that_acts_or_hides(text):
    shown = printable(text)
    assert shown.isprintable()
    assert not DIRECTION.search(shown)


@given(hostile)
def test_lines_are_kept_and_nothing_else_acts(text):
    lines = printable_lines(text).split("\n")
    assert len(lines) == text.count("\n") + 1
    assert all(line.isprintable() for line in lines)


@given(hostile)
def test_text_in_xml_is_legal_and_reads_back_as_it_was_shown(text):
    element = ET.Element("e", {"message": xml_line(text)})
    element.text = xml_text(text)
    written = ET.tostring(element, encoding="unicode")
    assert LEGAL.fullmatch(written)
    read = ET.fromstring(written.encode("utf-8"))
    assert read.get("message") == xml_line(text)
    assert (read.text or "") == xml_text(text)


@pytest.mark.parametrize("clean", [xml_line, xml_text, markdown, markdown_code, markdown_block])
def test_a_long_text_is_cut_and_says_by_how_much(clean):
    shown = clean("x" * 5_000_000, longest=100)
    assert len(shown) < 200
    assert "4,999,900 characters more" in shown
    assert cut("x" * 100, 100) == "x" * 100


@pytest.mark.parametrize("text", [text for text in HOSTILE if len(text) < 1000])
def test_a_terminal_shows_it_in_characters_of_its_own(text):
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system="truecolor")
    console.print(Text(printable(text)))
    assert "\x1b" not in console.file.getvalue().replace("\x1b[0m", "")


def hostile_run(text):
    """A run in which every text that is free holds the same."""
    whole = text.encode("utf-8", "replace").decode()  # a waiver's file is YAML
    tally = TaskTally(
        model="candidate", task=text, kind="generate", dataset="e", planned=9, requests=9,
        failures={text: 1}, unscored={text: {text: 1}}, in_full=text,
    )  # fmt: skip
    scorecard = card(
        [estimate(), estimate(task=text, metric=text, unit=text), estimate(slice=text)],
        [comparison(), comparison(task=text, metric=text, reason=text, warnings=(text,))],
        suite=text,
        names={"candidate": text},
        tasks=[tally],
        findings=(Finding(model="candidate", task="w", check=text, tensor=text, message=text),),
        unread=(Unread(model="candidate", task="w", tensor=text, reason=text),),
    )
    outcomes = [
        outcome("fail", rule=text, reason=text, why=text, required=text, gate=text),
        outcome("fail", "waived", waiver=waiver(f"x{whole}", owner=f"x{whole}")),
    ]
    family = FamilyRecord(gate=text, family="all_must_hold", blocking=1, told=text)
    return scorecard, verdict(outcomes, reason=text, notes=(text,), families=(family,))


@settings(max_examples=40)
@given(hostile)
def test_a_drawing_of_harmless_records_moves_no_cursor_and_hides_nothing(text):
    scorecard, held = map(harmless, hostile_run(text))
    console = Console(file=io.StringIO(), width=160, color_system=None)
    console.print(drawing(scorecard, held, 160))
    drawn = console.file.getvalue()
    assert all(line.isprintable() for line in drawn.split("\n"))


def test_a_record_without_anything_to_hide_stays_as_it_is():
    scorecard, held = hostile_run("plain – ≥ 0.5, für")
    assert harmless(scorecard) == scorecard
    assert harmless(held) == held


def rendered(source):
    """GitHub's Markdown, raw HTML let through as it is there before it is sanitised."""
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(source)


def every_token(tokens):
    for token in tokens:
        yield token
        yield from every_token(token.children or [])


PLACES = {
    "a paragraph": "before {} after",
    "a line of its own": "{}",
    "an item": "- {}",
    "a heading": "## {}",
    "a cell": "| a | b |\n|---|---|\n| {} | end |",
}
LIVE = ("@", "http://", "https://", "ftp://", "www.", "mailto:")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("escape", [markdown, markdown_code])
@given(text=hostile)
def test_nothing_in_markdown_becomes_live(place, escape, text):
    """What GitHub does after Markdown (mentions, bare addresses) is told by the text alone."""
    tokens = list(every_token(rendered(PLACES[place].format(escape(text)))))
    expected = list(every_token(rendered(PLACES[place].format("word"))))

    def blocks(tokens):
        return [t.type for t in tokens if t.block]

    if escape(text):
        assert blocks(tokens) == blocks(expected)
    inline = {t.type for t in tokens if not t.block}
    assert inline <= {"text", "text_special", "code_inline", "html_inline"}
    html = {t.content for t in tokens if t.type == "html_inline"}
    assert html <= {"<code>", "</code>", "<span>", "</span>"}


@given(text=hostile)
def test_no_mention_and_no_address_is_left_in_a_sentence(text):
    shown = "".join(
        t.content for t in every_token(rendered(markdown(text))) if t.type.startswith("text")
    )
    assert not re.search(r"(?<!\w)@\w", shown)
    assert not re.search(r"\w@[\w-]*\.", shown)
    assert not re.search(r"://|\bwww\.\w|(?:mailto|xmpp):\w", shown, re.IGNORECASE)
    assert not re.search(r"#\d|\bGH-\d", shown, re.IGNORECASE)


@given(text=st.text(min_size=1, max_size=40).filter(lambda t: t.strip() == t and t.isprintable()))
def test_a_reader_of_markdown_sees_the_text_that_was_written(text):
    seen = "".join(
        t.content
        for t in every_token(rendered(markdown(text)))
        if t.type.startswith("text") or t.type == "code_inline"
    )
    assert seen.replace("\u200b", "") == text


@given(text=hostile)
def test_a_fence_holds_whatever_stands_in_it(text):
    tokens = rendered(f"before\n\n{markdown_block(text)}\n\nafter")
    assert [t.type for t in tokens if t.type not in ("paragraph_open", "paragraph_close")] == [
        "inline", "fence", "inline",
    ]  # fmt: skip
