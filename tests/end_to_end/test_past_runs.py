"""A finished run is evidence: its folder gives every number again, and an alias makes it the baseline of the next."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
from commands import command, evalkit

from evalkit.cli.past_runs import open_baseline, open_run
from evalkit.compare import compare_tables
from evalkit.errors import UsageError
from evalkit.estimating import estimate_tables
from evalkit.fairness import compare_gaps, estimate_gaps
from evalkit.identity import canonical_json

LIMIT = 60
SHARE_RIGHT = {"released": 0.9, "better": 0.95, "worse": 0.3}
LEVEL = """
gate: level
rules:
  - {id: json, estimate: extract/json_fields.f1, require: at_least, value: 0.5}
  - {id: decisions, estimate: decide/exact_match, require: at_least, value: 0.6}
"""
BOTH = (
    LEVEL.replace("level", "both")
    + """
  - {id: no-worse, estimate: decide/exact_match, require: no_worse_than, margin: 0.2}
  - {id: no-worse-anywhere, estimate: extract/*, require: no_worse_than, margin: 0.2, severity: warn}
"""
)


def rows_of(file):
    return [json.loads(line) for line in file.read_text().splitlines()][:LIMIT]


def answer(row, right, draw):
    """What a model that is right, or not, says to a sample of the quickstart suite; None: it says nothing."""
    if draw.random() < 0.02:
        return None
    if "choices" in row:
        best = row["answer"] if right else (row["answer"] + 1) % len(row["choices"])
        return [
            {"choice": text, "logprobs": [-0.1 if n == best else -2.0 - draw.random()]}
            for n, text in enumerate(row["choices"])
        ]
    if "summary" in row:
        words = row["summary"].split()
        return [
            {"text": " ".join(words[: len(words) - (not right) - n]), "replicate": n}
            for n in range(2)
        ]
    if "target" in row:
        wrong = {"yes": "no", "no": "yes"}.get(row["target"], '{"item": "soap", "qty": 1}')
        return [{"text": row["target"] if right else wrong}]
    return [{"logprobs": [-draw.random() * (1 if right else 3) for _ in row["text"].split()]}]


def write_answers(folder: Path, data: Path, share_right: float) -> None:
    """Recorded answers to every task; each model errs, and keeps silent, on samples of its own."""
    folder.mkdir()
    files = {
        "extract": "orders",
        "summarise": "tickets",
        "decide": "applicants",
        "categorise": "units",
        "fluency": "notes",
    }
    draw = random.Random(folder.name)
    for task, name in files.items():
        with (folder / f"{task}.jsonl").open("w") as out:
            for row in rows_of(data / f"{name}.jsonl"):
                for said in answer(row, draw.random() < share_right, draw) or ():
                    out.write(json.dumps({"sample_id": row["id"], **said}) + "\n")


@pytest.fixture(scope="module")
def place(tmp_path_factory, root):
    """The quickstart suite on recorded answers, with failures, clusters, slices and replicates."""
    folder = tmp_path_factory.mktemp("evals")
    shown = root / "suites" / "quickstart"
    text = (shown / "suite.yaml").read_text()
    text = text.replace("models: {candidate: models/candidate, baseline: models/baseline}\n", "")
    text = text.replace("gates: [../../gates/quickstart.yaml]\n", "")
    text = text.replace("schemas/order.json", str(shown / "schemas" / "order.json"))
    text = text.replace(
        "max_tokens: 48, temperature: 0", "max_tokens: 48, temperature: 0.7, replicates: 2"
    )
    for name in ("orders", "tickets", "applicants", "units", "notes"):
        path = shown / "data" / f"{name}.jsonl"
        text = text.replace(f"path: data/{name}.jsonl", f"path: {path}, limit: {LIMIT}")
    text = text.replace("    target:", "    min_coverage: 0.8\n    target:")
    text = text.replace('    text: "{{', '    min_coverage: 0.8\n    text: "{{')
    text = text.replace("{by: [group]}", "{by: [group], min_size: 5}")
    (folder / "suite.yaml").write_text(text)
    early = text.replace("  - name: decide\n", "  - name: decide\n    stop: early\n")
    (folder / "early.yaml").write_text(early)
    (folder / "level.yaml").write_text(LEVEL)
    (folder / "both.yaml").write_text(BOTH)
    for name, share in SHARE_RIGHT.items():
        write_answers(folder / name, shown / "data", share)
    return folder


def run(place, *arguments, out="reports", suite="suite.yaml"):
    """Run; return the exit code and the run's folder."""
    extra = ("--backend", "replay", "--out", out, "--quiet")
    done = evalkit("run", suite, *arguments, *extra, cwd=place)
    assert done.code in (0, 1, 4), done.err + done.out
    return done.code, place / Path(done.out.split("scorecard: ")[1].strip()).parent


@pytest.fixture(scope="module")
def released(place):
    code, folder = run(place, "--candidate", "released", "--gate", "level.yaml")
    assert code == 0
    return folder


@pytest.fixture(scope="module")
def promoted(place, released):
    done = evalkit("promote", released, "--as", "production", "--note", "release 1", cwd=place)
    assert done.code == 0, done.err
    return released


@pytest.fixture(scope="module")
def together(place):
    """Candidate and baseline measured in one run."""
    models = ("--candidate", "better", "--baseline", "released")
    return run(place, *models, "--gate", "both.yaml", out="together")[1]


@pytest.fixture(scope="module")
def against_alias(place, promoted):
    models = ("--candidate", "better", "--baseline", "production")
    return run(place, *models, "--gate", "both.yaml")[1]


@pytest.fixture(scope="module")
def early(place, promoted):
    models = ("--candidate", "better", "--baseline", "production")
    return run(place, *models, "--gate", "level.yaml", suite="early.yaml")[1]


def card(folder):
    return json.loads((folder / "scorecard.json").read_text())


def assert_computed_again(folder):
    """From the folder's own files come the scorecard's numbers, byte for byte."""
    past = open_run(folder, folder.parent)
    written, suite, tables = card(folder), past.suite, past.tables()
    how = tables, suite.seed, suite.confidence
    gaps = estimate_gaps(*how)
    tasks = [task.name for task in suite.tasks]
    for key, found in (
        ("estimates", [*estimate_tables(*how), *gaps.estimates]),
        ("comparisons", [*compare_tables(*how), *compare_gaps(*how)]),
        ("disparities", gaps.disparities),
    ):
        order = sorted(
            found, key=lambda e: (getattr(e, "model", "") == "baseline", tasks.index(e.task))
        )
        again = [each.model_dump(mode="json") for each in order]
        assert canonical_json(again) == canonical_json(written[key])


def test_every_number_of_a_run_is_computed_again_from_its_folder(together):
    """The run has samples without answers, clusters, slices and replicates."""
    written = card(together)
    assert any(tally["failures"] for tally in written["tasks"])
    assert {c["status"] for c in written["comparisons"]} == {"compared"}
    assert_computed_again(together)


def test_every_number_against_an_earlier_run_is_computed_again_without_it(against_alias, tmp_path):
    moved = tmp_path / "elsewhere" / "run"
    shutil.copytree(against_alias, moved)
    assert_computed_again(moved)


def test_every_number_of_a_task_that_stopped_early_is_computed_again(early):
    (stopped,) = [t["early"] for t in card(early)["tasks"] if t["early"]]
    assert stopped["drawn"] < stopped["available"] == LIMIT
    assert_computed_again(early)
    assert {t.task for t in open_run(early, early.parent).tables()["candidate"] if t.anytime} == {
        "decide"
    }


def test_against_an_earlier_run_the_numbers_are_those_of_one_run_with_both(together, against_alias):
    one, two = card(together), card(against_alias)
    for key in ("estimates", "comparisons", "tasks", "samples"):
        assert one[key] == two[key], key
    assert one["provenance"] == two["provenance"]


def test_the_scorecard_says_which_run_the_baseline_comes_from(promoted, against_alias):
    written = card(against_alias)
    assert written["baseline_run"] == card(promoted)["digest"]
    models = written["provenance"]["models"]
    assert models["baseline"] == card(promoted)["provenance"]["models"]["candidate"]
    assert written["circumstances"]["names"]["baseline"] == "production"


def test_a_rule_that_can_never_pass_is_refused_before_anything_is_asked(place, released):
    """One sample in sixty cannot show 99.9 %; told to go on, the run says that it is undecided."""
    rule = "{id: perfect, estimate: decide/exact_match, require: at_least, value: 0.999}"
    (place / "perfect.yaml").write_text(f"gate: perfect\nrules:\n  - {rule}\n")
    arguments = ("--candidate", "released", "--gate", "perfect.yaml")
    refused = ("run", "suite.yaml", *arguments, "--backend", "replay", "--out", "refused")
    code, _, told = command(*refused, cwd=place)
    assert code == 2
    assert "perfect" in told and "can never pass" in told and "--allow-undecidable" in told
    assert not [path for path in (place / "refused").iterdir() if path.is_dir()]
    code, folder = run(place, *arguments, "--allow-undecidable", out="allowed")
    assert code in (1, 4) and (folder / "verdict.json").exists()


def test_where_gates_decide_when_to_stop_each_has_a_run_of_its_own(place, early):
    """Else a run with another gate would take the place of one that was promoted."""
    models = ("--candidate", "better", "--baseline", "production")
    (place / "lower.yaml").write_text(LEVEL.replace("0.6", "0.55"))
    _, other = run(place, *models, "--gate", "lower.yaml", suite="early.yaml")
    assert other != early


def test_an_earlier_run_as_baseline_asks_nothing(promoted, against_alias):
    facts, first = card(against_alias)["circumstances"], card(promoted)["circumstances"]
    assert facts["asked"] + facts["reused"] == first["asked"] + first["reused"]


def test_a_run_is_a_baseline_by_its_folder_its_file_its_name_and_its_alias(place, promoted):
    out = place / "reports"
    names = (promoted, promoted / "scorecard.json", promoted.name, "production", "alias:production")
    for name in map(str, names):
        assert open_baseline(name, out, place).path == promoted


def test_a_model_stays_a_model(place, promoted):
    """A folder that is no run, a server, recorded answers, a hub id, whatever runs there are."""
    for name in ("released", "./better", "http://127.0.0.1:1", "production.jsonl", "gpt2", "a/b"):
        assert open_baseline(name, place / "reports", place) is None


def test_a_suite_may_name_an_alias_and_what_was_measured_differently_is_incomparable(
    place, promoted, against_alias
):
    text = (place / "suite.yaml").read_text().replace("Applicant: {{ text }}", "Person: {{ text }}")
    text = text.replace("version: 1", "version: 1\nmodels: {baseline: production}", 1)
    (place / "other.yaml").write_text(text)
    _, folder = run(place, "--candidate", "better", suite="other.yaml")
    for ours, theirs in zip(
        card(folder)["comparisons"], card(against_alias)["comparisons"], strict=True
    ):
        if ours["task"] == "decide":
            assert (ours["status"], theirs["status"]) == ("incomparable", "compared")
        else:
            assert ours == theirs
    assert_computed_again(folder)


def test_gate_decides_on_an_alias(place, promoted):
    code, out, _ = command("gate", "production", "level.yaml", cwd=place)
    assert code == 0
    assert promoted.name in out


def test_a_run_that_did_not_pass_is_promoted_only_on_demand_and_the_history_says_so(
    released, tmp_path
):
    shutil.copytree(released, tmp_path / "run")
    (tmp_path / "strict.yaml").write_text(LEVEL.replace("0.6", "0.999"))
    assert command("gate", "run", "strict.yaml", "--write", "--out", ".", cwd=tmp_path)[0] == 1
    promote = ("promote", "run", "--as", "bad", "--out", ".")
    code, _, told = command(*promote, cwd=tmp_path)
    assert code == 2 and "--anyway" in told and "failed: decisions" in told
    assert "nothing was promoted" in command("promote", "--list", "--out", ".", cwd=tmp_path)[1]
    assert command(*promote, "--anyway", "--note", "a trial", cwd=tmp_path)[0] == 0
    shown = command("promote", "--list", "--out", ".", cwd=tmp_path)[1]
    assert "anyway" in shown and "a trial" in shown
    (line,) = (tmp_path / "aliases.jsonl").read_text().splitlines()
    assert json.loads(line)["exit_code"] == 1


def test_an_unfinished_run_is_not_promoted(released, tmp_path):
    shutil.copytree(released, tmp_path / "run")
    (tmp_path / "run" / "scorecard.json").unlink()
    code, _, told = command("promote", "run", "--as", "x", "--out", ".", cwd=tmp_path)
    assert code == 2 and "not finished" in told


def test_a_run_whose_samples_were_cut_is_not_promoted(released, tmp_path):
    """As a baseline it would be refused, and only after it had been announced."""
    shutil.copytree(released, tmp_path / "run")
    file = tmp_path / "run" / "samples.jsonl"
    file.write_bytes(file.read_bytes()[:2000])
    code, _, told = command("promote", "run", "--as", "x", "--out", ".", cwd=tmp_path)
    assert code == 2 and "put the file back, or run the suite again" in told
    assert not (tmp_path / "aliases.jsonl").exists()


def test_the_list_of_aliases_says_which_run_is_gone(released, tmp_path):
    shutil.copytree(released, tmp_path / "run")
    assert command("promote", "run", "--as", "x", "--out", ".", cwd=tmp_path)[0] == 0
    assert "not there" not in command("promote", "--list", "--out", ".", cwd=tmp_path)[1]
    shutil.rmtree(tmp_path / "run")
    assert (
        "run  (not there any more)" in command("promote", "--list", "--out", ".", cwd=tmp_path)[1]
    )


def test_a_folder_that_is_no_run_is_told_from_a_name_that_means_nothing(place):
    with pytest.raises(UsageError, match="is a folder, but no run's"):
        open_run(place / "released", place / "reports")


def test_a_baseline_that_is_neither_model_nor_run_is_answered_with_the_nearest_alias(
    place, promoted
):
    models = ("--candidate", "better", "--baseline", "./producton")
    code, _, told = command("run", "suite.yaml", *models, "--backend", "replay", cwd=place)
    assert code == 2 and "did you mean 'production'" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("run",), "--as"),
        (("--as", "x"), "name a run"),
        (("run", "--as", "none"), "cannot be an alias"),
        (("nowhere", "--as", "x"), "no run 'nowhere'"),
    ],
)
def test_a_wrong_promotion_says_what_is_right(released, tmp_path, arguments, told):
    shutil.copytree(released, tmp_path / "run")
    code, _, said = command("promote", *arguments, "--out", ".", cwd=tmp_path)
    assert code == 2 and told in said
    assert not (tmp_path / "aliases.jsonl").exists()


def test_an_alias_whose_run_became_another_is_refused(released, together, tmp_path):
    shutil.copytree(released, tmp_path / "run")
    assert command("promote", "run", "--as", "x", "--out", ".", cwd=tmp_path)[0] == 0
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(UsageError, match="not there"):
        open_run("x", tmp_path)
    shutil.copytree(together, tmp_path / "run")
    with pytest.raises(UsageError, match="promote a run again"):
        open_run("x", tmp_path)


def test_a_name_that_may_be_several_things_is_refused_with_how_to_write_each(
    place, promoted, tmp_path
):
    out = place / "reports"
    shutil.copytree(place / "released", tmp_path / "production")
    arguments = ("run", place / "suite.yaml", "--candidate", place / "better", "--out", out)
    code, _, told = command(
        *arguments, "--baseline", "production", "--backend", "replay", cwd=tmp_path
    )
    assert code == 2
    assert "./production" in told and "alias:production" in told
    assert open_baseline("./production", out, tmp_path) is None
    assert open_baseline("alias:production", out, tmp_path).path == promoted


def test_a_name_that_means_nothing_is_answered_with_the_nearest(place, promoted):
    with pytest.raises(UsageError, match="did you mean 'production'"):
        open_run("producton", place / "reports")
    with pytest.raises(UsageError, match="did you mean 'production'"):
        open_run("alias:producton", place / "reports")


def test_samples_that_were_changed_or_removed_give_no_tables(released, tmp_path):
    shutil.copytree(released, tmp_path / "run")
    file = tmp_path / "run" / "samples.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"match":1.0', b'"match":0.0', 1))
    with pytest.raises(UsageError, match="changed after the run"):
        open_run("run", tmp_path).tables()
    with pytest.raises(UsageError, match="changed after the run"):
        open_run("run", tmp_path).scores("decide/exact_match")
    file.unlink()
    past = open_run("run", tmp_path)
    assert past.scores("decide/exact_match") is None
    with pytest.raises(UsageError, match="run the suite again"):
        past.tables()


def test_a_suite_that_was_changed_is_refused(released, tmp_path):
    shutil.copytree(released, tmp_path / "run")
    file = tmp_path / "run" / "suite.json"
    file.write_bytes(file.read_bytes().replace(b'"seed": 0', b'"seed": 1', 1))
    with pytest.raises(UsageError, match="suite"):
        open_run("run", tmp_path).tables()


def test_scores_of_a_past_run_are_by_sample(against_alias, promoted):
    ours = open_run(against_alias, against_alias.parent).scores("decide/exact_match")
    theirs = open_run(promoted, promoted.parent).scores("decide/exact_match")
    assert len(ours) == LIMIT
    assert {name: baseline for name, (_, baseline) in ours.items()} == {
        name: candidate for name, (candidate, _) in theirs.items()
    }
    assert {score for pair in ours.values() for score in pair} == {0.0, 1.0, None}


def test_backtest_shows_what_a_gate_would_have_decided_on_each_run(together, released, tmp_path):
    out = tmp_path / "reports"
    for run, name, day in ((together, "second", "11-20"), (released, "first", "11-19")):
        shutil.copytree(run, out / name)
        file = out / name / "scorecard.json"
        circumstances = card(run)["circumstances"] | {"started": f"2026-{day}T12:00:00+00:00"}
        file.write_text(json.dumps(card(run) | {"circumstances": circumstances}))
    shutil.copytree(released, out / "unfinished")
    (out / "unfinished" / "scorecard.json").unlink()
    gate = tmp_path / "strict.yaml"
    gate.write_text(
        LEVEL.replace("level", "strict").replace("0.6", "0.999")
        + "  - {id: nothing, estimate: extract/bleu, require: at_least, value: 1, severity: warn}\n"
    )
    code, shown, _ = command("backtest", gate, "reports", "--json", "b.json", cwd=tmp_path)
    assert code == 0
    told = json.loads((tmp_path / "b.json").read_text())
    assert [Path(run["run"]).name for run in told["runs"]] == ["first", "second"]
    assert [(run["before"], run["status"]) for run in told["runs"]] == [("pass", "fail")] * 2
    assert [run["failed"] for run in told["runs"]] == [["decisions"]] * 2
    assert [Path(run["run"]).name for run in told["unread"]] == ["unfinished"]
    assert told["rules"] == {
        "never measured": ["strict/nothing"],
        "never failed": ["strict/json"],
        "never passed": ["strict/decisions"],
    }
    for words in ("2 of 2 earlier verdicts would change", "1 could not be read", "not finished"):
        assert words in " ".join(shown.split())


def test_backtest_takes_each_run_once_by_any_of_its_names(place, promoted):
    names = ("production", promoted.name, str(promoted), "reports")
    code, _, _ = command("backtest", "level.yaml", *names, "--json", "b.json", cwd=place)
    assert code == 0
    runs = [run["run"] for run in json.loads((place / "b.json").read_text())["runs"]]
    assert len({Path(run).name for run in runs}) == len(runs)


@pytest.mark.parametrize("wrong", ["no-such-run", "empty"])
def test_backtest_of_what_is_no_run_is_a_wrong_command(place, wrong):
    (place / "empty").mkdir(exist_ok=True)
    code, _, told = command("backtest", "level.yaml", wrong, cwd=place)
    assert code == 2 and wrong in told


def test_backtest_of_runs_none_of_which_can_be_read_is_a_wrong_command(place, released, tmp_path):
    shutil.copytree(released, tmp_path / "run")
    (tmp_path / "run" / "scorecard.json").unlink()
    code, _, told = command("backtest", place / "level.yaml", tmp_path, cwd=place)
    assert code == 2 and "not finished" in told
