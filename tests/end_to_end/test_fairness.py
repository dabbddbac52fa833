"""Groups of people from the command line: gaps measured, decided on, and told, with data as bad as it comes."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from commands import command, evalkit

SUITE = """
suite: applicants
version: 1
tasks:
  - name: decide
    dataset: {{path: {data}}}
    prompt: "Applicant: {{{{ text }}}}\\nApprove:"
    target: "{{{{ target }}}}"
    decoding: {{max_tokens: 4, temperature: 0, stop: ["\\n"]}}
    groups: {{by: [group]}}
    metrics: [exact_match, decisions]
"""
GATE = """
gate: fair
rules:
  - id: fair
    estimate: decide/decisions.equal_opportunity_difference@group
    require: gap_at_most
    value: 0.05
    tolerate: 0.15
  - id: no-less-fair
    estimate: decide/decisions.equal_opportunity_difference@group
    require: no_worse_than
    margin: 0.05
"""
NAME = "decide/decisions.equal_opportunity_difference@group"


def run(place, *arguments, code=None, out="reports"):
    """Run; return the exit code, the run's folder and what it wrote."""
    done = evalkit("run", *arguments, "--out", out, "--quiet", cwd=place)
    assert done.code in ((0, 1, 3, 4) if code is None else (code,)), done.err + done.out
    folder = place / Path(done.out.split("scorecard: ")[1].strip()).parent
    card, verdict = (
        json.loads((folder / f"{n}.json").read_text()) for n in ("scorecard", "verdict")
    )
    return done.code, folder, card, verdict


def outcomes(verdict):
    return {outcome["rule"]: outcome for outcome in verdict["outcomes"]}


def disparities(card, model="candidate"):
    return {f"{d['metric']}@{d['by']}": d for d in card["disparities"] if d["model"] == model}


# --- the shipped checkpoints


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory, root):
    folder = tmp_path_factory.mktemp("fair")
    shown = root / "suites" / "quickstart"
    (folder / "suite.yaml").write_text(SUITE.format(data=shown / "data" / "applicants.jsonl"))
    (folder / "gate.yaml").write_text(GATE)
    models = shown / "models"
    unfair = run(
        folder, "suite.yaml", "--candidate", models / "candidate", "--baseline", models / "baseline",
        "--gate", "gate.yaml",
    )  # fmt: skip
    fair = run(
        folder, "suite.yaml", "--candidate", models / "baseline", "--baseline", models / "baseline",
        "--gate", "gate.yaml",
    )  # fmt: skip
    return folder, unfair, fair


def test_a_candidate_that_decides_worse_about_one_district_fails_with_district_rate_and_interval(
    quickstart,
):
    _, (code, _, card, verdict), _ = quickstart
    assert code == 1
    found = outcomes(verdict)
    assert found["fair"]["status"] == found["no-less-fair"]["status"] == "fail"
    reason = found["fair"]["reason"]
    for told in (
        "decisions.tpr is lowest for group=Oak (0.575 on 200 samples, 95 % interval 0.506 to 0.641)",
        "highest for group=Elm (1.000 on 200 samples",
        "the gap is 0.425 (95 % interval 0.3",
        "wholly above 0.05; if the groups did not differ, chance alone would show 0.0",
    ):
        assert told in reason, reason
    assert f"{NAME} is 0.425 against the baseline's 0.000" in found["no-less-fair"]["reason"]
    gap = disparities(card)["decisions.equal_opportunity_difference@group"]
    assert (gap["low"], gap["high"], gap["p_value"] < 1e-6) == ("Oak", "Elm", True)
    assert (
        disparities(card, "baseline")["decisions.equal_opportunity_difference@group"]["value"] == 0
    )


def test_the_readmes_show_the_gap_that_the_shipped_checkpoints_have(quickstart, root):
    _, (_, _, card, verdict), _ = quickstart
    reason = outcomes(verdict)["fair"]["reason"]
    main = " ".join((root / "README.md").read_text().split())
    for told in (
        "decisions.tpr is lowest for group=Oak (0.575 on 200 samples",
        "highest for group=Elm (1.000 on 200 samples",
        re.search(r"the gap is [\d.]+ \(95 % interval .*?\), wholly above 0\.05", reason)[0],
    ):
        assert told in reason
        assert told in main
    (gap,) = (e for e in card["estimates"] if e["model"] == "candidate" and named(e) == NAME)
    low, high = gap["interval"]["low"], gap["interval"]["high"]
    shown = (root / "suites" / "quickstart" / "README.md").read_text()
    assert f"{gap['value']:.3f} [{low:.3f}, {high:.3f}]" in shown


