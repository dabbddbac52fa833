"""What the page tells of a run: the very numbers of its scorecard, the verdict in words, and nothing that acts."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from report_runs import (
    HOSTILE,
    card,
    comparison,
    decided_runs,
    estimate,
    finished_run,
    hostile,
    interval,
    outcome,
    verdict,
    waiver,
)

from evalkit.records.judging import JudgeRecord
from evalkit.records.scorecard import Counts, EarlyStop, TaskTally
from evalkit.records.verdict import Line
from evalkit.reports.page import frame, scorecard_page
from evalkit.reports.page.section import MARKS, Section, anchor, fragment, status
from evalkit.reports.page.sections import cost, estimates, provenance, rules, slices, summary
from evalkit.reports.view import number, ordered_outcomes, signed, span

WORDS = {
    "pass": "Passed",
    "fail": "Failed",
    "inconclusive": "Undecided",
    "incomplete": "Incomplete",
}
INLINE = {"a", "span", "code", "strong", "wbr"}
VOID = {"meta", "br", "wbr", "input", "link", "img", "hr"}


class Text(HTMLParser):
    """The words of a page as a reader sees them, and whether its elements close as they open."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.said: list[str] = []
        self.open: list[str] = []
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag, attrs):
        if tag not in INLINE:
            self.said.append(" ")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.said.append(data)


def words(markup: object) -> str:
    parsed = Text(str(markup))
    assert parsed.open == []
    return re.sub(r"\s+", " ", "".join(parsed.said)).strip()


def tally(**changes):
    held = {"model": "candidate", "task": "extract", "kind": "generate", "dataset": "e" * 64}
    return TaskTally(**(held | {"planned": 100, "requests": 100} | changes))


def test_a_page_without_a_verdict_is_not_green():
    run = finished_run(card([estimate()]), None)
    body = str(summary.section(run).body)
    assert "No verdict" in words(body)
    assert 'class="verdict none"' in body
    assert "pass" not in body.replace("candidate may ship", "")
    assert "<title>orders: no verdict" in scorecard_page(run)


def test_a_verdict_that_no_rule_stands_behind_is_none():
    empty = verdict([], "inconclusive", reason="no gate was given: nothing was decided")
    assert "No verdict" in words(summary.section(finished_run(card([estimate()]), empty)).body)


@pytest.mark.parametrize("kind", WORDS)
def test_the_verdict_has_a_word_a_mark_and_its_reason(kind):
    run = finished_run(card([estimate()]), verdict([outcome("fail")], kind, reason="so it is"))
    said = words(summary.section(run).body)
    assert f"{MARKS[kind][0]} {WORDS[kind]}" in said
    assert "So it is." in said
    assert f"<title>orders: {WORDS[kind].lower()} · scorecard</title>" in scorecard_page(run)


def test_only_a_verdict_that_passed_is_marked_as_passed():
    for kind in ("fail", "inconclusive", "incomplete"):
        page = scorecard_page(finished_run(card([estimate()]), verdict([outcome("fail")], kind)))
        assert 'class="verdict pass"' not in page
        assert 'class="status pass"' not in page


def test_blocking_outcomes_are_counted_by_what_they_count_as():
    outcomes = [
        outcome("fail"),
        outcome("inconclusive", rule="b"),
        outcome("missing", rule="c", observed=None, interval=None),
        outcome("fail", "waived", rule="d", waiver=waiver()),
        *(outcome("pass", rule=f"p{n}") for n in range(4)),
        outcome("fail", rule="aside", severity="warn"),
    ]
    said = words(summary.section(finished_run(card([estimate()]), verdict(outcomes))).body)
    assert "1 ✗ failed 2 ? undecided 1 ~ waived 4 ✓ passed" in said
    assert "Waived by Kim until 2026-12-31: known, and fixed in the next release." in said
    assert said.index("Not met, though it does not block") < said.index("aside")


