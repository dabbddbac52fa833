"""A suite with judges, run from the command line: judged after all is answered, resumed, gated and compared."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from commands import command, evalkit, only_run, scorecard, start, stored
from judge_server import draw, running_judge
from stub_server import running_stub
from tiny_checkpoints import make_llama

from evalkit.cli.past_runs import open_run
from evalkit.estimating import estimate_tables
from evalkit.records.scorecard import Scorecard

N = 60
IN_FLIGHT = 4
WORTH = (0.0, 0.25, 0.5, 0.75, 1.0)

SUITE = """
suite: judged
version: 1
judges:
  quality: judges/quality.yaml
  better:
    model: http://127.0.0.1:1
    model_args: {revision: "1", concurrency: "4"}
    form: pairwise
    criteria: Which answer helps more?
tasks:
  - name: write
    dataset: {path: rows.jsonl}
    prompt: "Tell me about {{ topic }}."
    slices: [part]
    groups: {by: [part]}
    metrics: [{judged: {judge: quality}}, {preferred: {judge: better}}]
"""
JUDGE = """
judge: quality
model: http://127.0.0.1:1
model_args: {revision: "1", concurrency: "4"}
criteria: Is the answer helpful?
scale: [1, 5]
"""


def answer(role: str, n: int) -> str:
    return f"Answer {n} of the {role}, which says something."


def worth(role: str, n: int) -> float:
    return WORTH[int(draw(role, str(n)) * 5)]


def recorded(path: Path, role: str, *, empty: int | None = None, absent: int | None = None) -> None:
    rows = [
        {"sample_id": f"s{n}", "text": "" if n == empty else answer(role, n)}
        for n in range(N)
        if n != absent
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def project(tmp_path):
    """A suite with its rows and the recorded answers of two models."""
    (tmp_path / "judges").mkdir()
    (tmp_path / "judges" / "quality.yaml").write_text(JUDGE)
    (tmp_path / "suite.yaml").write_text(SUITE)
    rows = [
        {"id": f"s{n}", "topic": f"topic {n}", "part": "odd" if n % 2 else "even"} for n in range(N)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recorded(tmp_path / "candidate.jsonl", "candidate")
    recorded(tmp_path / "baseline.jsonl", "baseline")
    return tmp_path


def judge(project, name="judge", **settings):
    truth = [
        (answer(role, n), worth(role, n)) for role in ("candidate", "baseline") for n in range(N)
    ]
    return running_judge(project / name, truth, **settings)


def run(project, url, *more, out="reports", **changes):
    given = ("--judge", f"quality={url}", "--judge", f"better={url}")
    models = ("--candidate", "candidate.jsonl", "--baseline", "baseline.jsonl")
    return ("run", "suite.yaml", *models, *given, "--out", out, *more)


def estimates(card):
    return {(e["model"], f"{e['task']}/{e['metric']}", e["slice"]): e for e in card["estimates"]}


def test_what_judges_say_becomes_numbers_that_equal_the_truth(project):
    with judge(project) as server:
        code, out, err = command(*run(project, server.url), cwd=project)
        asked = server.asked()
    assert code == 4, err
    held = estimates(scorecard(project / "reports"))
    for role in ("candidate", "baseline"):
        values = [worth(role, n) for n in range(N)]
        assert held[role, "write/judged.score", None]["value"] == pytest.approx(sum(values) / N)
    wins = [(worth("candidate", n), worth("baseline", n)) for n in range(N)]
    rate = sum((a > b) + (a == b) / 2 for a, b in wins) / N
    assert held["candidate", "write/preferred.win_rate", None]["value"] == pytest.approx(rate)
    assert ("baseline", "write/preferred.win_rate", None) not in held
    assert len(asked) == 2 * N + 2 * N, "each answer once, each pair in both orders"
    print(out)
    assert "by judge quality (no card)" in out


def test_a_run_killed_while_it_is_judged_asks_no_judgement_twice_and_ends_the_same(project):
    with judge(project, "calm") as server:
        calm, _, err = command(*run(project, server.url, out="calm-out"), cwd=project)
    assert calm == 4, err
    store = project / "reports" / "answers.sqlite"
    with judge(project, latency_ms=25) as server:
        for kill_at in (20, 90, 160):
            process = start(*run(project, server.url, "--quiet"), cwd=project)
            while len(server.asked()) < kill_at and process.poll() is None:
                time.sleep(0.005)
            assert process.poll() is None, process.communicate()
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            assert not list((project / "reports").glob("*/scorecard.json"))
        held, before = stored(store), len(server.asked())
        answered = 2 * N
        done = evalkit(*run(project, server.url), cwd=project)
        assert done.code == 4, done.err
        assert len(server.asked()) - before == 4 * N - (held - answered)
        times = [json.dumps(entry["body"]) for entry in server.asked()]
    assert len(times) - len(set(times)) <= 3 * (IN_FLIGHT + 8), "only what was under way at a kill"
    assert "judge quality: " in done.err and "judge better: " in done.err
    assert scorecard(project / "reports") == scorecard(project / "calm-out")
    for name in ("samples.jsonl", "judgements.jsonl"):
        ours, theirs = (only_run(project / out) / name for out in ("reports", "calm-out"))
        assert ours.read_bytes() == theirs.read_bytes()


def test_a_judge_that_turns_us_away_ends_the_run_with_code_3_and_nothing_lost(project):
    with judge(project, "closing", strikes=["401@100"], latency_ms=2) as server:
        code, _, err = command(*run(project, server.url), cwd=project)
    assert code == 3
    assert "the same command resumes" in err
    held = stored(project / "reports" / "answers.sqlite")
    assert held >= 2 * N + 100 - 2 * IN_FLIGHT
    assert not list((project / "reports").glob("*/scorecard.json"))
    with judge(project, "open again") as server:
        code, _, err = command(*run(project, server.url), cwd=project)
        assert code == 4, err
        assert len(server.asked()) == 6 * N - held


def test_a_judge_that_cannot_be_reached_is_told_before_anything_is_asked(project):
    code, _, err = command(*run(project, "http://127.0.0.1:9"), cwd=project)
    assert code == 3
    assert "http://127.0.0.1:9" in err
    assert not (project / "reports" / "answers.sqlite").exists()


def test_a_second_run_asks_nothing_and_writes_the_same_card(project):
    with judge(project) as server:
        command(*run(project, server.url), cwd=project)
    before = scorecard(project / "reports")
    with judge(project, "again") as server:
        code, out, err = command(*run(project, server.url), cwd=project)
        assert code == 4, err
        assert server.asked() == []
    assert "0 requests asked, 360 answered from the store" in out
    assert scorecard(project / "reports") == before


GATE = """
gate: ship
rules:
  - {id: quality, estimate: write/judged.score, require: at_least, value: 0.2, on_inconclusive: ON}
  - {id: no-worse, estimate: write/judged.score, require: no_worse_than, margin: 0.5}