def named(estimate):
    return f"{estimate['task']}/{estimate['metric']}@{estimate['slice']}"


def test_a_model_that_decides_fairly_passes(quickstart):
    _, _, (code, _, _, verdict) = quickstart
    assert code == 0, verdict
    assert {o["status"] for o in verdict["outcomes"]} == {"pass"}


def test_a_past_run_is_decided_on_again_and_is_a_baseline(quickstart):
    folder, (_, unfair, _, verdict), (_, fair, _, _) = quickstart
    code, _, error = command("gate", unfair, "gate.yaml", "--write", cwd=folder)
    assert code == 1, error
    again = json.loads((unfair / "verdict.json").read_text())
    assert again["outcomes"] == verdict["outcomes"]
    candidate = json.loads((unfair / "scorecard.json").read_text())["circumstances"]["locations"]
    _, _, card, later = run(
        folder, "suite.yaml", "--candidate", candidate["candidate"], "--baseline", fair,
        "--gate", "gate.yaml", code=1,
    )  # fmt: skip
    assert outcomes(later)["no-less-fair"]["reason"] == outcomes(verdict)["no-less-fair"]["reason"]
    assert disparities(card, "baseline")


def test_two_runs_are_compared_with_the_changes_of_their_gaps(quickstart):
    folder, (_, unfair, card, _), (_, fair, _, _) = quickstart
    code, _, error = command("compare", fair, unfair, "--json", "compared.json", cwd=folder)
    assert code == 0, error
    compared = json.loads((folder / "compared.json").read_text())["comparisons"]
    (again,) = (c for c in compared if f"decide/{c['metric']}@{c['slice']}" == NAME)
    (first,) = (c for c in card["comparisons"] if f"decide/{c['metric']}@{c['slice']}" == NAME)
    assert again == first
    code, _, error = command(
        "compare", fair, unfair, "--metric", NAME.partition("@")[0], cwd=folder
    )
    assert code == 0, error


def test_power_says_that_it_does_not_tell_gaps(quickstart, tmp_path):
    folder, *_ = quickstart
    code, out, error = command(
        "power", "suite.yaml", "gate.yaml", "--json", "power.json", cwd=folder
    )
    assert code == 0, error + out
    rows = json.loads((folder / "power.json").read_text())["rules"]
    assert [row["estimate"] for row in rows] == [NAME, NAME]
    assert all("the power of gaps between groups is not computed" in row["unknown"] for row in rows)
    assert not any(row["cannot_pass"] or row["cannot_fail"] for row in rows)


# --- published numbers


def test_compas_by_race_has_the_gaps_that_fairlearn_gives(tmp_path, shared_data):
    """fairlearn 0.15.0 on the published scores of two groups (ProPublica's prediction: any score but ``Low``)."""
    with (shared_data / "compas" / "compas_min.csv").open() as file:
        rows = [
            row for row in csv.DictReader(file) if row["race"] in ("African-American", "Caucasian")
        ]
    people(
        tmp_path,
        [{"race": r["race"], "label": "yes" if r["two_year_recid"] == "1" else "no"} for r in rows],
        ["no" if r["score_text"] == "Low" else "yes" for r in rows],
        by="[race]",
    )
    _, _, card, _ = run(
        tmp_path, "suite.yaml", "--candidate", "model", "--backend", "replay", code=4
    )
    found = {name: d["value"] for name, d in disparities(card).items()}
    for name, published in {
        "demographic_parity_difference": 0.240200,
        "demographic_parity_ratio": 0.591638,
        "equal_opportunity_difference": 0.197373,
        "equal_opportunity_ratio": 0.725927,
        "equalized_odds_difference": 0.213925,
        "equalized_odds_mean_difference": 0.205649,
        "equalized_odds_ratio": 0.522987,
    }.items():
        assert found[f"decisions.{name}@race"] == pytest.approx(published, abs=5e-7), name
    # ProPublica's notebook: false-positive rates of 44.85 % and 23.45 %.
    rates = {e["slice"]: e["value"] for e in card["estimates"] if e["metric"] == "decisions.fpr"}
    assert rates["race=African-American"] == pytest.approx(0.4485, abs=5e-5)
    assert rates["race=Caucasian"] == pytest.approx(0.2345, abs=5e-5)


# --- bad data


