"""Ratings as estimates: the counts, the pairs, and what is not rated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from review_worlds import LABELS, SCALE, rated, suite, table

from evalkit.reviewing import human_comparisons, human_estimates, human_tables, labels_by_place
from evalkit.stats.corrected import judged_mean

IDS = [f"s{n}" for n in range(60)]
MEASURED = {
    "candidate": [table(dict.fromkeys(IDS, 1), missing=["s60"])],
    "baseline": [table(dict.fromkeys(IDS, 1), missing=["s60"])],
}
SLICED = suite(slices=["part"])


def by_name(estimates, model="candidate"):
    return {e.name.removeprefix("write/"): e for e in estimates if e.model == model}


def test_planned_are_the_drawn_answers_and_unrated_ones_are_counted_with_the_reason():
    rows = [rated(n, ann=5 if n < 6 else 1) for n in range(10)]
    rows += [rated(11), rated(12), rated(60).model_copy(update={"failed": "timeout"})]
    found = by_name(human_estimates(rows, SLICED, MEASURED))
    counts = found["human.pass"].counts
    assert (counts.planned, counts.completed, counts.failed, counts.scored, counts.unscored) == (
        13, 12, 1, 10, 2
    )  # fmt: skip
    assert found["human.pass"].value == pytest.approx(0.6)
    assert found["human.rating"].value == pytest.approx(0.6)
    assert (found["human.pass"].kind, found["human.rating"].kind) == ("rate", "mean")
    assert "2 of 13 drawn answers: not rated" in found["human.pass"].warnings
    assert found["human.agreement"].counts.scored == 10
    assert found["human.agreement"].n == 0


def test_a_rate_of_ratings_has_wilsons_interval():
    """Source: Newcombe 1998, 81 of 263: (.2553, .3662)."""
    ids = [f"s{n}" for n in range(263)]
    measured = {"candidate": [table(dict.fromkeys(ids, 1))]}
    rows = [rated(n, ann=5 if n < 81 else 1) for n in range(263)]
    interval = by_name(human_estimates(rows, suite(), measured))["human.pass"].interval
    assert (round(interval.low, 4), round(interval.high, 4)) == (0.2553, 0.3662)


def test_each_slice_has_an_estimate_and_the_slices_add_up():
    rows = [rated(n, ann=5 if n < 6 else 1) for n in range(10)]
    found = by_name(human_estimates(rows, SLICED, MEASURED))
    parts = [found[f"human.pass@part={part}"] for part in ("even", "odd")]
    assert [part.counts.planned for part in parts] == [5, 5]
    assert "human.agreement@part=odd" not in found


def test_clusters_of_the_run_widen_the_interval_of_ratings():
    clusters = {sample: f"c{int(sample[1:]) // 5}" for sample in [*IDS, "s60"]}
    clustered = {"candidate": [table(dict.fromkeys(IDS, 1), missing=["s60"], clusters=clusters)]}
    rows = [rated(n, ann=5 if (n // 5) % 2 else 1) for n in range(60)]
    wide = by_name(human_estimates(rows, suite(cluster="c"), clustered))["human.pass"].interval
    narrow = by_name(human_estimates(rows, suite(), MEASURED))["human.pass"].interval
    assert wide.method == "cr1-t"
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_where_looking_decided_how_many_were_asked_intervals_hold_at_any_look():
    early = {"candidate": [replace(table(dict.fromkeys(IDS, 1)), anytime=True)]}
    rows = [rated(n, ann=5 if n % 3 else 1) for n in range(60)]
    found = by_name(human_estimates(rows, suite(), early))["human.pass"]
    fixed = by_name(human_estimates(rows, suite(), MEASURED))["human.pass"]
    assert found.interval.method.startswith("betting")
    assert found.interval.high - found.interval.low > fixed.interval.high - fixed.interval.low


def test_candidate_and_baseline_are_paired_by_sample():
    rows = [r for n in range(30) for r in (
        rated(n, ann=5 if n < 25 else 1), rated(n, "baseline", ann=5 if n < 20 else 1)
    )]  # fmt: skip
    found = {c.name: c for c in human_comparisons(rows, suite(), MEASURED)}
    held = found["write/human.pass"]
    assert (held.pairs, held.improved, held.worsened) == (30, 5, 0)
    assert held.difference == pytest.approx(5 / 30)
    assert "write/human.agreement" not in found, "how far people agree is no quality of a model"


def test_a_model_against_itself_has_no_difference():
    rows = [
        r for n in range(30) for r in (rated(n, ann=1 + n % 5), rated(n, "baseline", ann=1 + n % 5))
    ]
    held = {c.metric: c for c in human_comparisons(rows, suite(), MEASURED)}
    assert [held[m].difference for m in ("human.pass", "human.rating")] == [0, 0]


def test_what_one_model_lacks_is_unpaired_and_bounded():
    rows = [r for n in range(20) for r in (rated(n, ann=5), rated(n, "baseline", ann=5))]
    rows[0] = rated(0)
    (held,) = (
        c for c in human_comparisons(rows, suite(), MEASURED) if c.name == "write/human.pass"
    )
    assert (held.pairs, held.unpaired) == (19, 1)
    assert held.worst.difference == pytest.approx(-1 / 20)


def test_a_sample_that_the_baseline_never_planned_is_no_part_of_its_numbers():
    fewer = {**MEASURED, "baseline": [table(dict.fromkeys(IDS[:5], 1))]}
    rows = [r for n in range(8) for r in (rated(n, ann=5), rated(n, "baseline", ann=5))]
    found = human_estimates(rows, suite(), fewer)
    assert by_name(found, "baseline")["human.pass"].counts.planned == 5
    assert by_name(found)["human.pass"].counts.planned == 8


def test_other_annotators_another_question_or_an_adjudicator_change_the_signature():
    rows = [rated(n, ann=5) for n in range(5)]
    settled = [rows[0].model_copy(update={"adjudicated": 5}), *rows[1:]]
    other = SCALE.model_copy(update={"question": "How bad?"})
    signatures = {
        human_tables(held, made, MEASURED)["candidate"][0].signature
        for held, made in [
            (rows, suite()),
            ([rated(n, bob=5) for n in range(5)], suite()),
            (settled, suite()),
            (rows, suite(other)),
        ]
    }
    assert len(signatures) == 4
    assert all("task:abc" in signature for signature in signatures)


def test_labels_serve_the_correction_of_a_judge():
    """A judge that says what people say: PPI++ then gives the judge's mean over all samples, with its interval."""
    rows = [rated(n, ann=1 + n % 5) for n in range(20)] + [rated(20)]
    labels = labels_by_place(rows, suite())
    assert ("write", "candidate", "s20") not in labels
    y = np.array([labels["write", "candidate", f"s{n}"] for n in range(20)])
    assert set(y) == {0, 0.25, 0.5, 0.75, 1}
    found = judged_mean(y, y, np.tile(y, 5), 0.95, weight=1)
    assert found.value == pytest.approx(0.5)
    passed = labels_by_place(rows, suite(), what="pass")
    assert set(passed.values()) == {0.0, 1.0}


def test_tied_labels_are_unscored_and_still_count_against_the_agreement():
    rows = [rated(n, ann="good", bob="good" if n < 8 else "bad") for n in range(12)]
    rows += [rated(n, ann="bad", bob="bad") for n in range(12, 20)]
    found = by_name(human_estimates(rows, suite(LABELS), MEASURED))
    assert found["human.pass"].counts.unscored == 4
    assert found["human.agreement"].counts.scored == 20
    assert found["human.agreement"].value < 0.7