"""


def card(scored: Scorecard, name: str, kappa: tuple[float, float, float]) -> dict:
    """A judge's card as ``evalkit judge validate`` writes it, with this kappa."""

    def figure(value, low, high):
        interval = {"low": low, "high": high, "level": 0.95, "method": "told"}
        return {"value": value, "interval": interval, "n": 200}

    record = next(each for each in scored.judges if each.judge == name)
    figures = {
        "accuracy": figure(0.9, 0.85, 0.94),
        "kappa": figure(*kappa),
        "no_verdict": figure(0.0, 0.0, 0.005),
        "canary_false_positives": figure(0.0, 0.0, 0.05),
    }
    return {
        "format": 1,
        "judge": name,
        "pins": record.pins,
        "pinned": True,
        "labels": "0" * 64,
        "made": "2020-01-01T00:00:00+00:00",
        "figures": figures,
    }


def outcomes(folder):
    verdict = json.loads((folder / "verdict.json").read_text())
    return {o["rule"]: (o["status"], o["counts_as"], o["reason"]) for o in verdict["outcomes"]}


def test_a_rule_on_what_a_judge_says_decides_only_by_a_card_that_meets_it(project):
    gate, beside = project / "gate.yaml", project / "judges" / "quality-card.json"
    gate.write_text(GATE.replace("ON", "pass"))
    with judge(project) as server:
        code, out, err = command(*run(project, server.url, "--gate", gate), cwd=project)
        assert code == 4, err
        folder = only_run(project / "reports")
        status, counts_as, reason = outcomes(folder)["quality"]
        assert (status, counts_as) == ("inconclusive", "inconclusive"), "a judge nobody checked"
        assert "no judge card" in reason
        scored = open_run(folder, project).scorecard

        beside.write_text(json.dumps(card(scored, "quality", (0.5, 0.4, 0.6))))
        code, out, err = command(*run(project, server.url, "--gate", gate), cwd=project)
        assert code == 4
        assert "by judge quality (card: kappa 0.500 [0.400, 0.600])" in out
        assert "kappa" in outcomes(folder)["quality"][2]

        beside.write_text(json.dumps(card(scored, "quality", (0.8, 0.7, 0.9))))
        code, out, err = command(*run(project, server.url, "--gate", gate), cwd=project)
        assert code == 0, out + err
        assert {status for status, *_ in outcomes(folder).values()} == {"pass"}
        code, out, err = command("gate", folder, gate, cwd=project)
        assert code == 0, "the card stands in the scorecard"