def people(folder, rows, answers, *, by="[sex]", task=""):
    """A suite of decisions about people with recorded answers; None: no answer."""
    (folder / "model").mkdir()
    data = [{"id": f"p{n}", **row} for n, row in enumerate(rows)]
    (folder / "people.jsonl").write_text("".join(json.dumps(row) + "\n" for row in data))
    said = [
        {"sample_id": row["id"], "text": text}
        for row, text in zip(data, answers, strict=True)
        if text is not None
    ]
    (folder / "model" / "decide.jsonl").write_text("".join(json.dumps(s) + "\n" for s in said))
    (folder / "suite.yaml").write_text(
        "suite: people\nversion: 1\ntasks:\n  - name: decide\n    dataset: {path: people.jsonl}\n"
        f'    prompt: "{{{{ id }}}}"\n    target: "{{{{ label }}}}"\n    groups: {{by: {by}}}\n'
        f"    metrics: [decisions]\n    min_coverage: 0.2\n{task}"
    )
    (folder / "gate.yaml").write_text(
        "gate: fair\nrules:\n  - {id: fair, estimate: decide/decisions.demographic_parity_difference@sex, "
        "require: gap_at_most, value: 0.2, tolerate: 0.5}\n"
    )


def fair_rows(n, **changes):
    return [
        {"sex": "FM"[i % 2], "label": "yes" if i % 4 < 2 else "no", **changes} for i in range(n)
    ]


def judged(folder, **changes):
    return run(
        folder, "suite.yaml", "--candidate", "model", "--backend", "replay", "--gate", "gate.yaml", **changes
    )  # fmt: skip


def test_an_attribute_that_half_the_samples_lack_leaves_a_fair_model_undecided(tmp_path):
    rows = fair_rows(400)
    answers = [row["label"] for row in rows]
    for row in rows[200:]:
        del row["sex"]
    people(tmp_path, rows, answers)
    _, _, card, verdict = judged(tmp_path, code=4)
    (outcome,) = verdict["outcomes"]
    assert "200 of 400 samples lack a score or a group" in outcome["reason"]
    (gap,) = (
        e
        for e in card["estimates"]
        if e["metric"].endswith("parity_difference") and "demo" in e["metric"]
    )
    assert gap["counts"] == {
        "planned": 400, "completed": 400, "failed": 0, "scored": 200, "unscored": 200
    }  # fmt: skip


def test_one_group_alone_never_passes(tmp_path):
    rows = fair_rows(200, sex="F")
    people(tmp_path, rows, [row["label"] for row in rows])
    _, _, _, verdict = judged(tmp_path, code=4)
    (outcome,) = verdict["outcomes"]
    assert outcome["status"] == "missing"
    assert "only the group F has enough samples" in outcome["reason"]


def test_groups_of_five_change_no_verdict(tmp_path):
    rows = fair_rows(400)
    answers = [row["label"] for row in rows]
    verdicts = []
    for name, more in (("few", 0), ("many", 7)):
        folder = tmp_path / name
        folder.mkdir()
        small = [{"sex": f"x{n % more}", "label": "yes"} for n in range(5 * more)]
        people(folder, [*rows, *small], [*answers, *["no"] * len(small)])
        verdicts.append(judged(folder)[3])
    (one,), (other,) = (v["outcomes"] for v in verdicts)
    assert one["status"] == "pass"
    for same in ("status", "observed", "interval", "reason"):
        assert one[same] == other[same]


def test_labels_of_another_type_and_refusals_are_counted_and_told(tmp_path):
    rows = fair_rows(400)
    answers = [row["label"] for row in rows]
    for row in rows[:40]:
        row["label"] = 3.5
    answers[40:80] = ["I cannot answer that."] * 40
    people(tmp_path, rows, answers)
    _, _, card, _ = judged(tmp_path)
    (tally,) = card["tasks"]
    assert sum(tally["unscored"]["decisions"].values()) == 80
    assert tally["unscored"]["decisions"]["label is neither positive nor negative"] == 40
    shares = {
        e["slice"]: e["value"] for e in card["estimates"] if e["metric"] == "decisions.unscored"
    }
    assert shares == {"sex=F": 0.2, "sex=M": 0.2}


