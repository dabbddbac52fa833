"""The page's sections on groups of people, judges, people's ratings and weights: they say what the run's files say.

What is expected is read from the files themselves, as JSON, and written by a formatter of this module.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from itertools import zip_longest

import pytest
from evidence_runs import DAMAGED, EMPTIED, HOSTILE, SLIP, made
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree, html

from evalkit.cli.past_runs import PastRun, open_run
from evalkit.records.weights import Fitted, Tensor, TensorRow
from evalkit.reports.page.sections import fairness, judges, people, weights
from evalkit.reports.page.spectra import spectra
from evalkit.reports.page.weight_rows import drawable, number_of, tensor_rows

pytest.importorskip("safetensors", reason="the spectral extra is not installed")
pytest.importorskip("vl_convert", reason="the spectral extra is not installed")


@pytest.fixture
def runs(tmp_path_factory, root):
    """Kind → the finished run."""
    base, models = tmp_path_factory.getbasetemp(), root / "suites" / "quickstart" / "models"
    return lambda kind: made(kind, base, models)


def copied(run, tmp_path):
    folder = shutil.copytree(run.path, tmp_path / run.path.name)
    return open_run(folder, tmp_path)


def raw(run, name="scorecard.json"):
    return json.loads((run.path / name).read_text())


def lines(run, name):
    return [json.loads(line) for line in (run.path / name).read_text().splitlines()]


def shown(value):
    """A number below 10 as a page writes it; a dash for none."""
    return "–" if value is None else f"{value:.3f}".replace("-", "−")


def between(interval):
    return (
        "no interval"
        if interval is None
        else f"[{shown(interval['low'])}, {shown(interval['high'])}]"
    )


def parsed(section):
    found = html.fromstring(f"<div>{section.body}</div>")
    etree.strip_tags(found, "wbr")  # where a long name may break, it has no blank
    return found


def text(element):
    return " ".join(" ".join(element.itertext()).split())


def table(section, name):
    """The body rows of a table, as its cells' texts."""
    (found,) = parsed(section).xpath(f"//table[@data-name='{name}']")
    return [[text(cell) for cell in row.xpath("./th|./td")] for row in found.xpath("./tbody/tr")]


def everything(section):
    return text(parsed(section))


# --- which sections there are


def test_each_section_is_there_only_where_the_run_has_something_of_it(runs):
    held = {
        kind: [part.__name__.rpartition(".")[2] for part in (fairness, judges, people, weights)
               if part.section(runs(kind)) is not None]
        for kind in ("judged", "reviewed", "weighed")
    }  # fmt: skip
    assert held == {
        "judged": ["fairness", "judges"],
        "reviewed": ["fairness", "judges", "people"],
        "weighed": ["weights"],
    }


def test_every_figure_of_a_fragment_has_its_plot_and_an_alternative_in_words(runs):
    for kind, parts in (("reviewed", (fairness, judges, people)), ("weighed", (weights,))):
        for part in parts:
            section = part.section(runs(kind))
            places = parsed(section).xpath("//figure[@class='plot']")
            assert [place.get("data-plot") for place in places] == [
                plot.id for plot in section.plots
            ]
            assert len({plot.id for plot in section.plots}) == len(places) > 0
            for place in places:
                assert len(place.xpath("./div/@aria-label")[0]) > 20
            assert all(re.fullmatch("[a-z0-9-]+", plot.id) for plot in section.plots)


def test_what_the_data_call_a_group_or_a_topic_is_text_and_no_markup(runs):
    for part in (fairness, judges, people):
        section = part.section(runs("reviewed"))
        assert not parsed(section).xpath("//script")
    assert HOSTILE in everything(fairness.section(runs("reviewed")))


# --- groups of people


def test_every_gap_stands_with_interval_chance_and_groups_as_the_scorecard_has_it(runs):
    run = runs("reviewed")
    card, section = raw(run), fairness.section(run)
    intervals = {
        (e["model"], e["task"], e["metric"], e["slice"]): e["interval"]
        for e in card["estimates"]
        if e["kind"] == "gap"
    }
    rows = table(section, "all-gaps")
    assert len(rows) == len(card["disparities"]) >= 20
    for row, gap in zip(rows, card["disparities"], strict=True):
        metric, _, name = gap["metric"].partition(".")
        assert row[:4] == [
            f"{gap['task']}/{metric} by {gap['by']}",
            name,
            gap["model"],
            gap["form"],
        ]
        interval = intervals[gap["model"], gap["task"], gap["metric"], gap["by"]]
        assert row[4] == f"{shown(gap['value'])} {between(interval)}"
        assert row[5:7] == [shown(gap["expected"]), shown(gap["corrected"])]
        if gap["low"] != gap["high"]:
            assert (row[8], row[9].partition(" (")[0]) == (gap["low"], gap["high"])