def test_a_card_for_another_judge_is_refused_where_it_was_given_and_told_where_it_was_found(
    project,
):
    with judge(project) as server:
        command(*run(project, server.url), cwd=project)
        scored = open_run(only_run(project / "reports"), project).scorecard
        other = {**card(scored, "quality", (0.8, 0.7, 0.9)), "pins": "f" * 64}
        (project / "quality-card.json").write_text(json.dumps(other))
        code, out, err = command(*run(project, server.url), cwd=project)
        assert code == 4, err
        assert "by judge quality (no card: quality-card.json was made for another" in out
        given = ("--judge-card", project / "quality-card.json")
        code, _, err = command(*run(project, server.url, *given), cwd=project)
        assert code == 2
        assert "fits no judge of this run" in err


def test_the_card_that_validating_wrote_is_found_by_the_run_and_lets_its_rule_decide(project):
    labels = [
        {"id": f"i{n}", "question": f"q {n}", "answer": answer("item", n), "label": label}
        for n, label in enumerate(1 + n % 5 for n in range(400))
    ]
    (project / "labels.jsonl").write_text("".join(json.dumps(each) + "\n" for each in labels))
    truth = [(answer("item", n), n % 5 / 4) for n in range(400)]
    truth += [
        (answer(role, n), worth(role, n)) for role in ("candidate", "baseline") for n in range(N)
    ]
    suite = SUITE.replace(", {preferred: {judge: better}}", "")
    (project / "suite.yaml").write_text(suite)
    (project / "gate.yaml").write_text(GATE.replace("ON", "inconclusive"))
    with running_judge(project / "server", truth) as server:
        (project / "judges" / "quality.yaml").write_text(
            JUDGE.replace("http://127.0.0.1:1", server.url)
        )
        validate = ("judge", "validate", "judges/quality.yaml", "--labels", "labels.jsonl")
        code, _, err = command(*validate, "--store", "validating.sqlite", cwd=project)
        assert code == 0, err
        models = ("--candidate", "candidate.jsonl", "--baseline", "baseline.jsonl")
        line = ("run", "suite.yaml", *models, "--out", "reports", "--gate", "gate.yaml")
        code, out, err = command(*line, cwd=project)
        assert "by judge quality (card: kappa 1.000" in out
        told = outcomes(only_run(project / "reports"))
        assert {status for status, *_ in told.values()} == {"pass"}, told
        strict = "    judge: {labels: 500}\n"
        (project / "strict.yaml").write_text(
            "gate: strict\nrules:\n  - id: quality\n    estimate: write/judged.score\n"
            "    require: at_least\n    value: 0.2\n" + strict
        )
        code, out, _ = command("gate", only_run(project / "reports"), "strict.yaml", cwd=project)
    assert code == 4
    assert "fewer than 500" in " ".join(out.split())


