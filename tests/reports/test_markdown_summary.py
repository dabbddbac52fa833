"""The summary for pull requests and CI steps: what needs attention first, nothing live, never too long."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from report_runs import (
    HOSTILE,
    card,
    comparison,
    estimate,
    finished_run,
    hostile,
    outcome,
    verdict,
    waiver,
)

from evalkit.records.scorecard import Counts, Finding, TaskTally
from evalkit.reports.markdown import LIMIT, MarkdownSummary, markdown_summary

GITHUB = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
OWN_HTML = {"<br>", "<code>", "</code>", "<span>", "</span>", "<sub>", "</sub>"}
OWN_BLOCKS = re.compile(
    r"<details>\n<summary>[\d,]+ (?:outcomes? passed|notes)</summary>\n|</details>\n"
)


def every_token(tokens):
    for token in tokens:
        yield token
        yield from every_token(token.children or [])


def summary(scorecard, held, report="reports/orders-1/report.html"):
    return markdown_summary(scorecard, held, report)


def test_the_verdict_is_a_word_with_a_mark_and_says_why():
    text = summary(card(), verdict([outcome("fail")], reason="1 of 1 blocking outcomes failed"))
    first, _, why = text.split("\n")[:3]
    assert first == "## ❌ FAIL: suite `orders` 3"
    assert why == "1 of 1 blocking outcomes failed. Exit code 1."


def test_a_run_without_a_verdict_does_not_look_decided():
    text = summary(card([estimate()]), None)
    assert text.startswith("## ❓ NO VERDICT")
    assert "✅" not in text


def test_what_needs_attention_stands_first_and_what_passed_is_folded():
    outcomes = [
        outcome(rule="passed"),
        outcome("fail", "waived", rule="waived", waiver=waiver()),
        outcome("inconclusive", rule="undecided"),
        outcome("fail", rule="failed"),
    ]
    text = summary(card(), verdict(outcomes))
    places = [text.index(f"`{rule}`") for rule in ("failed", "undecided", "waived", "passed")]
    assert places == sorted(places)
    assert text.index("<details>") < places[3] < text.index("</details>")
    assert places[2] < text.index("<details>")
    assert "Waived by Kim until 2026-12-31" in text


def test_the_numbers_stand_with_their_intervals_side_by_side():
    scorecard = card(
        [estimate(0.9), estimate(0.8, model="baseline"), estimate(0.7, slice="region=eu")],
        [comparison()],
    )
    text = summary(scorecard, verdict([outcome()], "pass"))
    row = next(line for line in text.split("\n") if line.startswith("| `extract/exact_match` |"))
    assert row == (
        "| `extract/exact_match` | 0.900 [0.850, 0.950] | 0.800 [0.750, 0.850] | "
        "+0.100 [0.050, 0.150] better | 100 |"
    )
    assert "1 more estimates" in text


def test_what_was_lost_is_counted_with_its_reason():
    tally = TaskTally(
        model="candidate", task="extract", kind="generate", dataset="e", planned=100, requests=100,
        failures={"timeout": 3}, unscored={"f1": {"no JSON": 4}}, complete=False,
    )  # fmt: skip
    counts = Counts(planned=100, completed=97, failed=3, scored=93, unscored=4)
    text = summary(card([estimate(counts=counts)], tasks=[tally]), verdict([], "incomplete"))
    assert "3 of 100 samples failed: timeout" in text
    assert "4 of 100 without a score: no JSON" in text
    assert "93 (3 failed, 4 unscored)" in text
    assert "⛔ INCOMPLETE" in text


def test_it_says_how_to_run_it_again_and_where_the_report_is():
    text = summary(card(command=["evalkit", "run", "my suite.yaml"]), None)
    assert "```sh\nevalkit run 'my suite.yaml'\n```" in text
    assert "`reports/orders-1/report.html`" in text


def exception(reason, owner):
    """A waiver; its file is YAML, which holds no lone surrogate."""
    whole = [text.encode("utf-8", "replace").decode() for text in (reason, owner)]
    return waiver(f"x{whole[0]}", owner=f"x{whole[1]}")


def hostile_run(texts):
    reason, name, other = texts
    outcomes = [
        outcome("fail", reason=reason, why=other, rule=name, estimate=f"t/m@{other}"),
        outcome("fail", "waived", required=name, waiver=exception(reason, name)),
        outcome(reason=other, rule=reason),
    ]
    scorecard = card(
        [estimate(task=name, metric=other, warnings=(reason,)), estimate(task=reason)],
        [comparison(task=name, metric=other, warnings=(other,))],
        suite=name,
        finished=other,
        names={"candidate": reason, "baseline": name},
        command=[reason, name],
        tasks=[
            TaskTally(
                model="candidate", task=name, kind="generate", dataset="e", planned=9, requests=9,
                failures={reason: 1}, unscored={name: {other: 2}},
            )
        ],
        findings=(
            Finding(model="candidate", task=name, check=other, tensor=None, message=reason),
        ),
    )  # fmt: skip
    return finished_run(scorecard, verdict(outcomes, reason=reason, notes=(other,)), "out/run")


@settings(max_examples=60)
@given(st.tuples(hostile, hostile, hostile))
def test_nothing_becomes_live_whatever_names_and_reasons_hold(texts):
    text = MarkdownSummary().render(hostile_run(texts))
    text.encode("utf-8")
    tokens = list(every_token(GITHUB.parse(text)))
    kinds = {token.type for token in tokens}
    assert not kinds & {
        "link_open",
        "image",
        "em_open",
        "strong_open",
        "s_open",
        "hr",
        "blockquote_open",
    }
    assert {t.content for t in tokens if t.type == "html_inline"} <= OWN_HTML
    for block in (t for t in tokens if t.type == "html_block"):
        assert not OWN_BLOCKS.sub("", block.content).strip()
    headings = [t.tag for t in tokens if t.type == "heading_open"]
    assert headings == ["h2", "h3", "h3", "h3", "h3"]
    assert sum(t.type == "table_open" for t in tokens) == 3
    assert sum(t.type == "fence" for t in tokens) == 1
    for table in _tables(GITHUB.parse(text)):
        assert len(set(table)) == 1, "every row has as many cells as the head"
    lines = (
        "".join(child.content for child in token.children if child.type.startswith("text"))
        for token in tokens
        if token.children
    )
    live = "\n".join(lines)
    assert not re.search(r"(?<!\w)@\w|://|#\d", live)


def _tables(tokens):
    """The number of filled rows' cells, table by table; a parser adds cells that are missing and cuts what is over."""
    for n, token in enumerate(tokens):
        if token.type == "table_open":
            rows, cells = [], 0
            for each in tokens[n:]:
                cells += each.type in ("td_open", "th_open")
                if each.type == "tr_close":
                    rows.append(cells)
                    cells = 0
                if each.type == "table_close":
                    break
            yield rows