def test_the_groups_table_has_each_groups_number_and_what_is_left_out_or_missing(runs):
    run = runs("reviewed")
    section = fairness.section(run)
    (gap,) = (
        d for d in raw(run)["disparities"]
        if (d["model"], d["metric"]) == ("candidate", "judged.score.gap")
    )  # fmt: skip
    (theirs,) = (
        d for d in raw(run)["disparities"]
        if (d["model"], d["metric"]) == ("baseline", "judged.score.gap")
    )  # fmt: skip
    baseline = {cell["group"]: cell["value"] for cell in theirs["cells"]}
    rows = {row[0]: row[1:] for row in table(section, "fairness-0-groups")}
    assert (
        set(rows) == {cell["group"] for cell in gap["cells"]} == {HOSTILE, "plain", "other", "tiny"}
    )
    for cell in gap["cells"]:
        mark = " †" if cell["left_out"] else ""
        told = f"{shown(cell['value'])}{mark} {between(cell['interval'])}"
        theirs = shown(baseline[cell["group"]])
        assert rows[cell["group"]] == [str(cell["n"]), told, theirs, str(cell["missing"])]
    assert "No part of a gap, fewer than 20 samples: tiny." in everything(section)
    assert "Samples without a score: other 1." in everything(section)


def test_a_gap_stands_with_what_its_rule_answered_and_its_change_from_the_baseline(runs):
    run = runs("reviewed")
    section = fairness.section(run)
    (outcome,) = (o for o in raw(run, "verdict.json")["outcomes"] if o["rule"] == "fair")
    word = {"fail": "failed", "inconclusive": "undecided", "pass": "passed"}[outcome["counts_as"]]
    row = next(
        row for row in table(section, "fairness-2-gaps")
        if row[:2] == ["equal_opportunity_difference", "candidate"]
    )  # fmt: skip
    assert row[2] == f"{shown(outcome['observed'])} {between(outcome['interval'])}"
    assert row[-1].endswith(f"{word} fair")
    changes = {row[0]: row[1:] for row in table(section, "fairness-2-changes")}
    held = [
        c for c in raw(run)["comparisons"]
        if (c["task"], c["slice"]) == ("decide", "sex") and c["metric"].partition(".")[2] in changes
    ]  # fmt: skip
    assert len(held) == len(changes) == 3
    for change in held:
        sign = "+" if change["difference"] >= 0 else ""
        told = f"{sign}{shown(change['difference'])} {between(change['interval'])}"
        assert changes[change["metric"].partition(".")[2]][:2] == [told, str(change["pairs"])]


def test_the_plots_of_gaps_and_groups_hold_the_scorecards_numbers(runs):
    run = runs("reviewed")
    plots = {plot.id: plot.spec["data"]["values"] for plot in fairness.section(run).plots}
    (gap,) = (
        d for d in raw(run)["disparities"]
        if (d["model"], d["metric"]) == ("candidate", "judged.score.gap")
    )  # fmt: skip
    drawn = next(mark for mark in plots["fairness-0-gaps"] if mark["model"] == "candidate")
    assert (drawn["value"], drawn["expected"]) == (gap["value"], gap["expected"])
    drawn = [mark for mark in plots["fairness-0-groups-0"] if mark["model"] == "candidate"]
    cells = [(c["value"], c["interval"]["low"], c["interval"]["high"]) for c in gap["cells"]]
    assert [(mark["value"], mark["low"], mark["high"]) for mark in drawn] == cells


def test_what_the_numbers_do_not_show_is_said(runs):
    told = everything(fairness.section(runs("reviewed")))
    assert "Groups that are too small say nothing" in told
    assert "Labels may themselves be biased" in told


# --- judges