def test_what_changes_how_a_verdict_reads_is_told_beside_it():
    counts = Counts(planned=100, completed=90, failed=10, scored=88, unscored=2)
    scorecard = card(
        [estimate(counts=counts)],
        [comparison(status="incomparable", difference=None, interval=None, reason="other data")],
        names={"candidate": "models/new"},
        command=("evalkit", "run", "suite.yaml", "--limit", "100"),
        tasks=[
            tally(
                failures={"timeout": 10}, unscored={"exact_match": {"no answer": 2}}, complete=False
            ),
            tally(
                task="sum", early=EarlyStop(available=900, drawn=300, seed=0, looks=3, decided=True)
            ),
        ],
        baseline_run="a" * 64,
    )
    unpinned = {
        "candidate": scorecard.provenance.models["candidate"].model_copy(update={"pinned": False})
    }
    provenance_ = scorecard.provenance.model_copy(update={"models": unpinned})
    scorecard = scorecard.model_copy(update={"provenance": provenance_})
    noted = verdict([outcome("fail")], notes=("gate release: a waiver matched no outcome",))
    said = words(summary.section(finished_run(scorecard, noted)).body)
    for told in (
        "Made with --limit",
        "extract of the candidate: of 100 samples 10 failed and 2 could not be graded; too few are left",
        "The candidate is not pinned",
        "1 number cannot be compared",
        "There is no baseline",
        "a waiver matched no outcome",
        "The baseline's answers come from run aaaaaaaaaaaa",
        "sum: stopped after 300 of 900 samples",
    ):
        assert told in said


def test_every_number_of_the_scorecard_stands_in_the_table_as_it_is():
    held = [
        estimate(0.123, metric="a"),
        estimate(0.456, metric="a", model="baseline"),
        estimate(84.7, metric="b", unit="points", better="lower", warnings=("few samples",)),
        estimate(
            None, metric="c", counts=Counts(planned=9, completed=0, failed=9, scored=0, unscored=0)
        ),
    ]
    paired = comparison(
        metric="a", difference=-0.333, interval=interval(-0.4, -0.2), p_value=0.0312
    )
    section = estimates.section(finished_run(card(held, [paired]), None))
    said = words(section.body)
    for each in held:
        assert f"{number(each.value)}{span(each.interval)}" in said.replace(" [", "[")
    assert f"{signed(-0.333)}{span(paired.interval)}" in said.replace(" [", "[")
    assert "0.031" in said
    assert "▼ worse" in said
    assert "points, lower is better" in said
    assert "few samples" in said
    assert "9 failed" in said
    drawn = [point for plot in section.plots for point in plot.spec["data"]["values"]]
    assert {(p["name"], p["model"], p["value"], p["low"]) for p in drawn} == {
        (e.metric, e.model, e.value, e.interval.low) for e in held if e.interval
    }
    assert all(
        str(number(point["value"])) in plot.alt
        for plot in section.plots
        for point in plot.spec["data"]["values"]
    )


def test_weights_and_gaps_are_left_to_their_own_parts():
    apart = [
        estimate(metric="drift", kind="census"),
        estimate(metric="gap", kind="gap", slice="sex"),
    ]
    run = finished_run(card(apart), None)
    assert estimates.section(run) is None
    assert slices.section(run) is None


def test_slices_are_bounded_and_what_got_worse_stands_first():
    many = 700
    held = [estimate(slice=f"region={n}") for n in range(many)]
    compared = [
        comparison(slice=f"region={n}", difference=0.0, interval=interval(-0.1, 0.1))
        for n in range(many - 1)
    ]
    worse = comparison(slice=f"region={many - 1}", difference=-0.2, interval=interval(-0.3, -0.1))
    section = slices.section(finished_run(card(held, [*compared, worse]), None))
    body = str(section.body)
    assert body.count("<tr id=") == slices.MOST_ROWS
    assert "200 more slices" in words(body)
    assert f"region = {many - 1}" in words(body).split("Samples", 1)[1][:60]
    assert section.count == "1 worse"
    assert "about 35 would still show a difference" in words(body)


