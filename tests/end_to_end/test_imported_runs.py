"""A real lm_eval folder and real inspect logs, imported, gated, compared and promoted by the command line."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from commands import command
from foreign_logs import DOCUMENTS, QUICKSTART, inspect_logs, lm_eval_output, log_of, of_model
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

GATES = """\
gate: imported
rules:
  - {id: floor, estimate: orders/exact_match.stripped, require: at_least, value: 0.85}
  - {id: keeps, estimate: orders/exact_match.stripped, require: no_worse_than, margin: 0.05}
  - {id: bits, estimate: notes/bits_per_byte, require: at_most, value: 0.4}
"""


@pytest.fixture(scope="session")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lm_eval_output(tmp_path_factory)


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return inspect_logs(tmp_path_factory)


@pytest.fixture(scope="session")
def imported(output: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both models of lm_eval's output as runs, the candidate held against the baseline, in one folder of runs."""
    folder = tmp_path_factory.mktemp("imported")
    (folder / "gates.yaml").write_text(GATES)
    code, out, err = command(
        "import", of_model(output, "candidate"), "--baseline", of_model(output, "baseline"),
        "--slice", "region", "--without", "of_some", "--without", "with_gaps", cwd=folder,
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "left out: orders/bleu,strict: its aggregate (bleu) is no mean of documents" in out
    return folder


def run_of(folder: Path, model: str) -> Path:
    """The run whose candidate is this checkpoint."""
    for file in sorted((folder / "reports").glob("*/scorecard.json")):
        run = file.parent
        if card(run)["circumstances"]["names"]["candidate"].endswith(model):
            return run
    raise AssertionError(model)


def card(run: Path) -> dict[str, Any]:
    return json.loads((run / "scorecard.json").read_text())


def estimate(run: Path, task: str, metric: str, model: str = "candidate") -> dict[str, Any]:
    (found,) = [
        e
        for e in card(run)["estimates"]
        if (e["model"], e["task"], e["metric"], e["slice"]) == (model, task, metric, None)
    ]
    return found


def printed(output: Path, model: str) -> dict[str, Any]:
    file = next(of_model(output, model).glob("results_*.json"))
    return json.loads(file.read_text())["results"]


@pytest.mark.parametrize("model", ["candidate", "baseline"])
@pytest.mark.parametrize(
    ("task", "metric", "key"),
    [
        ("quiz", "acc", "acc,none"),
        ("orders", "exact_match.stripped", "exact_match,stripped"),
        ("tickets", "characters", "characters,none"),
        ("notes", "word_perplexity", "word_perplexity,none"),
        ("notes", "byte_perplexity", "byte_perplexity,none"),
        ("notes", "bits_per_byte", "bits_per_byte,none"),
    ],
)
def test_an_estimate_is_what_lm_eval_printed(
    imported: Path, output: Path, model: str, task: str, metric: str, key: str
) -> None:
    found = estimate(run_of(imported, model), task, metric)
    assert found["value"] == pytest.approx(printed(output, model)[task][key], rel=1e-9)
    assert found["counts"] == {
        "planned": DOCUMENTS, "completed": DOCUMENTS, "failed": 0, "scored": DOCUMENTS, "unscored": 0,
    }  # fmt: skip


def test_a_rates_interval_is_wilsons(imported: Path, output: Path) -> None:
    """Source: statsmodels' proportion_confint."""
    found = estimate(run_of(imported, "baseline"), "quiz", "acc")
    right = round(printed(output, "baseline")["quiz"]["acc,none"] * DOCUMENTS)
    low, high = proportion_confint(right, DOCUMENTS, method="wilson")
    assert (found["interval"]["low"], found["interval"]["high"]) == pytest.approx((low, high))


def test_a_means_interval_is_students_with_lm_evals_own_standard_error(
    imported: Path, output: Path
) -> None:
    found = estimate(run_of(imported, "candidate"), "tickets", "characters")["interval"]
    error = printed(output, "candidate")["tickets"]["characters_stderr,none"]
    expected = 2 * stats.t.ppf(0.975, DOCUMENTS - 1) * error
    assert found["high"] - found["low"] == pytest.approx(expected)


def test_an_imported_run_is_gated(imported: Path) -> None:
    code, out, err = command("gate", run_of(imported, "candidate"), "gates.yaml", cwd=imported)
    assert (code, err) == (0, "")
    assert "every blocking outcome passed (3)" in out
    code, out, _ = command("gate", run_of(imported, "baseline"), "gates.yaml", cwd=imported)
    assert code == 4  # it has no baseline of its own, and its rate straddles the floor
    assert "missing" in out


def test_two_imported_runs_are_compared_sample_by_sample_with_both_answers(
    imported: Path, output: Path
) -> None:
    old, new = run_of(imported, "baseline"), run_of(imported, "candidate")
    told = imported / "compared.json"
    code, _, err = command(
        "compare",
        old,
        new,
        "--metric",
        "orders/exact_match.stripped",
        "--flips",
        "99",
        "--json",
        told,
        cwd=imported,
    )
    assert (code, err) == (0, "")
    (ledger,) = json.loads(told.read_text())["ledgers"]
    theirs, ours = (
        {
            row["doc_id"]: row
            for row in map(
                json.loads,
                next(of_model(output, m).glob("samples_orders_*")).read_text().splitlines(),
            )
            if row["filter"] == "stripped"
        }
        for m in ("baseline", "candidate")
    )
    better = [n for n, row in ours.items() if row["exact_match"] > theirs[n]["exact_match"]]
    assert better
    assert sorted(int(flip["sample"]) for flip in ledger["whole"]["better"]) == sorted(better)
    flip = ledger["whole"]["better"][0]
    assert flip["candidate_answers"] == [ours[int(flip["sample"])]["resps"][0][0]]
    assert flip["baseline_answers"] == [theirs[int(flip["sample"])]["resps"][0][0]]
    assert {held["slice"].partition("=")[0] for held in ledger["slices"]} == {"region"}


def test_the_comparison_in_the_scorecard_is_that_of_the_two_runs(imported: Path) -> None:
    old, new = run_of(imported, "baseline"), run_of(imported, "candidate")
    told = imported / "both.json"
    command("compare", old, new, "--json", told, cwd=imported)
    assert json.loads(told.read_text())["comparisons"] == card(new)["comparisons"]
    assert {held["status"] for held in card(new)["comparisons"]} == {"compared"}


def test_the_run_says_that_another_harness_measured_it(imported: Path) -> None:
    held = card(run_of(imported, "candidate"))
    assert held["provenance"]["versions"]["lm-eval"]
    assert held["circumstances"]["host"] == {
        "measured by": f"lm-eval {held['provenance']['versions']['lm-eval']}"
    }
    assert not held["provenance"]["models"]["candidate"]["pinned"]
    assert "harness:lm-eval" in estimate(run_of(imported, "candidate"), "quiz", "acc")["signature"]
    left_out = [f["message"] for f in held["findings"] if f["check"] == "imported.left_out"]
    assert [told.partition(":")[0] for told in left_out][:2] == [
        "orders/bleu,strict",
        "orders/bleu,stripped",
    ]


def test_importing_again_gives_the_same_scorecard(
    imported: Path, output: Path, tmp_path: Path
) -> None:
    command(
        "import", of_model(output, "baseline"), "--slice", "region", "--without", "of_some",
        "--without", "with_gaps", cwd=tmp_path,
    )  # fmt: skip
    again, before = run_of(tmp_path, "baseline"), run_of(imported, "baseline")
    assert again.name == before.name
    assert card(again)["digest"] == card(before)["digest"]
    assert (again / "samples.jsonl").read_bytes() == (before / "samples.jsonl").read_bytes()


def test_an_imported_run_is_promoted_and_is_a_baseline_by_its_alias(
    imported: Path, output: Path
) -> None:
    base = run_of(imported, "baseline")
    code, _, err = command("promote", base, "--as", "production", "--anyway", cwd=imported)
    assert (code, err) == (0, "")
    code, out, err = command(
        "import", of_model(output, "candidate"), "--baseline", "production", "--slice", "region",
        "--without", "of_some", "--without", "with_gaps", "--gate", "gates.yaml", cwd=imported,
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "every blocking outcome passed (3)" in out
    assert (
        json.loads((run_of(imported, "candidate") / "verdict.json").read_text())["status"] == "pass"
    )


def test_other_documents_are_not_compared(imported: Path, output: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(of_model(output, "candidate"), tmp_path / "changed")
    file = next(copy.glob("samples_quiz_*.jsonl"))
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[0]["doc"]["question"] += " Please."
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, _, err = command("import", copy, "--baseline", of_model(output, "baseline"), cwd=tmp_path)
    assert (code, err) == (0, "")
    held = {c["task"]: c for c in card(run_of(tmp_path, "candidate"))["comparisons"]}
    assert held["quiz"]["status"] == "incomparable"
    assert held["quiz"]["reason"].startswith("the data sets differ")
    assert held["orders"]["status"] == "compared"


def test_a_rate_of_one_model_is_a_mean_where_the_other_has_other_numbers(
    output: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(of_model(output, "baseline"), tmp_path / "half")
    file = next(copy.glob("samples_quiz_*.jsonl"))
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[0]["acc"] = 0.5
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    results = next(copy.glob("results_*.json"))
    content = json.loads(results.read_text())
    content["results"]["quiz"]["acc,none"] = math.fsum(row["acc"] for row in rows) / DOCUMENTS
    results.write_text(json.dumps(content))
    code, _, err = command(
        "import", of_model(output, "candidate"), "--baseline", copy, cwd=tmp_path
    )
    assert (code, err) == (0, "")
    (run,) = [r for r in (tmp_path / "reports").iterdir() if card(r)["comparisons"]]
    assert estimate(run, "quiz", "acc")["kind"] == "mean"
    assert {c["status"] for c in card(run)["comparisons"]} == {"compared"}


def test_aggregates_alone_are_refused_with_what_to_pass(output: Path, tmp_path: Path) -> None:
    shutil.copy(next(of_model(output, "candidate").glob("results_*.json")), tmp_path)
    code, _, err = command("import", tmp_path, cwd=tmp_path)
    assert code == 2
    assert "aggregates alone have no intervals" in err
    assert "--log_samples" in err
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize("model", ["candidate", "baseline"])
def test_inspects_accuracy_is_the_estimate_with_wilsons_interval(
    logs: Path, model: str, tmp_path: Path
) -> None:
    """Source: inspect's own accuracy; statsmodels' proportion_confint."""
    from inspect_ai.log import read_eval_log

    results = read_eval_log(str(log_of(logs, model)), header_only=True).results
    assert results is not None
    accuracy = results.scores[0].metrics["accuracy"].value
    code, _, err = command("import", log_of(logs, model), "--slice", "region", cwd=tmp_path)
    assert (code, err) == (0, "")
    (run,) = (tmp_path / "reports").iterdir()
    found = estimate(run, "orders", "same")
    assert found["value"] == pytest.approx(accuracy, rel=1e-12)
    low, high = proportion_confint(round(accuracy * 16), 16, method="wilson")
    assert (found["interval"]["low"], found["interval"]["high"]) == pytest.approx((low, high))


def test_inspects_logs_are_gated_and_compared(logs: Path, tmp_path: Path) -> None:
    gate = "gate: g\nrules:\n  - {id: keeps, estimate: orders/same, require: no_worse_than, margin: 0.2}\n"
    (tmp_path / "g.yaml").write_text(gate)
    code, out, err = command(
        "import",
        log_of(logs, "candidate"),
        "--baseline",
        logs / "baseline",
        "--gate",
        "g.yaml",
        cwd=tmp_path,
    )
    assert (code, err) == (0, "")
    assert "every blocking outcome passed (1)" in out
    old, new = run_of(tmp_path, "baseline"), run_of(tmp_path, "candidate")
    code, out, _ = command("compare", old, new, "--metric", "orders/same", cwd=tmp_path)
    assert code == 0
    assert "got better (wrong → right)" in out


def test_a_mean_under_epochs_has_an_interval_over_documents(logs: Path, tmp_path: Path) -> None:
    command("import", log_of(logs, "epochs"), cwd=tmp_path)
    (run,) = (tmp_path / "reports").iterdir()
    found = estimate(run, "epochs", "parts.characters")
    assert found["counts"]["planned"] == 18
    assert found["interval"]["method"] == "cr1-t"


def test_samples_that_failed_leave_the_run_incomplete(logs: Path, tmp_path: Path) -> None:
    gate = "gate: g\nrules:\n  - {id: any, estimate: broken/same, require: at_least, value: 0}\n"
    (tmp_path / "g.yaml").write_text(gate)
    code, out, _ = command("import", log_of(logs, "broken"), "--gate", "g.yaml", cwd=tmp_path)
    assert code == 3
    assert "broken of the candidate: 1 of 16 samples failed (1 no_answer)" in out
    (run,) = (tmp_path / "reports").iterdir()
    assert estimate(run, "broken", "same")["counts"] == {
        "planned": 16, "completed": 15, "failed": 1, "scored": 15, "unscored": 0,
    }  # fmt: skip


def test_a_halted_log_is_refused_and_leaves_nothing(logs: Path, tmp_path: Path) -> None:
    code, _, err = command("import", log_of(logs, "halted"), cwd=tmp_path)
    assert code == 2
    assert "its status is 'error'" in err
    assert not (tmp_path / "reports").exists()


def test_hostile_text_stays_text(output: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(of_model(output, "candidate"), tmp_path / "hostile")
    file = next(copy.glob("samples_orders_*.jsonl"))
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    hostile = "</script><img src=x onerror=alert(1)>\x1b[31m\x00\u202e\ud800"
    for row in rows:
        row["resps"], row["doc"]["region"] = [[hostile]], "a=b@c\x1b[2J"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, err = command("import", copy, "--slice", "region", cwd=tmp_path)
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    (run,) = (tmp_path / "reports").iterdir()
    row = next(
        r
        for r in map(json.loads, (run / "samples.jsonl").read_text().splitlines())
        if r["task"] == "orders"
    )
    assert row["answers"][0]["text"] == hostile
    code, out, _ = command(
        "compare", run, run, "--metric", "orders/exact_match.stripped", cwd=tmp_path
    )
    assert code == 0
    assert "\x1b" not in out


def test_a_run_whose_checkpoint_the_user_names_is_signed_and_verified(
    output: Path, tmp_path: Path
) -> None:
    (tmp_path / "g.yaml").write_text(GATES)
    model = shutil.copytree(QUICKSTART / "models" / "candidate", tmp_path / "model")
    imported = (
        "import", of_model(output, "candidate"), "--baseline", of_model(output, "baseline"), "--without", "of_some",
        "--without", "with_gaps", "--gate", "g.yaml",
    )  # fmt: skip
    sign = ("--key", "key.pem", "--approver", "somebody")
    command("keygen", "key.pem", cwd=tmp_path)
    assert command(*imported, cwd=tmp_path)[0] == 0
    code, _, err = command("sign", run_of(tmp_path, "candidate"), *sign, cwd=tmp_path)
    assert code != 0  # the harness does not tell what files it read
    shutil.rmtree(tmp_path / "reports")
    assert command(*imported, "--model", "model", cwd=tmp_path)[0] == 0
    run = run_of(tmp_path, "model")
    assert card(run)["provenance"]["models"]["candidate"]["pinned"]
    assert command("sign", run, *sign, cwd=tmp_path)[0] == 0
    verify = ("verify", run, "--model", "model", "--key", "key.pem.pub")
    code, out, err = command(*verify, cwd=tmp_path)
    assert (code, err) == (0, "")
    assert "known only as the user said when it was imported" in out
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert command(*verify, cwd=tmp_path)[0] != 0