def test_a_judges_card_stands_with_every_figure_and_a_judge_without_one_is_not_believed(runs):
    run = runs("reviewed")
    section, (quality, better) = judges.section(run), raw(run)["judges"]
    figures = [row[1:3] for row in table(section, "judges-0-card")]
    assert len(figures) == len(quality["card"]["figures"])
    expected = [
        [f"{shown(f['value'])} {between(f['interval'])}", f"{f['n']:,}"]
        for f in quality["card"]["figures"].values()
        if -10 < f["value"] < 10 and f["interval"]["low"] > -10
    ]
    assert len(expected) >= 9
    assert all(each in figures for each in expected)
    assert better["card"] is None
    assert "There is no card. How far it agrees with people nobody knows" in everything(section)
    assert section.count == "1 without a card"


def test_numbers_that_rest_on_a_judge_stand_raw_and_corrected(runs):
    run = runs("reviewed")
    estimates = [
        e for e in raw(run)["estimates"]
        if e["slice"] is None and e["kind"] != "gap" and e["metric"].startswith("judged.")
    ]  # fmt: skip
    rows = table(judges.section(run), "judges-0-numbers")
    assert [row[:3] for row in rows] == [
        [f"write/{e['metric']}", e["model"], f"{shown(e['value'])} {between(e['interval'])}"]
        for e in estimates
    ]
    how = {row[0]: row[4] for row in rows}
    assert how["write/judged.score"] == how["write/judged.passing"] == "as the judge says"
    assert "PPI++" in how["write/judged.score.corrected"]
    assert "Rogan–Gladen" in how["write/judged.passing.corrected"]


def test_what_a_judge_was_not_asked_and_did_not_say_is_counted(runs):
    run = runs("reviewed")
    told = everything(judges.section(run))
    for record in raw(run)["judges"]:
        for reason, n in record["unjudged"].items():
            assert f"{n} without a judgement: {reason}" in told
        for reason, n in record["settled"].items():
            assert f"{n} settled without it: {reason}" in told
        assert f"{record['requests']:,} requests" in told


def test_judgements_that_contradict_themselves_are_shown_a_few_with_their_replies(runs):
    run = runs("reviewed")
    found = parsed(judges.section(run)).xpath("//details//code/text()")
    unlike = [row["id"] for row in lines(run, "judgements.jsonl") if row.get("consistent") is False]
    assert len(unlike) > 3
    assert found == unlike[:3]
    assert "the two orders got different verdicts" in everything(judges.section(run))


def test_without_the_judgements_the_numbers_stay_and_it_is_told(runs, tmp_path):
    run = copied(runs("reviewed"), tmp_path)
    (run.path / "judgements.jsonl").write_text("{}\n")
    section = judges.section(run)
    assert "judgements.jsonl is absent or was changed" in everything(section)
    assert table(section, "judges-0-numbers") == table(
        judges.section(runs("reviewed")), "judges-0-numbers"
    )


# --- people


def test_what_people_said_stands_as_the_scorecard_has_it(runs):
    run = runs("reviewed")
    estimates = {
        (e["metric"], e["slice"] or "all samples", "both" if "agreement" in e["metric"] else e["model"]): e
        for e in raw(run)["estimates"]
        if e["kind"] != "gap" and (e["metric"].startswith("human.") or e["metric"] == "judged.score.corrected"
                                   or (e["metric"] == "judged.score" and e["slice"] is None))
    }  # fmt: skip
    rows = table(people.section(run), "people-0-numbers")
    assert len(rows) == len(estimates) > 10
    for name, model, value, slice_, *_ in rows:
        held = estimates[name.removeprefix("write/"), slice_, model]
        assert value == f"{shown(held['value'])} {between(held['interval'])}"
    changes = table(people.section(run), "people-0-changes")
    assert [row[0].removeprefix("write/") for row in changes] == [
        "judged.score.corrected", "human.pass", "human.rating",
    ]  # fmt: skip


def test_who_rated_how_many_and_how_far_they_agree_is_told_where_the_run_has_the_ratings(runs):
    run = runs("reviewed")
    rated = lines(run, "labels.jsonl")
    items = {row["item"]: row["ratings"] for row in rated if row["item"] and row["ratings"]}
    section = people.section(run)
    n = len(items)
    assert f"{2 * n} ratings of {n} items by 2 people: ann {n}, bob {n}." in everything(section)
    rows = {(row[0], row[1]): row[2:] for row in table(section, "people-0-agreement")}
    alike = sum(held["ann"] == held["bob"] for held in items.values()) / n
    assert 1 - 2 / SLIP < alike < 1
    assert rows["ann and bob", "rated alike"][0].startswith(shown(alike))
    (alpha,) = (e for e in raw(run)["estimates"] if e["metric"] == "human.agreement")
    told = f"{shown(alpha['value'])} {between(alpha['interval'])}"
    assert rows["all", "Krippendorff’s alpha (ordinal)"] == [told, str(alpha["n"])]