def test_rules_stand_in_order_of_attention_with_all_that_decided_them():
    failed = outcome(
        "fail",
        rule="floor",
        observed=0.9,
        interval=interval(0.85, 0.95),
        lines=(Line(at=0.97, above=True),),
        why="Somebody pays for each error.",
    )
    told = [
        outcome("pass", rule="passes", lines=(Line(at=0.8, above=True),)),
        outcome("fail", rule="hint", severity="warn"),
        failed,
    ]
    run = finished_run(card([estimate()]), verdict(told))
    section = rules.section(run)
    said = words(section.body)
    places = [said.index(f" {o.rule} ") for o in ordered_outcomes(run.verdict)]
    assert places == sorted(places)
    row = said[said.index(" floor ") : said.index(" hint ")]
    for shown in ("0.900 [0.850, 0.950]", "≥ 0.8", "−0.12 fraction", failed.reason, failed.why):
        assert shown in row
    assert "+0.05 fraction" in said
    assert section.count == "2 failed"
    assert f'href="#{anchor("estimate", "extract/exact_match")}"' in str(section.body)


@pytest.mark.parametrize(
    ("line", "low", "at", "high"),
    [
        (Line(at=0.97, above=True), -0.12, -0.07, -0.02),
        (Line(at=0.97, above=False), 0.02, 0.07, 0.12),
    ],
)
def test_a_plot_shows_the_room_to_the_line_whichever_way_the_rule_asks(line, low, at, high):
    held = outcome("pass", observed=0.9, interval=interval(0.85, 0.95), lines=(line,))
    (plot,) = rules.section(finished_run(card([estimate()]), verdict([held], "pass"))).plots
    (point,) = plot.spec["data"]["values"]
    assert (point["low"], point["at"], point["high"]) == pytest.approx((low, at, high))
    assert min(point["low"], point["high"]) == pytest.approx(held.distance)


def test_a_rule_on_thousands_of_tensors_is_told_by_its_first_few_and_their_number():
    many = [outcome("pass", rule="every", estimate=f"weights/norm@tensor={n}") for n in range(3000)]
    some = [outcome("fail", rule="every", estimate=f"weights/norm@tensor=x{n}") for n in range(20)]
    section = rules.section(finished_run(card([estimate()]), verdict([*many, *some])))
    body = str(section.body)
    assert body.count("<tr id=") == 2 * rules.MOST_OF_A_RULE
    assert "every: 12 more failed" in words(body)
    assert "every: 2,992 more passed" in words(body)
    assert len(body) < 60_000


def test_a_scorecard_of_thousands_of_tensors_makes_no_large_page():
    tensors = [
        estimate(
            metric="norm", slice=f"tensor=model.layers.{n}.weight", kind="census", task="weights"
        )
        for n in range(5000)
    ]
    run = finished_run(card([estimate(), *tensors]), verdict([outcome("fail")]))
    own = [module.section(run) for module in (summary, rules, estimates, slices, cost, provenance)]
    assert len(frame.page("own", [part for part in own if part])) < 1_000_000


def test_cost_tells_tokens_time_and_what_early_stops_saved():
    early = EarlyStop(available=900, drawn=300, seed=0, looks=3, decided=True, tokens_saved=4000)
    judge = JudgeRecord(
        judge="tone", form="pointwise", pins="1" * 64, model="m", samples=50, requests=60
    )
    run = finished_run(
        card(
            [estimate()],
            tasks=[
                tally(prompt_tokens=1200, completion_tokens=34),
                tally(model="baseline", prompt_tokens=800, completion_tokens=66, early=early),
            ],
            judges=(judge,),
        ),
        None,
    )
    said = words(cost.section(run).body)
    assert "30 min 0 s wall time" in said
    assert "2,000 tokens read 100 tokens written" in said
    assert "600 samples saved by early stops, about 4,000 tokens" in said
    assert "tone judge 50 60 – –" in said


def test_provenance_tells_every_digest_and_a_command_that_a_shell_reads_as_it_was():
    command = ("evalkit", "run", "my suite.yaml", "--candidate", "a;rm -rf $HOME", "it's")
    scorecard = card([estimate()], command=command, samples="9" * 64)
    said = words(provenance.section(finished_run(scorecard, verdict([outcome("fail")]))).body)
    assert "evalkit run 'my suite.yaml' --candidate 'a;rm -rf $HOME' 'it'\"'\"'s'" in said
    held = scorecard.provenance
    for digest in (scorecard.digest, scorecard.samples, held.suite_digest, *held.datasets.values()):
        assert digest in said
    assert all(model.digest in said for model in held.models.values())
    assert "release " + "d" * 64 in said
    assert "none: the suite lay in no repository" in said