def test_a_finished_run_gives_back_the_very_numbers_that_its_judges_gave(project):
    with judge(project) as server:
        command(*run(project, server.url), cwd=project)
    past = open_run(only_run(project / "reports"), project)
    again = {
        (e.model, e.name): (e.value, e.interval, e.counts, e.signature)
        for e in estimate_tables(past.tables(), past.suite.seed, past.suite.confidence)
    }
    held = {
        (e.model, e.name): (e.value, e.interval, e.counts, e.signature)
        for e in past.scorecard.estimates
        if e.metric.startswith(("judged.score", "preferred.")) and e.kind != "gap"
        if not e.metric.endswith(".unscored")
    }
    assert again == held
    assert len(held) == 3 * (2 + 5), "all samples and two slices: judged twice, preferred once"
    code, _, err = command("compare", past.path, "--json", "compared.json", cwd=project)
    assert code == 0, err
    compared = json.loads((project / "compared.json").read_text())
    shown = {(c["task"], c["metric"], c["slice"]): c for c in compared["comparisons"]}
    for comparison in past.scorecard.comparisons:
        key = comparison.task, comparison.metric, comparison.slice
        assert shown[key]["difference"] == comparison.difference
        assert shown[key]["interval"] == comparison.interval.model_dump(mode="json")
    assert {metric.partition(".")[0] for _, metric, _ in shown} == {"judged"}


def test_judgements_changed_after_the_run_are_refused(project):
    with judge(project) as server:
        command(*run(project, server.url), cwd=project)
    folder = only_run(project / "reports")
    file = folder / "judgements.jsonl"
    file.write_text(file.read_text().replace('"value":0.0', '"value":1.0', 1))
    code, _, err = command("compare", folder, cwd=project)
    assert code == 2
    assert "the judgements were changed after the run" in err


def test_runs_whose_judge_was_asked_differently_are_not_compared(project):
    with judge(project) as server:
        command(*run(project, server.url), cwd=project)
        changed = JUDGE.replace("Is the answer helpful?", "Is the answer short?")
        (project / "judges" / "quality.yaml").write_text(changed)
        command(*run(project, server.url, out="other"), cwd=project)
    old, new = only_run(project / "reports"), only_run(project / "other")
    code, _, err = command("compare", old, new, "--json", "compared.json", cwd=project)
    assert code == 0, err
    status = {
        c["metric"]: (c["status"], c["reason"])
        for c in json.loads((project / "compared.json").read_text())["comparisons"]
        if c["slice"] is None
    }
    assert status["judged.score"][0] == "incomparable"
    assert "judge:" in status["judged.score"][1]
    assert status["preferred.win_rate"][0] == "compared"


def test_a_task_that_is_only_compared_in_pairs_gives_the_candidate_alone_numbers(project):
    suite = SUITE.replace("{judged: {judge: quality}}, ", "")
    (project / "suite.yaml").write_text(suite)
    with judge(project) as server:
        code, _, err = command(*run(project, server.url), cwd=project)
    assert code == 4, err
    past = open_run(only_run(project / "reports"), project)
    assert {e.model for e in past.scorecard.estimates} == {"candidate"}
    assert all(tally.complete for tally in past.scorecard.tasks)
    assert past.scorecard.comparisons == ()
    assert [record.judge for record in past.scorecard.judges] == ["better"], "the other is not used"
    code, out, err = command("compare", past.path, cwd=project)
    assert code in (0, 2) and "Traceback" not in err
    gate = "gate: g\nrules:\n  - {id: w, estimate: write/preferred.win_rate, require: at_least, value: 0.1}\n"
    (project / "gate.yaml").write_text(gate)
    code, out, err = command("gate", past.path, "gate.yaml", cwd=project)
    assert code == 4 and "no judge card" in out


