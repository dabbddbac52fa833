"""The suites under suites/bias from the command line: how files are asked for, published answers, a real checkpoint.

Truth: Parrish et al. 2022, figure 3 (bias scores) and figure 5 (accuracies), row Religion, columns UnifiedQA.
"""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest
import yaml
from commands import command, evalkit, only_run, scorecard

FILES = {  # suite → the files it reads, in the folder of published data, and the names they take
    "bbq": {"bbq/Religion.jsonl": "bbq.jsonl"},
    "crows-pairs": {"crows_pairs/crows_pairs_anonymized.csv": "crows_pairs_anonymized.csv"},
    "winogender": {
        "winogender/all_sentences.tsv": "all_sentences.tsv",
        "winogender/occupations-stats.tsv": "occupations-stats.tsv",
    },
}
HOMES = {
    "bbq": "github.com/nyu-mll/BBQ",
    "crows-pairs": "github.com/nyu-mll/crows-pairs",
    "winogender": "github.com/rudinger/winogender-schemas",
}


@pytest.fixture
def workplace(tmp_path, root):
    """A folder with the suites and gates as they are shipped: without data."""
    (tmp_path / "suites" / "bias").mkdir(parents=True)
    (tmp_path / "gates").mkdir()
    for path in (root / "suites" / "bias").glob("*.yaml"):
        shutil.copy(path, tmp_path / "suites" / "bias")
    for path in (root / "gates").glob("bias*.yaml"):
        shutil.copy(path, tmp_path / "gates")
    return tmp_path


def lay(workplace: Path, shared_data: Path, suite: str) -> Path:
    """Lay the published files where a suite looks for them; return the suite."""
    folder = workplace / "suites" / "bias" / "data"
    folder.mkdir(exist_ok=True)
    for published, name in FILES[suite].items():
        (folder / name).symlink_to(shared_data / published)
    return workplace / "suites" / "bias" / f"{suite}.yaml"


def values(card, task, model="candidate"):
    """Metric → value over all samples."""
    return {
        estimate["metric"]: estimate["value"]
        for estimate in card["estimates"]
        if (estimate["task"], estimate["model"], estimate["slice"]) == (task, model, None)
    }


# --- the files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", FILES)
def test_without_its_file_a_suite_says_who_publishes_it_and_under_which_licence(workplace, suite):
    code, _, err = command("validate", f"suites/bias/{suite}.yaml", cwd=workplace)
    assert code == 2
    assert "not shipped with evalkit" in err
    assert HOMES[suite] in err
    assert ("CC BY" in err) != ("MIT licence" in err)


def test_one_file_of_winogender_alone_is_not_enough(workplace, shared_data):
    lay(workplace, shared_data, "winogender")
    (workplace / "suites/bias/data/occupations-stats.tsv").unlink()
    code, _, err = command("validate", "suites/bias/winogender.yaml", cwd=workplace)
    assert code == 2
    assert "occupations-stats.tsv" in err
    assert HOMES["winogender"] in err


@pytest.mark.parametrize("suite", FILES)
def test_with_its_file_a_suite_and_its_gate_are_right(workplace, shared_data, suite):
    lay(workplace, shared_data, suite)
    code, out, err = command("validate", f"suites/bias/{suite}.yaml", cwd=workplace)
    assert (code, err) == (0, "")
    assert "rows rendered: ok" in out


# --- published answers ---------------------------------------------------------------------------------------------

FIGURES = {
    "arc": {"s_amb": 24.5, "s_dis": 3.5, "ambiguous": 43.8, "disambiguated": 85.2},
    "race": {"s_amb": 14.3, "s_dis": 0.2, "ambiguous": 65.0, "disambiguated": 88.0},
}


@pytest.fixture
def recorded(workplace, shared_data):
    """The suite's task in words alone, and UnifiedQA's published answers to it, one file for each format of prompt."""
    path = lay(workplace, shared_data, "bbq")
    suite = yaml.safe_load(path.read_text(encoding="utf-8"))
    suite["tasks"] = [task for task in suite["tasks"] if task["name"] == "bbq-written"]
    path.write_text(yaml.safe_dump(suite, allow_unicode=True), encoding="utf-8")
    published = shared_data / "bbq" / "preds_UnifiedQA_Religion.jsonl.gz"
    with gzip.open(published, "rt", encoding="utf-8") as lines:
        items = [json.loads(line) for line in lines]
    for column in FIGURES:
        answers = [
            {
                "id": f"Religion-{item['example_id']}",
                "text": item[f"unifiedqa-t5-11b_pred_{column}"],
            }
            for item in items
        ]
        text = "".join(json.dumps(answer) + "\n" for answer in answers)
        (workplace / f"{column}.jsonl").write_text(text, encoding="utf-8")
    return workplace


def test_published_answers_give_the_papers_figures_from_the_command_line(recorded):
    done = evalkit(
        "run",
        "suites/bias/bbq.yaml",
        *("--candidate", "arc.jsonl", "--baseline", "race.jsonl", "--quiet"),
        cwd=recorded,
    )
    card = scorecard(recorded / "reports")
    for column, model in (("arc", "candidate"), ("race", "baseline")):
        found = values(card, "bbq-written", model)
        shown = {
            "s_amb": found["bbq.s_amb"],
            "s_dis": found["bbq.s_dis"],
            "ambiguous": found["bbq.accuracy.ambiguous"],
            "disambiguated": found["bbq.accuracy.disambiguated"],
        }
        assert {name: round(100 * value, 1) for name, value in shown.items()} == FIGURES[column]
    # With the ARC format it leans more on stereotypes than with RACE: that is no pass.
    assert done.code in (1, 4), done.out + done.err
    verdict = json.loads((only_run(recorded / "reports") / "verdict.json").read_text())
    status = {outcome["rule"]: outcome["status"] for outcome in verdict["outcomes"]}
    assert status["answers-can-be-read"] == "pass"
    assert status["leans-no-more"] != "pass"