def test_ratings_that_were_changed_are_not_told_and_the_numbers_stay(runs, tmp_path):
    run = copied(runs("reviewed"), tmp_path)
    (run.path / "labels.jsonl").write_text("")
    section = people.section(run)
    assert "labels.jsonl is absent or was changed" in everything(section)
    assert len(table(section, "people-0-numbers")) > 10


# --- weights


def test_findings_come_first_and_in_the_words_of_the_scorecard(runs):
    run = runs("weighed")
    section, told = weights.section(run), everything(weights.section(run))
    assert section.count == "2 faults"
    for finding in raw(run)["findings"]:
        assert f"{finding['tensor']}: {finding['message']}" in told
    faults = [told.index(f"fault {name}") for name in ("integrity.nonfinite", "integrity.zero")]
    assert max(faults) < told.index("Importance of layers") < told.index("The whole model")


def test_tensors_with_findings_lead_the_table_and_every_number_is_that_of_the_file(runs):
    run = runs("weighed")
    rows = table(weights.section(run), "weights-0-tensors")
    assert {row[0] for row in rows[:2]} == {DAMAGED, EMPTIED}
    held = {
        row["tensor"]: row for row in lines(run, "weights.jsonl") if row["model"] == "candidate"
    }
    assert len(rows) == len(held)
    for row in rows:
        measured = held[row[0]]["measured"]
        assert row[4] == " × ".join(map(str, held[row[0]]["shape"]))
        for place, name in ((5, "drift"), (8, "alpha"), (9, "importance")):
            value = measured.get(name, {}).get("value")
            first = row[place].partition(" ")[0]
            if value is None:
                assert first == "–"
            else:
                assert float(first.replace(",", "")) == pytest.approx(value, rel=5e-3)


def test_whole_model_numbers_stand_for_both_models_and_spectra_stay_advisory(runs):
    run = runs("weighed")
    section = weights.section(run)
    estimates = {
        (e["model"], e["metric"]): e["value"] for e in raw(run)["estimates"] if not e["slice"]
    }
    rows = {row[0]: row[1:] for row in table(section, "weights-0-numbers-3")}
    for name in ("alpha", "hill"):
        ours, theirs = (float(cell.split()[1].rstrip(",")) for cell in rows[name][:2])
        assert ours == pytest.approx(estimates["candidate", name], rel=5e-3)
        assert theirs == pytest.approx(estimates["baseline", name], rel=5e-3)
    told = everything(section)
    for word in (
        "Spectra, advisory",
        "(an unvalidated heuristic)",
        "fitted to their tails (advisory)",
    ):
        assert word in told


def test_plots_draw_every_tensor_that_has_a_number_tuned_beside_base(runs):
    run = runs("weighed")
    specs = {plot.id: plot.spec for plot in weights.section(run).plots}
    assert list(specs) == [
        f"weights-0-{name}" for name in ("importance", "alpha", "drift", "spectrum")
    ]
    for name in ("alpha", "drift"):
        having = [
            (row["model"], row["tensor"]) for row in lines(run, "weights.jsonl")
            if row["measured"].get(name, {}).get("value") is not None
        ]  # fmt: skip
        drawn = [
            ({"tuned": "candidate", "base": "baseline"}[v.get("model", "tuned")], v["tensor"])
            for v in values(specs[f"weights-0-{name}"])
        ]
        assert sorted(drawn) == sorted(having)


def values(part):
    """Every datum of a plot that is a tensor's."""
    held = part.get("data", {}).get("values", [])
    below = [*part.get("vconcat", []), *part.get("concat", [])]
    return [v for v in held if "tensor" in v] + [v for each in below for v in values(each)]


def test_spectra_are_drawn_anew_from_the_files_numbers(runs):
    run = runs("weighed")
    (plot,) = (p for p in weights.section(run).plots if p.id.endswith("spectrum"))
    (grid,) = plot.spec["vconcat"]
    given_ = raw(run, "plots/spectrum.vl.json")["vconcat"][0]["concat"]
    assert len(grid["concat"]) == len(given_) == 6
    for ours, theirs in zip(grid["concat"], given_, strict=True):
        assert ours["title"]["text"] == theirs["title"]["text"]
        for one, other in zip_longest(
            ours["layer"][0]["data"]["values"], theirs["layer"][0]["data"]["values"]
        ):
            assert one["eigenvalue"] == pytest.approx(other["eigenvalue"], rel=1e-5)
            assert one["share"] == pytest.approx(other["share"], rel=1e-5)