@settings(max_examples=60, deadline=None)
@given(held=decided_runs())
def test_any_run_has_a_page_whose_elements_close_and_whose_word_is_the_verdicts(held):
    scorecard, decided = held
    run = finished_run(scorecard, decided)
    parts = [
        module.section(run) for module in (summary, rules, estimates, slices, cost, provenance)
    ]
    page = frame.page("any", [part for part in parts if part])
    said = words(page)
    if decided.outcomes:
        assert f"{MARKS[decided.status][0]} {WORDS[decided.status]}" in said
    assert ("✓ Passed" in said) == (decided.status == "pass")


@settings(max_examples=60, deadline=None)
@given(text=hostile)
def test_hostile_names_and_reasons_stay_text_in_a_page_that_utf_8_can_write(text):
    named = estimate(task=text, metric="m", slice=f"s={text}", unit=text, warnings=(text,))
    plain = estimate(task=text, metric=text, unit=text)
    held = outcome("fail", rule="r", estimate=named.name, reason=text, why=text, required=text)
    scorecard = card([plain, named], names={"candidate": text}, suite=text, command=(text, "a"))
    run = finished_run(scorecard, verdict([held], reason=text or "x", notes=(text,)))
    page = scorecard_page(run)
    page.encode("utf-8")
    assert Text(page).open == []
    assert page.count("<script") == page.count("</script>")
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", page
    )


def test_no_hostile_text_becomes_an_element_of_its_own():
    for text in (each for each in HOSTILE if len(each) < 1000):
        page = frame.page(
            "t", [Section("a", text, fragment("provenance.html", **_provenance(text)))]
        )
        found = set(
            re.findall(r"<([a-z][a-z0-9]*)", page[: page.index('<script type="application/json"')])
        )
        assert found <= _elements(), text


def _provenance(text: str) -> dict[str, object]:
    model = {"role": "candidate", "name": text, "location": text, "engine": text, "other": text}
    record = {"digest": text, "pinned": False, "files": {text: text}}
    return {
        "facts": [(text, text)],
        "command": text,
        "run": text,
        "digests": {text: text},
        "models": [model | {"record": record}],
        "datasets": {text: text},
        "versions": {text: text},
        "host": [(text, text)],
    }


def _elements() -> set[str]:
    page = frame.page("t", [Section("a", "b", fragment("provenance.html", **_provenance("plain")))])
    return set(
        re.findall(r"<([a-z][a-z0-9]*)", page[: page.index('<script type="application/json"')])
    ) | {"wbr"}


def test_what_no_page_can_hold_stands_there_as_its_escape():
    page = frame.page("a\x00b\ud800c\u202ed\re", [])
    assert r"a\x00b\ud800c\u202ed\re" in page
    assert page.encode("utf-8")


def test_the_pages_own_scripts_and_styles_hold_nothing_that_is_escaped():
    for name in ("vega.js", "page.js", "page.css", "samples.js", "samples.css"):
        assert frame.encodable(frame.asset(name)) == frame.asset(name)


def test_plots_travel_with_the_page_and_vega_only_where_there_is_one():
    parts = [estimates.section(finished_run(card([estimate()]), None))]
    assert "vegaEmbed=" in frame.page("t", parts)
    assert "vegaEmbed=" not in frame.page("t", [])


def test_a_status_is_told_by_word_and_mark_and_not_by_colour_alone():
    for kind, (mark, word) in MARKS.items():
        assert words(status(kind)) == f"{mark} {word}"


def test_rows_of_different_names_have_different_places():
    names = ["a/b", "a/b@c=d", "a/b@c=d ", "a/\ud800", "a/\ud801", ""]
    assert len({anchor("estimate", name) for name in names}) == len(names)
    assert all(re.fullmatch(r"estimate-[0-9a-f]{12}", anchor("estimate", name)) for name in names)


def test_an_incomplete_run_is_never_read_as_decided():
    held = verdict([], "incomplete", reason="the run is incomplete")
    assert "! Incomplete" in words(summary.section(finished_run(card([estimate()]), held)).body)