def test_a_table_keeps_its_columns_when_a_reason_holds_pipes():
    text = summary(card(), verdict([outcome("fail", reason="a | b \\| c", rule="x|y")]))
    row = next(line for line in text.split("\n") if "&#124;" in line)
    assert len(re.findall(r"(?<!\\)\|", row)) == 6


@pytest.mark.parametrize("reason", [HOSTILE[17], "|" * 5_000_000, "\U000e0001" * 100_000])
def test_it_stays_below_what_a_step_may_hold_and_says_what_is_left_out(reason):
    outcomes = [outcome("fail", rule=f"r{n}", reason=reason) for n in range(3000)]
    estimates = [estimate(metric=f"m{n}", warnings=(f"{n}{reason[:200]}",)) for n in range(8000)]
    text = summary(
        card(estimates, command=[reason[:9000]] * 3),
        verdict([*outcomes, *[outcome()] * 3000], reason=reason),
    )
    assert len(text.encode()) < LIMIT < 1024 * 1024
    assert re.search(r"[\d,]+ more rows; verdict.json has each", text)
    assert re.search(r"[\d,]+ more rows; scorecard.json has each", text)
    assert text.rstrip().endswith("```")


def test_many_notes_are_folded_and_few_are_not():
    def noted(count):
        held = verdict([], "inconclusive", notes=tuple(f"note {n}" for n in range(count)))
        return summary(card(), held)

    assert "<details>" not in noted(5)
    folded = noted(6)
    assert "<summary>6 notes</summary>" in folded
    assert [t.type for t in GITHUB.parse(folded)].count("list_item_open") == 6