def test_a_jury_is_believed_only_where_each_of_its_judges_is(project):
    suite = SUITE.replace(
        "quality: judges/quality.yaml", "quality: judges/quality.yaml\n  strict: judges/strict.yaml"
    )
    suite = suite.replace(
        "{judge: quality}}, {preferred: {judge: better}}", "{judge: [quality, strict]}}"
    )
    (project / "suite.yaml").write_text(suite)
    harsh = JUDGE.replace("quality", "strict").replace("helpful", "flawless")
    (project / "judges" / "strict.yaml").write_text(harsh)
    (project / "gate.yaml").write_text(GATE.replace("ON", "inconclusive"))
    with judge(project) as server:
        given = ("--judge", f"quality={server.url}", "--judge", f"strict={server.url}")
        models = ("--candidate", "candidate.jsonl", "--baseline", "baseline.jsonl")
        line = ("run", "suite.yaml", *models, *given, "--out", "reports", "--gate", "gate.yaml")
        code, _, err = command(*line, cwd=project)
        assert code == 4, err
        folder = only_run(project / "reports")
        scored = open_run(folder, project).scorecard
        assert [record.judge for record in scored.judges] == ["quality", "strict"]
        first = project / "judges" / "quality-card.json"
        first.write_text(json.dumps(card(scored, "quality", (0.8, 0.7, 0.9))))
        code, _, err = command(*line, cwd=project)
        assert code == 4, err
        assert "judge strict is not to be believed" in outcomes(folder)["quality"][2]
        second = project / "judges" / "strict-card.json"
        second.write_text(json.dumps(card(scored, "strict", (0.8, 0.7, 0.9))))
        code, _, err = command(*line, cwd=project)
        assert code == 0, outcomes(folder)
    held = estimates(scorecard(project / "reports"))
    assert held["candidate", "write/judged.agree", None]["value"] == 1
    assert held["candidate", "write/judged.spread", None]["value"] == 0
    past = open_run(folder, project)
    again = {
        (e.model, e.name): e.value
        for e in estimate_tables(past.tables(), past.suite.seed, past.suite.confidence)
    }
    assert len(again) == 2 * 3 * 5
    known = {(e.model, e.name): e.value for e in past.scorecard.estimates}
    assert again.items() <= known.items()


def test_win_rates_against_different_baselines_are_not_compared(project):
    recorded(project / "third.jsonl", "baseline", empty=5)
    with judge(project) as server:
        command(*run(project, server.url), cwd=project)
        other = [part.replace("baseline.jsonl", "third.jsonl") for part in run(project, server.url)]
        command(*other[:-1], "other", cwd=project)
    runs = only_run(project / "reports"), only_run(project / "other")
    code, _, err = command("compare", *runs, "--json", "compared.json", cwd=project)
    assert code == 0, err
    held = json.loads((project / "compared.json").read_text())["comparisons"]
    status = {c["metric"]: (c["status"], c["reason"]) for c in held if c["slice"] is None}
    assert status["judged.score"][0] == "compared"
    assert status["preferred.win_rate"][0] == "incomparable"
    assert "against:" in status["preferred.win_rate"][1]