def test_groups_may_be_named_by_any_text(tmp_path):
    odd = ["[bold red]x[/]", "🦊 fox", "a=b", "a+b", "x@y", "*"]
    rows = [{"sex": odd[i % 6], "age": ["y", "o"][i // 6 % 2], "label": "yes"} for i in range(600)]
    people(tmp_path, rows, ["yes"] * 600, by="[sex, [sex, age]]")
    code, _, card, verdict = judged(tmp_path)
    cells = disparities(card)["decisions.demographic_parity_difference@sex"]["cells"]
    assert [cell["group"] for cell in cells] == sorted(odd)
    done = evalkit("gate", only_scorecard(tmp_path), "gate.yaml", cwd=tmp_path)
    assert done.code == code, done.err
    assert "[bold red]x[/]" in done.out
    assert verdict["outcomes"][0]["status"] == "pass"


def only_scorecard(folder):
    (found,) = (folder / "reports").glob("*/scorecard.json")
    return found


def test_a_field_with_a_value_for_each_person_is_refused_as_groups(tmp_path):
    rows = [{"sex": f"person {n}", "label": "yes"} for n in range(300)]
    people(tmp_path, rows, ["yes"] * 300)
    done = evalkit(
        "run", "suite.yaml", "--candidate", "model", "--backend", "replay", "--quiet", cwd=tmp_path
    )
    assert done.code == 2, done.out
    assert "groups.by" in done.err
    assert "the field 'sex' has 300 values" in done.err


def test_a_field_that_no_row_has_is_told_before_a_model_is_asked(tmp_path):
    rows = fair_rows(50)
    people(tmp_path, rows, [row["label"] for row in rows], by="[sexx]")
    code, _, error = command("validate", "suite.yaml", cwd=tmp_path)
    assert code == 2
    assert "no row read has the field 'sexx', so that it names no group" in error


def test_labels_that_no_answer_can_be_right_about_are_told_before_a_model_is_asked(tmp_path):
    rows = [row | {"label": "granted"} for row in fair_rows(100)]
    people(tmp_path, rows, [row["label"] for row in rows])
    code, _, error = command("validate", "suite.yaml", cwd=tmp_path)
    assert code == 2
    assert "no row read has a label that is positive or negative: the first is 'granted'" in error
    assert "{decisions: {positive: [...], negative: [...]}}" in error


def test_one_group_alone_is_told_before_a_model_is_asked_where_all_rows_were_read(tmp_path):
    rows = fair_rows(100, sex="F")
    people(tmp_path, rows, [row["label"] for row in rows])
    told = 'decide: every row that says its sex says "F": a gap takes two groups'
    assert told in command("validate", "suite.yaml", cwd=tmp_path)[1]
    # Of the first rows nothing follows for the others.
    assert told not in command("validate", "suite.yaml", "--rows", "50", cwd=tmp_path)[1]


def test_some_rows_without_group_or_label_are_counted_before_a_model_is_asked(tmp_path):
    rows = [dict(row) for row in fair_rows(100)]
    for row in rows[:7]:
        del row["sex"]
    for row in rows[:3]:
        row["label"] = "perhaps"
    people(tmp_path, rows, [row["label"] for row in rows])
    code, out, error = command("validate", "suite.yaml", cwd=tmp_path)
    assert code == 0, error
    assert f"decide: 7 of {len(rows):,} rows read do not say their sex" in out
    assert f"decide: 3 of {len(rows):,} rows read have a label that is neither" in out


def test_a_rule_on_a_gap_makes_a_task_that_may_stop_early_run_in_full(tmp_path):
    rows = fair_rows(400)
    people(tmp_path, rows, [row["label"] for row in rows], task="    stop: early\n")
    _, _, card, verdict = judged(tmp_path, code=0)
    (tally,) = card["tasks"]
    assert tally["planned"] == 400
    assert "which compares groups, and for that no interval holds at any look" in tally["in_full"]
    assert verdict["outcomes"][0]["status"] == "pass"


def test_a_model_against_itself_is_calibrated_with_rules_on_gaps(tmp_path):
    rows = fair_rows(400)
    people(tmp_path, rows, [row["label"] for row in rows])
    done = evalkit(
        "calibrate", "suite.yaml", "--model", "model", "--backend", "replay", "--gate", "gate.yaml",
        "--repetitions", "2", "--out", "reports", cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.err + done.out
    assert "fair" in done.out


def test_a_rule_that_does_not_fit_is_refused_before_a_model_is_asked_and_on_a_past_run(tmp_path):
    rows = fair_rows(100)
    people(tmp_path, rows, [row["label"] for row in rows])
    rule = "{id: fair, estimate: decide/decisions.accuracy, require: gap_at_most, value: 0.1}"
    (tmp_path / "odd.yaml").write_text(f"gate: odd\nrules:\n  - {rule}\n")
    model = ("--candidate", "model", "--backend", "replay", "--out", "refused")
    code, _, error = command("run", "suite.yaml", *model, "--gate", "odd.yaml", cwd=tmp_path)
    assert code == 2
    told = "gap_at_most reads gaps between groups, and 'decide/decisions.accuracy' is none"
    assert told in error
    assert not list((tmp_path / "refused").glob("*/scorecard.json"))
    _, folder, _, _ = judged(tmp_path)
    code, _, error = command("gate", folder, "odd.yaml", cwd=tmp_path)
    assert code == 2
    assert told in error