def test_intervals_rest_on_templates_and_not_on_their_variations(recorded):
    path = recorded / "suites" / "bias" / "bbq.yaml"
    suite = yaml.safe_load(path.read_text(encoding="utf-8"))
    widths = {}
    for name in ("clustered", "alone"):
        if name == "alone":
            del suite["tasks"][0]["cluster"]
            path.write_text(yaml.safe_dump(suite, allow_unicode=True), encoding="utf-8")
        answers = ("--candidate", "arc.jsonl", "--baseline", "none", "--quiet")
        evalkit("run", "suites/bias/bbq.yaml", *answers, "--out", name, cwd=recorded)
        (estimate,) = [
            each
            for each in scorecard(recorded / name)["estimates"]
            if each["metric"] == "bbq.s_amb" and each["slice"] is None
        ]
        low, high = estimate["interval"]["low"], estimate["interval"]["high"]
        assert low < estimate["value"] < high
        widths[name] = high - low
    # 48 items of a template are variations of one text; taken for 48 texts they would seem to tell more.
    assert widths["clustered"] > 1.5 * widths["alone"]


def test_answers_that_cannot_be_read_are_counted_and_never_scored(recorded):
    path = recorded / "arc.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for line in lines[:120]:
        line["text"] = "he"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    done = evalkit(
        "run",
        "suites/bias/bbq.yaml",
        *("--candidate", "arc.jsonl", "--baseline", "race.jsonl", "--quiet"),
        cwd=recorded,
    )
    assert done.code == 3, done.out  # one answer in ten: the run is no ground for a decision
    (tally, _) = scorecard(recorded / "reports")["tasks"]
    assert tally["unscored"] == {"bbq": {"none of the three answers": 120}}


# --- a real checkpoint ---------------------------------------------------------------------------------------------


def run_on_quickstart(workplace: Path, root: Path, suite: str, limit: int):
    models = root / "suites" / "quickstart" / "models"
    done = evalkit(
        *("run", f"suites/bias/{suite}.yaml", "--limit", str(limit), "--quiet"),
        *("--backend", "transformers"),
        *("--candidate", models / "candidate", "--baseline", models / "baseline"),
        cwd=workplace,
    )
    return done, scorecard(workplace / "reports")


def test_bbq_runs_on_a_checkpoint_that_cannot_answer_in_words(workplace, shared_data, root):
    lay(workplace, shared_data, "bbq")
    done, card = run_on_quickstart(workplace, root, "bbq", 24)
    tallies = {(t["model"], t["task"]): t for t in card["tasks"]}
    assert tallies["candidate", "bbq"]["complete"]
    assert values(card, "bbq")["bbq.accuracy.ambiguous"] is not None
    # It was trained to read orders: none of its answers in words is one of the three, and none is taken for one.
    assert tallies["candidate", "bbq-written"]["unscored"] == {
        "bbq": {"none of the three answers": 24}
    }
    assert values(card, "bbq-written")["bbq.s_amb"] is None
    assert done.code == 3, done.out + done.err


def test_crows_pairs_scores_whole_sentences_and_decides_nothing(workplace, shared_data, root):
    lay(workplace, shared_data, "crows-pairs")
    done, card = run_on_quickstart(workplace, root, "crows-pairs", 20)
    assert done.code == 0, done.out + done.err
    assert "no rule blocks" in done.out
    samples = (only_run(workplace / "reports") / "samples.jsonl").read_text(encoding="utf-8")
    first = json.loads(samples.splitlines()[0])
    assert first["prompt"] == ""
    likelier = first["answers"][0]["logprob"] > first["answers"][1]["logprob"]
    assert first["scores"]["crows_pairs"]["likelier"] == float(likelier)
    # Every token of the sentence is scored, the first one too: no fewer than there are words.
    for choice, answer in zip(first["choices"], first["answers"], strict=True):
        assert answer["tokens"] >= len(choice.split())
    assert 0 <= values(card, "crows-pairs")["crows_pairs"] <= 1


def test_winogender_asks_each_stem_with_three_pronouns(workplace, shared_data, root):
    lay(workplace, shared_data, "winogender")
    done, card = run_on_quickstart(workplace, root, "winogender", 12)
    assert done.code in (0, 1, 4), done.out + done.err
    tally = card["tasks"][0]
    assert (tally["planned"], tally["requests"]) == (12, 12 * 3 * 2)
    found = values(card, "winogender")
    accuracy = {g: found[f"counterfactual_accuracy.acc.{g}"] for g in ("male", "female", "neutral")}
    assert found["counterfactual_accuracy.difference.female"] == pytest.approx(
        accuracy["female"] - accuracy["male"]
    )
    slices = {estimate["slice"] for estimate in card["estimates"]}
    assert {"gotcha=male", "gotcha=female", "refers_to=occupation"} <= slices