def test_an_earlier_run_as_baseline_is_judged_again_from_its_answers(project):
    with judge(project) as server:
        models = ("--candidate", "baseline.jsonl", "--baseline", "candidate.jsonl")
        given = ("--judge", f"quality={server.url}", "--judge", f"better={server.url}")
        first = ("run", "suite.yaml", *models, *given, "--out", "first")
        assert command(*first, cwd=project)[0] == 4
        earlier = ("--candidate", "candidate.jsonl", "--baseline", only_run(project / "first"))
        store = ("--store", "store.sqlite")
        line = ("run", "suite.yaml", *earlier, *given, "--out", "second", *store)
        code, _, err = command(*line, cwd=project)
        assert code == 4, err
        assert command(*run(project, server.url), cwd=project)[0] == 4
    lent, whole = scorecard(project / "second"), scorecard(project / "reports")
    assert estimates(lent) == estimates(whole)
    assert lent["comparisons"] == whole["comparisons"]
    assert lent["tasks"] == whole["tasks"]
    past = open_run(only_run(project / "second"), project)
    held = {(e.model, e.name): e for e in past.scorecard.estimates}
    again = list(estimate_tables(past.tables(), past.suite.seed, past.suite.confidence))
    assert len(again) == 3 * (2 + 5)
    for estimate in again:
        assert estimate.value == held[estimate.model, estimate.name].value
        assert estimate.signature == held[estimate.model, estimate.name].signature


def test_failures_empty_answers_and_mute_judges_are_counted_and_never_scored_as_zero(project):
    recorded(project / "candidate.jsonl", "candidate", empty=1, absent=2)
    suite = SUITE.replace("slices: [part]", "slices: [part]\n    min_coverage: 0.5")
    (project / "suite.yaml").write_text(suite)
    with judge(project, faults={"mute": 0.2}) as server:
        code, out, err = command(*run(project, server.url), cwd=project)
    assert code == 4, err
    folder = only_run(project / "reports")
    past = open_run(folder, project)
    rows = [json.loads(line) for line in (folder / "judgements.jsonl").read_text().splitlines()]
    assert len(rows) == 3 * N
    said = {(r["judge"], r["model"], r["id"]): r for r in rows}
    assert said["quality", "candidate", "s1"]["value"] == 0
    assert said["quality", "candidate", "s1"]["settled"] == "empty answer"
    assert said["better", "candidate", "s1"]["value"] == 0
    assert said["quality", "candidate", "s2"]["reason"] == "the model gave no answer"
    mute = sum(r.get("reason") == "no verdict" for r in rows if r["model"] == "candidate")
    for estimate in past.scorecard.estimates:
        if estimate.model == "candidate" and estimate.slice is None and estimate.kind != "gap":
            judge_of = "quality" if estimate.metric.startswith("judged") else "better"
            ours = [r for r in rows if (r["judge"], r["model"]) == (judge_of, "candidate")]
            lost = sum(r.get("reason") == "no verdict" for r in ours)
            assert lost > 0
            counts = estimate.counts
            assert (counts.planned, counts.failed, counts.unscored) == (N, 1, lost)
    tally = next(t for t in past.scorecard.tasks if t.model == "candidate")
    assert sum(tally.failures.values()) == 1
    assert sum(sum(why.values()) for why in tally.unscored.values()) == mute
    quality = past.scorecard.judges[0]
    assert quality.settled == {"empty answer": 1}
    assert quality.requests == 2 * N - 2
    assert sum(quality.unjudged.values()) == len(
        [r for r in rows if r["judge"] == "quality" and r["value"] is None]
    )
    assert "1 settled without it (empty answer)" in out
    again = {
        e.name: (e.value, e.counts)
        for e in estimate_tables(past.tables(), past.suite.seed, past.suite.confidence)
        if e.model == "candidate"
    }
    for estimate in past.scorecard.estimates:
        if estimate.model == "candidate" and estimate.name in again:
            assert again[estimate.name] == (estimate.value, estimate.counts)


def test_a_run_short_of_verdicts_is_incomplete(project):
    with judge(project, faults={"mute": 0.3}) as server:
        code, out, err = command(*run(project, server.url), cwd=project)
    assert code == 3, err
    assert "the run is incomplete" in out
    tally = json.loads((only_run(project / "reports") / "scorecard.json").read_text())["tasks"][0]
    assert not tally["complete"]


def test_with_a_limit_only_so_many_answers_are_judged(project):
    with judge(project) as server:
        code, _, err = command(*run(project, server.url, "--limit", "7"), cwd=project)
        assert code == 4, err
        assert len(server.asked()) == 4 * 7