def test_nothing_but_numbers_is_taken_from_a_spectrum_that_was_tampered_with(runs, tmp_path):
    run = copied(runs("weighed"), tmp_path)
    file = run.path / "plots" / "spectrum.vl.json"
    spec = json.loads(file.read_text())
    spec["data"] = {"url": "https://tampered.example/data.json"}
    spec["params"] = [{"name": "tampered", "expr": "warn('tampered')"}]
    one, two, three, four, *_ = spec["vconcat"][0]["concat"]
    one["layer"][0]["mark"] = {"type": "image", "url": "https://tampered.example/pixel.png"}
    one["title"]["subtitle"] = "tampered"
    two["layer"][2]["data"]["values"][1]["share"] *= 0.5  # a steeper line than was fitted
    three["layer"][0]["data"] = {"url": "https://tampered.example/other.json"}
    four["title"]["text"] = "a tensor that nobody measured"
    file.write_text(json.dumps(spec))
    section = weights.section(run)
    (plot,) = (p for p in section.plots if p.id.endswith("spectrum"))
    assert "tampered" not in json.dumps(plot.spec)
    assert len(plot.spec["vconcat"][0]["concat"]) == 3
    assert "3 more in plots/ do not fit weights.jsonl and are left out." in everything(section)


@pytest.mark.parametrize(
    "spec", [{}, {"vconcat": 3}, {"vconcat": [{"concat": [None, [], "x", {}]}]}]
)
def test_a_spectrum_of_another_form_draws_nothing(runs, spec):
    rows = tensor_rows(runs("weighed").weights_rows())["weights"]["candidate"]
    assert spectra(spec, rows)[0] == []


def test_without_weights_jsonl_there_are_no_plots_and_the_numbers_stay(runs, tmp_path):
    run = copied(runs("weighed"), tmp_path)
    (run.path / "weights.jsonl").unlink()
    section = weights.section(run)
    assert not section.plots
    assert "weights.jsonl is absent or was changed" in everything(section)
    assert "integrity.nonfinite" in everything(section)
    assert table(section, "weights-0-numbers-1")


class Large(PastRun):
    """A run whose every tensor is there as many times as a large mixture of experts has it."""

    def weights_rows(self):
        for row in super().weights_rows():
            for n in range(60):
                yield row | {"tensor": f"{row['tensor']}[{n}]", "expert": n}


def test_of_thousands_of_tensors_the_page_stays_bounded_and_says_what_it_leaves_out(runs):
    run = runs("weighed")
    section = weights.section(Large(run.path, run.scorecard))
    assert len(table(section, "weights-0-tensors")) == 500
    assert "more in weights.jsonl" in everything(section)
    assert (
        "tensors have this number. Of them the greatest of each kind in a block is drawn."
        in everything(section)
    )
    assert all(len(json.dumps(plot.spec)) < 200_000 for plot in section.plots)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["query", "up"]),
            st.integers(0, 3),
            st.one_of(st.none(), st.floats(1e-6, 1.0)),
        ),
        min_size=12,
        max_size=40,
    )
)
def test_tensors_drawn_together_keep_what_they_sum_to_and_the_greatest(drawn):
    tensor = Tensor("t", "t", (2, 3), "F32", "query", "matrix", 0)
    rows = [
        TensorRow(
            dataclasses.replace(tensor, name=f"t{n}", module=module, depth=depth),
            {"importance": Fitted(value)},
        )
        for n, (module, depth, value) in enumerate(drawn)
    ]
    having = [value for *_, value in drawn if value is not None]
    for how, whole in (("sum", sum), ("greatest", max)):
        held, told = drawable(rows, "importance", how, most=8)
        kept = [v for row in held if (v := number_of(row, "importance")) is not None]
        assert len(held) - len(kept) == len(rows) - len(having), "those without a number stay"
        if having:
            assert whole(kept) == pytest.approx(whole(having))
        assert bool(told) == (len(having) > 8)
        if told:
            assert len(kept) <= 8
