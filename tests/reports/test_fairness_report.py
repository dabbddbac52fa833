"""What people see of groups and the gaps between them."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from evalkit.cli import main
from evalkit.records.scorecard import (
    Cell,
    Circumstances,
    Comparison,
    Counts,
    Disparity,
    Estimate,
    Interval,
    Provenance,
    Scorecard,
    TaskTally,
)
from evalkit.records.verdict import Outcome, Verdict
from evalkit.reports.fairness import MOST_BLOCKS, MOST_GAPS, MOST_GROUPS, blocks
from evalkit.reports.fairness_drawing import fairness_drawing
from evalkit.reports.fairness_limits import not_shown
from evalkit.reports.terminal import drawing
from evalkit.stats.intervals import wilson_interval

GAPS = {
    "demographic_parity_difference": ("difference", ("selection_rate",)),
    "demographic_parity_ratio": ("ratio", ("selection_rate",)),
    "equal_opportunity_difference": ("difference", ("tpr",)),
    "equalized_odds_difference": ("difference", ("tpr", "fpr")),
    "predictive_parity_difference": ("difference", ("ppv",)),
    "accuracy_difference": ("difference", ("accuracy",)),
}
PEOPLE = {"F": (120, 300, 60, 100), "M": (180, 310, 130, 210)}
"""Group → positive labels right, positive labels, negative labels wrong, negative labels."""


def cell(measure, group, right, n, least=20, **changes):
    return Cell(
        measure=f"decisions.{measure}",
        group=group,
        n=n,
        value=right / n if n else None,
        interval=wilson_interval(right, n, 0.95),
        left_out="" if n >= least else f"only {n:,} samples, fewer than {least}",
        **changes,
    )


def cells_of(people, measures):
    for measure in measures:
        for group, (tp, p, fp, n) in people.items():
            right, over = {
                "tpr": (tp, p),
                "fpr": (fp, n),
                "selection_rate": (tp + fp, p + n),
                "ppv": (tp, tp + fp),
                "accuracy": (tp + n - fp, p + n),
            }[measure]
            yield cell(measure, group, right, over)


def disparity(gap="demographic_parity_difference", people=PEOPLE, model="candidate", **changes):
    form, measures = GAPS[gap]
    cells = tuple(cells_of(people, measures))
    inside = [c for c in cells if not c.left_out]
    held = {
        "task": "hiring",
        "by": "sex",
        "value": 0.131,
        "expected": 0.029,
        "corrected": 0.128,
        "p_value": 0.0005,
        "p_adjusted": 0.001,
        "low": min(inside, key=lambda c: c.value).group if inside else None,
        "high": max(inside, key=lambda c: c.value).group if inside else None,
        "measure": cells[0].measure if cells else None,
        "cells": cells,
    }
    return Disparity(model=model, metric=f"decisions.{gap}", form=form, **(held | changes))


def estimate_of(held, low=0.06, high=0.2, **changes):
    counts = Counts(planned=920, completed=920, failed=0, scored=920, unscored=0)
    known = held.value is not None
    interval = Interval(low=low, high=high, level=0.95, method="square-and-add") if known else None
    return Estimate(
        model=held.model,
        task=held.task,
        metric=held.metric,
        slice=held.by,
        kind="gap",
        value=held.value,
        interval=changes.pop("interval", interval),
        counts=counts,
        unit="fraction",
        better="lower" if held.form == "difference" else "higher",
        signature="s",
        **changes,
    )


def change_of(held, low=-0.02, high=0.09, **changes):
    return Comparison(
        task=held.task,
        metric=held.metric,
        slice=held.by,
        **(
            {
                "status": "compared",
                "candidate": 0.131,
                "baseline": 0.096,
                "difference": (low + high) / 2,
                "interval": Interval(low=low, high=high, level=0.95, method="square-and-add"),
                "pairs": 1_912,
                "better": "lower",
            }
            | changes
        ),
    )


def card(disparities, estimates=None, comparisons=(), tasks=()):
    return Scorecard(
        provenance=Provenance(
            suite="s",
            suite_version=1,
            suite_digest="d",
            models={},
            datasets={},
            seed=0,
            versions={},
        ),
        estimates=tuple(map(estimate_of, disparities) if estimates is None else estimates),
        comparisons=tuple(comparisons),
        disparities=tuple(disparities),
        tasks=tuple(tasks),
        circumstances=Circumstances(
            started="",
            finished="",
            command=(),
            git_commit=None,
            hardware={},
            host={},
            asked=1,
            reused=0,
            seconds=1.0,
        ),
    )


def verdict(*read):
    outcomes = tuple(
        Outcome(
            gate="g",
            rule="r",
            estimate=name,
            status="pass",
            counts_as="pass",
            severity="block",
            observed=None,
            interval=None,
            required="≤ 0.1",
            reason="it is",
        )
        for name in read
    )
    return Verdict(
        status="pass",
        exit_code=0,
        scorecard="d",
        gates={},
        reason="all rules passed",
        outcomes=outcomes,
    )


def printed(scorecard, *read, width=100):
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    with console.file:
        for part in fairness_drawing(scorecard, verdict(*read), width):
            console.print(part)
    return console.export_text()


def both(gap, **changes):
    return [disparity(gap, model=model, **changes) for model in ("candidate", "baseline")]


def line(text, start):
    [found] = [each for each in text.splitlines() if each.startswith(start)]
    return found


def test_a_run_without_groups_of_people_has_no_section():
    assert fairness_drawing(card([]), verdict(), 100) == []


def test_the_section_stands_in_what_a_run_prints_before_the_rules():
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    with console.file:
        console.print(drawing(card([disparity()]), verdict("hiring/x"), 100))
    text = console.export_text()
    assert text.index("Scorecard") < text.index("hiring/decisions by sex") < text.index("Rules")


F_ROW = "F 300 0.400 [0.346, 0.456] 100 0.600 [0.502, 0.691]"


def test_each_group_has_its_numbers_with_intervals_and_what_they_rest_on():
    text = printed(card([disparity("equalized_odds_difference")]))
    # 120 of 300: Wilson's interval as Newcombe's formula gives it; 60 of 100 likewise.
    assert line(text, "F ").split() == F_ROW.split()


def test_a_gap_stands_beside_its_interval_what_chance_would_show_and_its_groups():
    text = printed(card([disparity()]), width=140)
    told = line(text, "demographic_parity_difference").split()
    assert " ".join(told[1:]) == "0.131 [0.060, 0.200] 0.029 0.128 <0.001 0.001 F < M"


def test_a_gap_of_several_measures_names_the_one_whose_groups_lie_farthest_apart():
    held = disparity("equalized_odds_difference", measure="decisions.fpr")
    assert "F < M (fpr)" in printed(card([held]), width=140)


@pytest.mark.parametrize("width", range(80, 121, 3))
def test_the_name_of_that_measure_is_never_cut(width):
    people = dict(zip(["Female", "Male"], PEOPLE.values(), strict=True))
    held = both("equalized_odds_difference", people=people)
    told = " ".join(printed(card(held, comparisons=[change_of(held[0])]), width=width).split())
    assert re.search(r"Female < Male (difference )?\(tpr\)", told)


def test_the_baseline_and_the_change_stand_under_the_candidates_gap():
    held = both("equal_opportunity_difference")
    estimates = [estimate_of(held[0]), estimate_of(held[1], 0.01, 0.09)]
    change = change_of(held[0], 0.01, 0.09)
    text = printed(card(held, estimates, [change]), width=140)
    assert "0.131 [0.010, 0.090]" in line(text, "  baseline")
    told = " ".join(line(text, "  change").split())
    assert told == "change +0.050 [0.010, 0.090] wider, 1,912 pairs"


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(-0.09, -0.01, "narrower"), (-0.02, 0.09, None), (0.01, 0.02, "wider")],
)
def test_a_change_is_called_wider_or_narrower_only_where_its_interval_says_so(low, high, said):
    held = both("equal_opportunity_difference")
    told = line(printed(card(held, comparisons=[change_of(held[0], low, high)])), "  change")
    assert [word for word in ("wider", "narrower") if word in told] == ([said] if said else [])


def test_the_baselines_numbers_never_pass_for_the_candidates():
    text = printed(card(both("equal_opportunity_difference")[1:]), width=140)
    assert line(text, "F ").split() == ["F", "0", "–", "0.400"]
    assert line(text, "equal_opportunity_difference").split()[1:] == ["–"]
    assert "0.131 [0.060, 0.200]" in line(text, "  baseline")


def test_a_gap_that_cannot_be_compared_says_why():
    held = both("equal_opportunity_difference")
    change = change_of(
        held[0], status="incomparable", reason="prompts differ", interval=None, difference=None
    )
    text = printed(card(held, comparisons=[change]))
    assert line(text, "  change").split() == ["change", "incomparable"]
    assert "incomparable: prompts differ." in text


def test_a_group_too_small_is_shown_with_its_number_and_marked():
    people = {**PEOPLE, "X": (3, 5, 20, 40)}
    text = printed(card([disparity("equalized_odds_difference", people=people)]))
    assert "0.600 [0.231, 0.882] †" in line(text, "X ")
    assert "0.500 [0.352, 0.648] †" not in line(text, "X ")
    assert "† no part of a gap; fewer than 20 samples: X\n" in text


def test_a_gap_without_a_value_says_why_and_shows_no_number():
    reason = "only the group M has enough samples for tpr, and a gap takes two"
    held = disparity(
        "equal_opportunity_difference",
        value=None, expected=None, corrected=None, p_value=None, p_adjusted=None,
        low=None, high=None, reason=reason,
    )  # fmt: skip
    text = printed(card([held]), width=140)
    assert line(text, "equal_opportunity_difference").split()[1:] == ["not", "estimable"]
    assert f"equal_opportunity_difference is not estimable: {reason}." in text


def test_gaps_without_a_value_for_one_reason_share_a_sentence():
    nothing = dict.fromkeys(("value", "expected", "corrected", "p_value", "p_adjusted"))
    reason = "only the group M has enough samples for tpr, and a gap takes two"
    held = [
        disparity(name, low=None, high=None, reason=reason, **nothing)
        for name in ("equal_opportunity_difference", "equalized_odds_difference")
    ]
    text = " ".join(printed(card(held), width=140).split())
    both_named = "equal_opportunity_difference, equalized_odds_difference are not estimable: "
    assert f"{both_named}{reason}." in text
    assert text.count(reason) == 1


def test_samples_without_a_score_are_counted_by_group():
    cells = tuple(
        c.model_copy(update={"missing": 7 if c.group == "M" else 2})
        for c in cells_of(PEOPLE, ["tpr"])
    )
    text = printed(card([disparity("equal_opportunity_difference", cells=cells)]))
    assert "without a score: M 7, F 2" in text


def test_gaps_that_no_rule_reads_are_counted_beyond_the_three_known_best():
    held = [disparity(gap) for gap in GAPS]
    text = printed(card(held))
    assert "accuracy_difference" not in text
    assert "… and 3 more gaps in scorecard.json" in text


def test_a_gap_that_a_rule_reads_comes_first():
    held = [disparity(gap) for gap in GAPS]
    text = printed(card(held), "hiring/decisions.accuracy_difference@sex", width=140)
    assert [gap for gap in text.split() if gap in GAPS] == [
        "accuracy_difference",
        "demographic_parity_difference",
        "equal_opportunity_difference",
        "equalized_odds_difference",
    ]


def test_of_a_metric_without_decisions_the_first_measures_gap_is_shown():
    cells = tuple(
        Cell(measure="rouge.rouge1", group=g, n=50, value=0.4, interval=None) for g in ("F", "M")
    )
    held = [
        disparity(cells=cells).model_copy(update={"metric": f"rouge.{gap}"})
        for gap in ("rouge1.gap", "rouge2.gap", "unscored.gap")
    ]
    estimates = [estimate_of(h, low=0.0) for h in held]
    text = printed(card(held, estimates))
    assert "rouge1.gap" in text
    assert "rouge2.gap" not in text
    assert "unscored.gap" not in text
    assert "… and 2 more gaps" in text


def test_a_group_that_is_refused_an_answer_more_often_is_shown_though_no_rule_asks():
    cells = tuple(
        Cell(measure="rouge.unscored", group=g, n=50, value=0.4, interval=None) for g in ("F", "M")
    )
    held = [
        disparity(cells=cells).model_copy(update={"metric": f"rouge.{gap}"})
        for gap in ("rouge1.gap", "unscored.gap")
    ]
    assert "unscored.gap" in printed(card(held, [estimate_of(h, low=0.01) for h in held]))


def test_what_is_no_part_of_a_group_warns_once():
    lacking = "5 samples lack sex: they are in no group and count as not scored"
    held = [disparity(gap) for gap in GAPS]
    text = printed(card(held, [estimate_of(h, warnings=(lacking,)) for h in held]), width=140)
    assert text.count(lacking) == 1


def test_many_groups_and_gaps_stay_short():
    people = {f"group {n:02}": (20 + n, 60, 20, 50 + n) for n in range(30)}
    held = [d for gap in GAPS for d in both(gap, people=people)]
    text = printed(card(held, comparisons=[change_of(d) for d in held if d.model == "candidate"]))
    assert f"… and {30 - MOST_GROUPS} more groups in scorecard.json" in text
    assert len(text.splitlines()) < 66
    # Both ends of the widest gap are among those shown.
    ends = {e for d in held for e in (d.low, d.high)}
    assert ends <= {row[:8] for row in text.splitlines()}


def test_many_tasks_and_fields_stay_short_and_the_rest_is_named():
    held = [disparity(by=f"field{n}") for n in range(MOST_BLOCKS + 2)]
    last = f"hiring/decisions.demographic_parity_difference@field{MOST_BLOCKS + 1}"
    shown, rest = blocks(card(held), [last])
    assert [block.by for block in shown] == ["field0", "field1", "field2", "field5"]
    assert rest == ["hiring/decisions by field3", "hiring/decisions by field4"]
    text = printed(card(held), last)
    assert "… and 2 more in scorecard.json: hiring/decisions by field3," in text


def test_what_a_rule_failed_on_is_shown_before_what_passed():
    held = [disparity(gap) for gap in GAPS]
    names = [
        f"hiring/decisions.{gap}@sex" for gap in ("accuracy_difference", "demographic_parity_ratio")
    ]
    [block], _ = blocks(card(held), names)
    assert [row.name for row in block.rows[:2]] == [
        "accuracy_difference",
        "demographic_parity_ratio",
    ]


def test_answers_that_all_have_a_score_take_no_column():
    unscored = tuple(
        Cell(measure="decisions.unscored", group=g, n=50, value=0.0, interval=None) for g in PEOPLE
    )
    zero = disparity(cells=unscored, value=0.0, low="F", high="F").model_copy(
        update={"metric": "decisions.unscored.gap"}
    )
    text = printed(card([disparity(), zero]), "hiring/decisions.unscored.gap@sex", width=140)
    assert "all are equal" in line(text, "unscored.gap")
    assert "unscored " not in text


def test_more_gaps_than_fit_are_counted_even_where_rules_read_them():
    held = [
        disparity().model_copy(update={"metric": f"decisions.own{n}_difference"}) for n in range(9)
    ]
    [block], _ = blocks(card(held), [d.name for d in held])
    assert (len(block.rows), block.more) == (MOST_GAPS, 9 - MOST_GAPS)


HOSTILE = [
    "[red]markup[/red]",
    ":smile: [link=http://x.invalid]x[/link]",
    "\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "\u202eevil\u202c",
    "\u200fעברית",
    "👩🏽‍🦱",
    "a\r\n\tb",
    "",
    "x" * 300,
    "漢" * 60,
]


@pytest.mark.parametrize("width", [80, 100, 140])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_groups_name_is_shown_as_text_within_the_width(name, width):
    people = {name: (120, 300, 60, 100), "M": PEOPLE["M"], f"{name}z": (3, 5, 2, 4)}
    held = [d for gap in GAPS for d in both(gap, people=people, by=name or "f")]
    text = printed(card(held), width=width)
    assert all(character.isprintable() or character == "\n" for character in text)
    assert max(cell_len(each) for each in text.splitlines()) <= width
    if name.startswith("["):
        assert "[red]markup[/red]" in text


@given(names=st.sets(st.text(max_size=60), min_size=2, max_size=14), field=st.text(max_size=30))
@settings(max_examples=60, deadline=None)
def test_no_name_moves_a_cursor_or_breaks_the_width(names, field):
    people = {name: (20 + n, 60, 20, 50) for n, name in enumerate(sorted(names))}
    held = [d for gap in GAPS for d in both(gap, people=people, by=field)]
    text = printed(card(held, comparisons=[change_of(d) for d in held]))
    assert all(character.isprintable() or character == "\n" for character in text)
    assert max(cell_len(each) for each in text.splitlines()) <= 100


@pytest.mark.parametrize("width", [80, 100, 140])
def test_no_number_is_cut_and_the_groups_at_the_ends_are_always_named(width):
    held = [d for gap in GAPS for d in both(gap)]
    text = printed(card(held, comparisons=[change_of(d) for d in held]), width=width)
    assert text.count("F < M") == 3
    assert text.count("0.131 [0.060, 0.200]") == 6
    assert "+0.035 [−0.020, 0.090]" in text
    assert "0.450 [0.402, 0.499]" in text


def said(disparities, **changes):
    held = card(disparities, **changes)
    return not_shown(held, blocks(held, ())[0])


def test_base_rates_that_differ_are_printed_with_what_follows_from_them():
    # Kleinberg, Mullainathan & Raghavan 2016; Chouldechova 2017: M 310 of 520 and F 300 of 400 labels are positive.
    told = " ".join(said([disparity("equalized_odds_difference")]))
    assert "M 0.596, F 0.750 of the labels are positive" in told
    assert "Chouldechova 2017" in told


def test_base_rates_that_do_not_differ_are_not_blamed():
    people = {"F": (120, 300, 60, 200), "M": (180, 310, 130, 205)}
    told = " ".join(said([disparity("equalized_odds_difference", people=people)]))
    assert "Chouldechova" not in told


def test_nothing_is_said_of_base_rates_that_are_not_known():
    assert "Base rates" not in " ".join(said([disparity("equal_opportunity_difference")]))


def test_a_gap_that_is_not_shown_is_not_called_refuted():
    held = disparity()
    assert any("not refuted" in s for s in said([held], estimates=[estimate_of(held, low=0.0)]))
    assert not any(
        "not refuted" in s for s in said([held], estimates=[estimate_of(held, low=0.01)])
    )


def test_labels_are_doubted_only_where_a_number_reads_them():
    assert any("Labels" in s for s in said([disparity("equal_opportunity_difference")]))
    assert not any("Labels" in s for s in said([disparity("demographic_parity_difference")]))


def test_groups_that_are_too_small_are_counted():
    people = {**PEOPLE, "X": (3, 5, 2, 9), "Y": (3, 5, 2, 9)}
    assert any("2 groups are missing" in s for s in said([disparity(people=people)]))


def test_words_that_stand_for_groups_and_published_sets_say_where_they_come_from():
    counterfactual = TaskTally(
        model="candidate", task="t", kind="counterfactual", dataset="d", planned=1, requests=2
    )
    held = disparity()
    bbq = estimate_of(held).model_copy(update={"metric": "bbq.ambiguous", "kind": "mean"})
    told = " ".join(said([held], tasks=[counterfactual], estimates=[estimate_of(held), bbq]))
    assert "stand for groups come from somewhere" in told
    assert "United States" in told


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("least", [0.0, 0.01])
def test_between_two_and_four_sentences_are_said(gap, least):
    people = {**PEOPLE, "X": (3, 5, 2, 9)}
    for held in (disparity(gap), disparity(gap, people=people)):
        assert 2 <= len(said([held], estimates=[estimate_of(held, low=least)])) <= 4


ROOT = Path(__file__).parents[2]


def test_the_pages_suite_and_gate_run_and_every_rule_finds_what_it_reads(tmp_path):
    page = (ROOT / "gates" / "FAIRNESS.md").read_text()
    suite, gate = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "suite.yaml").write_text(suite)
    (tmp_path / "gate.yaml").write_text(gate)
    rows = [
        {
            "id": f"a{n}",
            "text": f"{'She' if n % 2 else 'He'} earns {n} a month.",
            "repaid": "yes" if n % 3 else "no",
            "sex": "F" if n % 2 else "M",
            "age": ("18–29", "30–50")[n // 2 % 2],
        }
        for n in range(240)
    ]
    (tmp_path / "data").mkdir()
    (tmp_path / "answers").mkdir()
    lines = {
        "data/applications.jsonl": rows,
        "answers/lend.jsonl": [
            {"sample_id": r["id"], "text": r["repaid"] if n % 7 else "no"}
            for n, r in enumerate(rows)
        ],
        "answers/lend-swapped.jsonl": [
            {"sample_id": r["id"], "text": r["repaid"], "replicate": variant}
            for r in rows
            for variant in (0, 1)
        ],
    }
    for name, held in lines.items():
        (tmp_path / name).write_text("\n".join(map(json.dumps, held)))
    models = ("--candidate", "answers", "--baseline", "answers", "--backend", "replay")
    out = io.StringIO()
    with contextlib.chdir(tmp_path), contextlib.redirect_stdout(out):
        code = main.run(["run", "suite.yaml", *models, "--out", "reports"])
    [folder] = (tmp_path / "reports").glob("lending-*")
    outcomes = json.loads((folder / "verdict.json").read_text())["outcomes"]
    assert code in (0, 1, 4)
    assert [o["reason"] for o in outcomes if o["status"] in ("missing", "incomparable")] == []
    scorecard = json.loads((folder / "scorecard.json").read_text())
    names = {f"{e['task']}/{e['metric']}@{e['slice']}" for e in scorecard["estimates"]}
    assert {
        "lend/decisions.tpr@sex=F",
        "lend/decisions.tpr@sex+age=F+30–50",
        "lend/decisions.equal_opportunity_difference@sex",
        "lend/refusals.gap@sex",
        "lend/decisions.unscored@sex=F",
        "lend/decisions.unscored.gap@sex",
    } <= names
    assert "lend/decisions by sex+age" in out.getvalue()


def test_the_page_tells_what_chance_shows_of_equal_groups():
    # The page's table, drawn anew: eight groups at 80 %.
    page = (ROOT / "gates" / "FAIRNESS.md").read_text()
    told = re.findall(
        r"^\| (?:1,)?(\d+)(?: samples)? \| \.(\d+) \| \.(\d+) \| \.(\d+) \|$", page, re.M
    )
    rng = np.random.default_rng(20_261)
    assert len(told) == 3
    for n, (_, *shown) in zip((50, 200, 1_000), told, strict=True):
        rates = rng.binomial(n, 0.8, size=(40_000, 8)) / n
        low, high = rates.min(axis=1), rates.max(axis=1)
        drawn = ((high - low).mean(), np.quantile(high - low, 0.95), np.quantile(low / high, 0.05))
        assert drawn == pytest.approx([float(f"0.{x}") for x in shown], abs=0.0015)
        if n == 50:
            percent = {
                "refuses": (high - low > 0.1).mean(),
                "four-fifths rule": (low / high < 0.8).mean(),
            }
            for words, share in percent.items():
                [number] = re.findall(rf"{words}\s(\d+) %", page)
                assert share == pytest.approx(int(number) / 100, abs=0.015)


def test_the_page_tells_how_a_bootstrap_of_the_gap_misleads():
    page = " ".join((ROOT / "gates" / "FAIRNESS.md").read_text().split())
    [(least, median)] = re.findall(r"never below \.(\d+), and \.(\d+) in the median", page)
    rng = np.random.default_rng(20_261)
    ends = []
    for hits_G in rng.binomial(50, 0.8, size=(500, 8)):
        again = rng.binomial(50, hits_G / 50, size=(400, 8)) / 50
        ends.append(np.quantile(again.max(axis=1) - again.min(axis=1), 0.025))
    assert min(ends) >= float(f"0.{least}") - 1e-9
    assert np.median(ends) == pytest.approx(float(f"0.{median}"), abs=0.011)
