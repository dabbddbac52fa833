"""The flip ledger on the page: the scorecard's own counts, both answers, and what is said where there is none."""

from __future__ import annotations

import random
import re
import shutil
from html import unescape

import pytest
from replayed_runs import replayed

from evalkit.cli.past_runs import open_run
from evalkit.reports.page.flipped import run_ledgers
from evalkit.reports.page.sections import flips

RLO = "\u202e"


def questions(count):
    return [
        {"id": f"s{n:03}", "question": f"Q{n}", "target": f"t{n}", "region": "ab"[n % 2]}
        for n in range(count)
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Region "a" loses a great deal, region "b" moves by chance."""
    draw = random.Random(5)
    rows = questions(200)
    candidate, baseline = {}, {}
    for row in rows:
        lost = 0.5 if row["region"] == "a" else 0.95
        candidate[row["id"]] = row["target"] if draw.random() < lost else f"<b>no</b> {row['id']}"
        baseline[row["id"]] = row["target"] if draw.random() < 0.95 else f"never {RLO}{row['id']}"
    candidate["s004"] = baseline["s004"] = None
    return replayed(tmp_path_factory.mktemp("flips"), rows, candidate, baseline)


def compared(run, slice_=None):
    return next(
        c for c in run.scorecard.comparisons if (c.metric, c.slice) == ("exact_match", slice_)
    )


def test_counts_are_those_of_the_scorecard(run):
    whole = compared(run)
    made = flips.section(run)
    assert whole.worsened > 10 and whole.improved > 0
    assert f"{whole.worsened} got worse" in made.body
    assert f"{whole.improved} got better" in made.body
    assert made.count == f"{whole.worsened} worse"
    (ledger,) = run_ledgers(run)
    for held in ledger.slices:
        beside = compared(run, held.slice)
        assert (held.worsened, held.improved) == (beside.worsened, beside.improved)


def test_what_lost_stands_before_what_gained_and_movements_of_means_come_last(run, monkeypatch):
    (ledger,) = run_ledgers(run)

    def told(task, finding, worsened, *, binary=True):
        whole = ledger.whole.model_copy(update={"finding": finding, "worsened": worsened})
        return ledger.model_copy(
            update={"task": task, "whole": whole, "binary": binary, "slices": ()}
        )

    found = [
        told("gained", "better", 9),
        told("mean", "worse", 99, binary=False),
        told("noise", "", 3),
        told("lost", "worse", 5),
        told("more-noise", "", 4),
    ]
    monkeypatch.setattr(flips, "run_ledgers", lambda run: found)
    names = re.findall(r"<code><bdi>([\w-]+)/exact_match", flips.section(run).body)
    assert list(dict.fromkeys(names)) == ["lost", "more-noise", "noise", "gained", "mean"]


def test_slices_shown_to_have_lost_are_named_and_others_are_not(run):
    body = flips.section(run).body
    told = re.search(r"Slices shown to have lost:</span>(.*?)</p>", body)[1]
    assert "region=a" in told and "region=b" not in told


def test_both_answers_stand_there_without_a_script_and_harmless(run):
    body = flips.section(run).body
    (ledger,) = run_ledgers(run)
    for flip in (*ledger.whole.worse, *ledger.whole.better):
        assert flip.sample in body
    text = unescape(re.sub(r"<[^>]*>", "", body))
    lost = ledger.whole.worse[0].sample
    assert f"<b>no</b> {lost}" in text and f"t{int(lost[1:])}" in text
    assert "<b>no</b>" not in body
    assert RLO not in body and r"never \u202e" in text


def test_how_many_are_not_shown_is_said(run):
    whole = compared(run)
    assert f"(10 of {whole.worsened})" in flips.section(run).body


def test_a_run_without_its_samples_tells_how_many_and_not_which(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "run")
    (tmp_path / "run" / "samples.jsonl").unlink()
    made = flips.section(open_run(str(tmp_path / "run"), tmp_path))
    whole = compared(run)
    assert "cannot be told" in made.body
    assert f">{whole.worsened}<" in made.body and f">{whole.improved}<" in made.body
    assert "s001" not in made.body and not made.script


def test_without_a_baseline_there_is_no_such_part(tmp_path):
    rows = questions(5)
    run = replayed(tmp_path, rows, {row["id"]: row["target"] for row in rows})
    assert flips.section(run) is None


def test_where_a_task_has_no_rate_scores_moved_and_nothing_is_called_right(tmp_path):
    rows = questions(30)
    said = {row["id"]: f"{row['target']} and more" for row in rows}
    run = replayed(
        tmp_path, rows, {row["id"]: row["target"] for row in rows}, said, metrics="[rouge]"
    )
    body = flips.section(run).body
    assert "their score moved" in body and "30 got better" in body
    assert "wrong" not in body and "right" not in body


def test_long_answers_are_cut_with_their_length_told(tmp_path):
    rows = questions(4)
    long = {row["id"]: "y" * 5_000_000 for row in rows}
    run = replayed(tmp_path, rows, long, {row["id"]: row["target"] for row in rows})
    body = flips.section(run).body
    assert f"{5_000_000 - flips.LONGEST:,} characters left out" in body
    assert len(body) < 100_000