def test_a_judge_that_is_the_candidate_is_flagged_beside_its_numbers(project):
    with judge(project) as server:
        given = ("--judge", f"quality={server.url}", "--judge", f"better={server.url}")
        models = ("--candidate", server.url, "--model-arg", "candidate.revision=1")
        line = ("run", "suite.yaml", *models, "--baseline", "baseline.jsonl", *given)
        suite = SUITE.replace('prompt: "Tell me', 'messages: [{role: user, content: "Tell me')
        suite = suite.replace('topic }}."', 'topic }}."}]')
        assert suite != SUITE
        (project / "suite.yaml").write_text(suite)
        code, out, err = command(*line, "--limit", "3", "--out", "reports", cwd=project)
    assert code in (3, 4), err
    assert "the judge is the candidate itself" in out
    held = estimates(scorecard(project / "reports"))
    warnings = held["candidate", "write/judged.score", None]["warnings"]
    assert "judge quality: the judge is the candidate itself" in warnings


def test_a_judge_without_a_stated_revision_serves_one_run_alone(project):
    bare = JUDGE.replace('revision: "1", ', "")
    (project / "judges" / "quality.yaml").write_text(bare)
    with judge(project) as server:
        command(*run(project, server.url), cwd=project)
        command(*run(project, server.url), cwd=project)
        asked = len(server.asked())
    assert asked == 4 * N + 2 * N, "the pinned judge once, the other for each run"
    runs = sorted(path for path in (project / "reports").iterdir() if path.is_dir())
    assert len(runs) == 2, "the finished run is kept"
    signatures = {
        estimates(json.loads((path / "scorecard.json").read_text()))[
            "candidate", "write/judged.score", None
        ]["signature"]
        for path in runs
    }
    assert len(signatures) == 2


def test_a_card_that_calls_an_endpoint_pinned_does_not_make_it_so(project):
    bare = JUDGE.replace('revision: "1", ', "")
    (project / "judges" / "quality.yaml").write_text(bare)
    gate = project / "gate.yaml"
    gate.write_text(GATE.replace("ON", "pass"))
    with judge(project) as server:
        command(*run(project, server.url), cwd=project)
        scored = open_run(only_run(project / "reports"), project).scorecard
        forged = card(scored, "quality", (0.8, 0.7, 0.9))
        (project / "judges" / "quality-card.json").write_text(json.dumps(forged))
        line = run(project, server.url, "--gate", gate, out="again")
        code, out, err = command(*line, cwd=project)
    assert code == 4, out + err
    assert "whose bytes nobody sees" in outcomes(only_run(project / "again"))["quality"][2]


def test_calibrating_leaves_judges_out_and_says_so(project):
    """Nothing but what judges say is left to calibrate here; beside another metric they are named as left out."""
    (project / "gate.yaml").write_text(GATE.replace("ON", "fail"))
    line = ("calibrate", "suite.yaml", "--gate", "gate.yaml", "-k", "2", "--model")
    with running_stub(project / "model") as stub:
        given = (*line, stub.url, "--model-arg", "revision=1")
        code, out, err = command(*given, cwd=project)
        assert code == 2
        assert "nothing to calibrate: judges alone give write/judged, write/preferred" in err
        other = "metrics: [{json_schema: {schema: true}}, {judged: {judge: quality}},"
        (project / "suite.yaml").write_text(
            SUITE.replace("metrics: [{judged: {judge: quality}},", other)
        )
        code, out, err = command(*given, cwd=project)
    assert code == 0, out + err
    assert "left out: write/judged, write/preferred, and the rules on it" in out + err
    (file,) = (project / "reports" / "calibrations").glob("*.json")
    held = json.loads(file.read_text())
    assert {e["metric"].partition(".")[0] for e in held["estimates"]} == {"json_schema"}
    assert held["rules"] == [] and held["gates"] == {}


def test_another_model_as_the_judge_makes_another_run(project):
    with judge(project) as server, running_stub(project / "other", models=("other",)) as other:
        command(*run(project, server.url), cwd=project)
        code, out, err = command(*run(project, other.url), cwd=project)
    assert code == 3, err
    assert "60 no verdict" in out, "words at random are no verdict"
    assert len([path for path in (project / "reports").iterdir() if path.is_dir()]) == 2


def test_a_task_that_is_judged_runs_in_full_and_says_why(project):
    (project / "suite.yaml").write_text(SUITE.replace("slices:", "stop: early\n    slices:"))
    (project / "gate.yaml").write_text(GATE.replace("ON", "fail"))
    with judge(project) as server:
        line = run(project, server.url, "--gate", "gate.yaml")
        _, out, err = command(*line, cwd=project)
        assert len(server.asked()) == 4 * N, err
    assert "write could not stop early: its answers are judged once all of them are there" in out


def test_pairs_without_a_baseline_and_unknown_judges_are_refused_before_anything_is_asked(project):
    with judge(project) as server:
        given = ("--judge", f"quality={server.url}", "--judge", f"better={server.url}")
        line = ("run", "suite.yaml", "--candidate", "candidate.jsonl", "--out", "reports")
        code, _, err = command(*line, *given, cwd=project)
        assert code == 2
        assert "no baseline" in err and "write/preferred" in err
        code, _, err = command(*line, "--judge", f"qualty={server.url}", cwd=project)
        assert code == 2
        assert "did you mean 'quality'?" in err
        code, _, err = command(*line, "--judge", "quality=candidate.jsonl", cwd=project)
        assert code == 2
        assert "recorded answers" in err
        assert server.asked() == []


def test_a_real_model_judges_by_the_probabilities_of_its_scale(project):
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = make_llama(project / "judges" / "model", max_position_embeddings=1024)
    spec = """
judge: quality
model: model
backend: transformers
criteria: Is it helpful?
chat: false
read: probabilities
scale: [1, 3]
"""
    (project / "judges" / "quality.yaml").write_text(spec)
    suite = SUITE.replace(", {preferred: {judge: better}}", "")
    (project / "suite.yaml").write_text(suite)
    models = ("--candidate", "candidate.jsonl", "--baseline", "baseline.jsonl")
    line = ("run", "suite.yaml", *models, "--out", "reports", "--limit", "8")
    done = evalkit(*line, cwd=project)
    assert done.code == 4, done.err
    folder_of_run = only_run(project / "reports")
    rows = [
        json.loads(line) for line in (folder_of_run / "judgements.jsonl").read_text().splitlines()
    ]
    assert len(rows) == 16
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )
    for row in rows:
        n = int(row["id"][1:])
        prompt = (
            f"Question: Tell me about topic {n}.\nAnswer: {answer(row['model'], n)}\n"
            "What counts: Is it helpful?\nScore from 1 (worst) to 3 (best):"
        )
        logs = []
        for value in (1, 2, 3):
            given = tokenizer(prompt)["input_ids"]
            whole = tokenizer(f"{prompt} {value}")["input_ids"]
            assert whole[: len(given)] == given
            with torch.no_grad():
                logits = model(torch.tensor([whole])).logits[0].double().log_softmax(-1)
            places = range(len(given) - 1, len(whole) - 1)
            logs.append(sum(float(logits[k, whole[k + 1]]) for k in places))
        shares = torch.tensor(logs, dtype=torch.float64).softmax(0)
        expected = float((shares * torch.tensor([0.0, 0.5, 1.0])).sum())
        assert row["value"] == pytest.approx(expected, abs=2e-4)
    values = [row["value"] for row in rows if row["model"] == "candidate"]
    assert max(values) - min(values) > 0.01
    held = estimates(scorecard(project / "reports"))
    assert held["candidate", "write/judged.score", None]["value"] == pytest.approx(
        sum(values) / len(values)
    )
    again = evalkit(*line, cwd=project)
    assert "0 requests asked" in again.out
