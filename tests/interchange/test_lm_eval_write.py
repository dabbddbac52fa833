"""A run written in lm-eval's layout is taken by lm-eval's own readers, with our numbers in it.

Truth: lm-evaluation-harness 0.4.13 as installed: its table, its name and time readers, its W&B logger's reader of
samples, its ``mean_stderr`` and perplexity, and (slow) a run of its own beside ours.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import fmean

import pytest
from exported_runs import HOSTILE, TASKS, command, estimates, make_run, scorecard

from evalkit.cli.export_run import json_line
from evalkit.interchange.lm_eval_write import NAMES, lm_eval_run, sanitised_model
from evalkit.records.scorecard import Scorecard

lm_eval = pytest.importorskip("lm_eval", reason="lm-eval is not installed")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("evals"))


@pytest.fixture(scope="module")
def written(run, tmp_path_factory):
    """The candidate's folder as lm-eval's tools meet it, and what the command said."""
    out = tmp_path_factory.mktemp("lm-eval")
    code, said, told = command("export", "lm-eval", run, out, cwd=run.parent.parent)
    assert code == 0, told
    return Path(said.strip()), told


@pytest.fixture(scope="module")
def results(written):
    return json.loads(written[0].read_text())


@pytest.fixture(scope="module")
def samples(written):
    folder = written[0].parent
    return {
        file.name.split("_")[1]: [json.loads(line) for line in file.read_bytes().splitlines()]
        for file in folder.glob("samples_*.jsonl")
    }


def lm_name(metric):
    return NAMES.get(metric, metric)


def test_every_number_over_all_samples_stands_under_lm_evals_name_as_the_scorecard_has_it(
    run, results
):
    found = {
        (task, key.removesuffix(",none")): value
        for task, held in results["results"].items()
        for key, value in held.items()
        if key.endswith(",none") and not key.endswith("_stderr,none")
    }
    assert found == {(e["task"], lm_name(e["metric"])): e["value"] for e in estimates(run)}
    assert ("choose", "acc") in found
    assert ("read", "word_perplexity") in found


def test_lm_evals_own_table_renders_them_with_direction_and_standard_error(run, results):
    from lm_eval.utils import make_table

    table = make_table(results)
    lines = [[cell.strip() for cell in line.split("|")] for line in table.splitlines()]
    accuracy = next(e["value"] for e in estimates(run) if e["metric"] == "multiple_choice.acc")
    line = next(line for line in lines if line[5] == "acc")
    assert line[6] == "↑"
    assert line[7] == f"{accuracy:.4f}"
    assert line[9] == f"{results['results']['choose']['acc_stderr,none']:.4f}"
    assert next(line for line in lines if line[5] == "bits_per_byte")[9] == "N/A"


def test_lm_evals_own_readers_find_files_tasks_and_times_by_their_names(run, written):
    from lm_eval.utils import (
        get_file_datetime,
        get_file_task_name,
        get_latest_filename,
        get_results_filenames,
        get_sample_results_filenames,
        sanitize_model_name,
    )

    names = [str(file) for file in written[0].parent.iterdir()]
    assert get_results_filenames(names) == [str(written[0])]
    found = get_sample_results_filenames(names)
    assert {get_file_task_name(Path(name).name) for name in found} == set(TASKS)
    times = {get_file_datetime(Path(name).name) for name in found}
    assert len(times) == 1
    assert times.pop() in written[0].name
    assert get_latest_filename(found) in found
    assert written[0].parent.name == sanitize_model_name(
        scorecard(run)["circumstances"]["names"]["candidate"]
    )


@pytest.mark.parametrize(
    ("task", "metric"),
    [
        ("summarise", "rouge.rougeL"),
        ("decide", "exact_match"),
        ("choose", "acc"),
        ("decide", "decisions.selection_rate"),
    ],
)
def test_a_standard_error_is_the_one_lm_eval_computes_of_our_samples(
    results, samples, task, metric
):
    from lm_eval.api.metrics import mean_stderr

    values = [row[metric] for row in samples[task] if row[metric] is not None]
    held = results["results"][task]
    assert held[f"{metric},none"] == pytest.approx(fmean(values), rel=1e-12)
    assert held[f"{metric}_stderr,none"] == pytest.approx(mean_stderr(values), rel=1e-12)
    assert held["sample_count"][f"{metric},none"] == len(values)


def test_a_rates_standard_error_is_that_of_a_proportion(results):
    held = results["results"]["choose"]
    p, n = held["acc,none"], held["sample_count"]["acc,none"]
    assert held["acc_stderr,none"] == pytest.approx(math.sqrt(p * (1 - p) / (n - 1)), rel=1e-12)


def test_where_samples_share_clusters_the_standard_error_is_the_one_behind_our_interval(
    run, results
):
    from scipy.stats import t

    # CR1 with t(C - 1): the interval of a rate far from 0 and 1 is value ± t · se, uncut.
    one = next(e for e in estimates(run) if e["task"] == "extract")
    card = scorecard(run)
    assert one["interval"]["method"] == "cr1-t"
    customers = {
        row["cluster"]
        for row in map(json.loads, (run / "samples.jsonl").read_bytes().splitlines())
        if row["task"] == "extract" and row["model"] == "candidate" and "scores" in row
    }
    half = (one["interval"]["high"] - one["interval"]["low"]) / 2
    se = half / t.ppf(0.975, len(customers) - 1)
    assert results["results"]["extract"]["exact_match_stderr,none"] == pytest.approx(se, rel=1e-9)
    assert results["evalkit"]["scorecard"] == card["digest"]


@pytest.mark.parametrize(
    ("task", "metric"),
    [("summarise", "bleu"), ("decide", "decisions.tpr"), ("read", "bits_per_byte")],
)
def test_what_is_no_mean_over_all_samples_has_no_standard_error(results, task, metric):
    assert results["results"][task][f"{metric}_stderr,none"] == "N/A"


def test_lm_evals_perplexities_of_our_samples_are_our_numbers(results, samples):
    from lm_eval.api.metrics import bits_per_byte, weighted_perplexity

    rows = [row for row in samples["read"] if row["word_perplexity"] is not None]
    held = results["results"]["read"]
    computed = weighted_perplexity([row["word_perplexity"] for row in rows])
    assert held["word_perplexity,none"] == pytest.approx(computed, rel=1e-12)
    computed = bits_per_byte([row["bits_per_byte"] for row in rows])
    assert held["bits_per_byte,none"] == pytest.approx(computed, rel=1e-12)


def test_a_rate_over_some_samples_is_the_mean_of_the_rows_that_have_it(results, samples):
    values = [row["decisions.tpr"] for row in samples["decide"] if row["decisions.tpr"] is not None]
    assert 0 < len(values) < len(samples["decide"])
    assert fmean(values) == pytest.approx(results["results"]["decide"]["decisions.tpr,none"])


def test_lm_evals_wandb_reader_takes_every_answered_row_of_every_task(results, samples):
    from lm_eval.loggers.wandb_logger import WandbLogger

    reader = WandbLogger.__new__(WandbLogger)  # its construction would connect to a server
    for task, rows in samples.items():
        held = [
            row | {"arguments": [list(parts.values()) for parts in row["arguments"].values()]}
            for row in rows
            if not row["evalkit"]["failed"]
        ]
        if task == "choose":  # in memory lm-eval has numbers, in its file texts
            for row in held:
                row["resps"] = [[[float(said), greedy]] for [[said, greedy]] in row["resps"]]
                row["filtered_resps"] = [said for [said] in row["resps"]]
        frame = reader._generate_dataset(held, results["configs"][task])
        assert len(frame) == len(held)
        assert list(frame["labels"]) == [row["target"] for row in held]
        if task == "choose":
            right = frame["raw_predictions"].astype(str) == frame["labels"]
            assert list(right.astype(float)) == list(frame["acc"])


def test_the_datasets_library_loads_results_and_samples(written, tmp_path, run):
    from datasets import load_dataset

    for file in written[0].parent.glob("samples_*.jsonl"):
        loaded = load_dataset("json", data_files=str(file), split="train", cache_dir=str(tmp_path))
        assert len(loaded) == 60
        assert loaded[0]["doc"]["id"].endswith("-0")
    table = load_dataset("json", data_files=str(written[0]), split="train", cache_dir=str(tmp_path))
    accuracy = next(e["value"] for e in estimates(run) if e["metric"] == "multiple_choice.acc")
    assert table["results"][0]["choose"]["acc,none"] == accuracy


def test_samples_without_a_score_keep_their_row_with_null_and_the_reason(run, samples):
    card = scorecard(run)
    for tally in card["tasks"]:
        if tally["model"] != "candidate":
            continue
        rows = samples[tally["task"]]
        assert len(rows) == tally["planned"]
        failed = [row for row in rows if row["evalkit"]["failed"]]
        assert len(failed) == sum(tally["failures"].values())
        names = {lm_name(e["metric"]) for e in estimates(run) if e["task"] == tally["task"]}
        assert all(row[name] is None for row in failed for name in names)
        assert all(row["metrics"] == [] for row in failed)
        unscored = [row for row in rows if json.loads(row["evalkit"]["unscored"])]
        assert len(unscored) == sum(sum(reasons.values()) for reasons in tally["unscored"].values())
    assert any(json.loads(row["evalkit"]["unscored"]) for row in samples["decide"])


def test_what_a_model_said_is_one_line_of_json_whatever_it_said(written, samples):
    file = next(written[0].parent.glob("samples_extract_*"))
    lines = file.read_text(encoding="utf-8").splitlines()  # at U+2028 too, as some readers do
    assert [json.loads(line) for line in lines] == samples["extract"]
    row = next(row for row in samples["extract"] if row["doc"]["id"] == "extract-1")
    assert row["resps"] == [[HOSTILE]]
    broken = {"half a character": "\ud800"}
    assert json.loads(json_line(broken).decode("utf-8")) == broken


def test_what_has_no_place_in_the_tables_is_named_with_its_reason_and_told(run, written, results):
    over_all = {(e["task"], e["metric"]) for e in estimates(run)}
    others = {
        f"{e['task']}/{e['metric']}" + (f"@{e['slice']}" if e["slice"] else "")
        for e in scorecard(run)["estimates"]
        if e["model"] == "candidate" and (e["slice"] or (e["task"], e["metric"]) not in over_all)
    }
    assert set(results["evalkit"]["left_out"]) == others
    assert len(others) > 0
    assert "by slice" in written[1]
    assert "gaps between groups" in written[1]


def test_intervals_and_verdict_are_kept_under_our_own_key(run, results):
    held = results["evalkit"]["estimates"]
    assert {name: one["interval"] for name, one in held.items()} == {
        f"{e['task']}/{e['metric']}": e["interval"] for e in estimates(run)
    }
    assert results["evalkit"]["verdict"] == json.loads((run / "verdict.json").read_text())["status"]


def test_each_variant_of_a_counterfactual_sample_is_a_request_with_its_answer(samples):
    row = next(row for row in samples["swap"] if row["flips.flip"] == 1)
    said = {one["arg_0"].split()[-1] for one in row["arguments"].values()}
    assert said == {"he", "she"}
    assert row["resps"] == [["no"], ["yes"]]


def test_replicates_stand_beside_one_another_under_their_one_request(samples):
    row = next(row for row in samples["summarise"] if not row["evalkit"]["failed"])
    assert list(row["arguments"]) == ["gen_args_0"]
    assert [len(said) for said in row["resps"]] == [2]
    assert row["arguments"]["gen_args_0"]["arg_1"]["temperature"] == 0.7


def test_hashes_are_lm_evals(samples, results):
    from lm_eval.utils import handle_non_serializable, hash_string

    for task, rows in samples.items():
        for row in rows:
            doc = json.dumps(
                row["doc"], indent=2, default=handle_non_serializable, ensure_ascii=False
            )
            assert row["doc_hash"] == hash_string(doc)
            assert row["target_hash"] == hash_string(str(row["target"]))
        joined = "".join(r["doc_hash"] + r["prompt_hash"] + r["target_hash"] for r in rows)
        assert results["task_hashes"][task] == hash_string(joined)


def test_the_baseline_is_exported_beside_it_with_the_same_number_for_the_same_sample(
    run, written, samples, tmp_path
):
    code, said, told = command(
        "export", "lm-eval", run, tmp_path, "--model", "baseline", cwd=run.parent.parent
    )
    assert code == 0, told
    folder = Path(said.strip()).parent
    assert folder.name == "old"
    theirs = json.loads(Path(said.strip()).read_text())
    assert theirs["results"]["choose"]["acc,none"] == next(
        e["value"] for e in estimates(run, "baseline") if e["metric"] == "multiple_choice.acc"
    )
    file = next(folder.glob("samples_decide_*"))
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert {r["doc"]["id"]: r["doc_id"] for r in rows} == {
        r["doc"]["id"]: r["doc_id"] for r in samples["decide"]
    }


def test_exporting_twice_gives_the_same_files(run, written):
    folder = written[0].parent
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    code, _, told = command("export", "lm-eval", run, folder.parent, cwd=run.parent.parent)
    assert code == 0, told
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_changed_samples_are_refused_and_nothing_is_written(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    text = (copy / "samples.jsonl").read_text()
    (copy / "samples.jsonl").write_text(text.replace('"match":0.0', '"match":1.0', 1))
    code, _, told = command("export", "lm-eval", copy, tmp_path / "out", cwd=tmp_path)
    assert code == 2
    assert "changed after the run" in told
    assert not (tmp_path / "out").exists()


def test_without_samples_the_results_alone_are_written_with_no_standard_error(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "samples.jsonl").unlink()
    code, _, told = command("export", "lm-eval", copy, tmp_path / "out", cwd=tmp_path)
    assert code == 2
    assert "samples" in told
    code, said, told = command(
        "export", "lm-eval", copy, tmp_path / "out", "--results-only", cwd=tmp_path
    )
    assert code == 0, told
    held = json.loads(Path(said.strip()).read_text())["results"]
    assert {v for task in held.values() for k, v in task.items() if "_stderr" in k} == {"N/A"}
    assert [file.name for file in Path(said.strip()).parent.iterdir()] == [Path(said.strip()).name]


@pytest.mark.parametrize(
    "name", ["..", ".", "", "../../etc/passwd", "a\0b", "x" * 5000, "a/../..", " "]
)
def test_a_models_name_never_leads_out_of_the_folder(name, tmp_path):
    made = sanitised_model(name)
    place = (tmp_path / made).resolve()
    assert place.parent == tmp_path.resolve()
    place.mkdir()


def test_a_metric_whose_name_lm_eval_would_misread_is_left_out_and_told(run):
    card = scorecard(run)
    for one in card["estimates"]:
        if one["metric"] == "exact_match":
            one["metric"] = "exact,match"
        if one["metric"] == "decisions.accuracy":
            one["metric"] = "accuracy_stderr"
    made = lm_eval_run(Scorecard.model_validate(card), None, None, "candidate", [])
    assert "extract/exact,match" in made.left_out
    assert "decide/accuracy_stderr" in made.left_out


def test_two_metrics_of_one_task_never_share_a_name(run):
    card = scorecard(run)
    for one in card["estimates"]:
        if one["metric"] == "multiple_choice.acc_norm":
            one["metric"] = "acc"
    made = lm_eval_run(Scorecard.model_validate(card), None, None, "candidate", [])
    names = [one.name for one in made.expressed["choose"]]
    assert {"multiple_choice.acc", "acc"} <= set(names)
    assert len(names) == len(set(names))


REAL = """
import json, sys
from pathlib import Path
import lm_eval
from lm_eval.loggers import EvaluationTracker
here = Path(sys.argv[1])
rows = [{"text": f"case {n}", "target": f"c{n}", "choices": ["x", "y"], "gold": n % 2} for n in range(6)]
(here / "d.jsonl").write_text("".join(json.dumps(r) + "\\n" for r in rows))
def task(name, kind, text, target, metrics, **more):
    files = {"data_files": {"test": str(here / "d.jsonl")}}
    return {"task": name, "dataset_path": "json", "dataset_kwargs": files, "test_split": "test",
            "output_type": kind, "doc_to_text": text, "doc_to_target": target,
            "metric_list": [{"metric": m} for m in metrics], **more}
tasks = [
    task("extract", "generate_until", "{{text}}", "{{target}}", ["exact_match"],
         generation_kwargs={"until": ["\\n"]}),
    task("choose", "multiple_choice", "{{text}}", "gold", ["acc"], doc_to_choice="choices"),
    task("read", "loglikelihood_rolling", "", "{{text}}", ["word_perplexity"]),
]
tracker = EvaluationTracker(output_path=str(here / "out"))
found = lm_eval.simple_evaluate(model="dummy", model_args="pretrained=acme/new model", tasks=tasks,
                                evaluation_tracker=tracker, log_samples=True, bootstrap_iters=10)
samples = found.pop("samples")
tracker.save_results_aggregated(results=found, samples=samples)
for name, held in samples.items():
    tracker.save_results_samples(task_name=name, samples=held)
"""


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The folder that lm-eval itself writes of a run on its own dummy model."""
    place = tmp_path_factory.mktemp("real")
    (place / "real.py").write_text(REAL)
    done = subprocess.run(
        [sys.executable, place / "real.py", place],
        env={"PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", "HF_HOME": str(place / "hf")},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return next((place / "out").iterdir())


@pytest.mark.slow
def test_a_run_of_lm_eval_itself_has_the_same_places_keys_and_shapes(real, results, samples):
    assert real.name == sanitised_model("acme/new model")
    theirs = json.loads(next(real.glob("results_*.json")).read_text())
    assert list(theirs) == [key for key in results if key != "evalkit"]
    assert set(theirs["config"]) <= set(results["config"])
    assert set(theirs["n-samples"]["choose"]) == set(results["n-samples"]["choose"])
    for task, metric in (
        ("extract", "exact_match"),
        ("choose", "acc"),
        ("read", "word_perplexity"),
    ):
        keys = set(theirs["results"][task])
        assert keys <= set(results["results"][task])
        their = json.loads(next(real.glob(f"samples_{task}_*")).read_text().splitlines()[0])
        our = next(row for row in samples[task] if row[metric] is not None)
        assert set(their) <= set(our)
        for key in ("arguments", "resps", "filtered_resps", "metrics", "target", "filter"):
            assert shape(our[key]) == shape(their[key]) or key in ("metrics", "arguments")
        assert type(our[metric]) is type(their[metric])


@pytest.mark.slow
def test_a_run_of_lm_eval_read_and_written_again_gives_lm_evals_own_table(real, tmp_path):
    from lm_eval.utils import make_table

    code, _, told = command("import", real, "--out", tmp_path / "runs", cwd=tmp_path)
    assert code == 0, told
    (imported,) = (path for path in (tmp_path / "runs").iterdir() if path.is_dir())
    code, said, told = command("export", "lm-eval", imported, tmp_path / "out", cwd=tmp_path)
    assert code == 0, told
    again = Path(said.strip())
    assert again.parent.name == real.name
    theirs = json.loads(next(real.glob("results_*.json")).read_text())
    ours = json.loads(again.read_text())
    ours["versions"] = theirs["versions"]  # the suite's version is of the import, not of their task
    assert make_table(ours) == make_table(theirs)
    for file in real.glob("samples_*.jsonl"):
        task = file.name.split("_")[1]
        written = json_rows(next(again.parent.glob(f"samples_{task}_*")))
        for one, two in zip(json_rows(file), written, strict=True):
            for key in ("doc_id", "target", "prompt_hash", "target_hash", *one["metrics"]):
                assert two[key] == one[key], key


def json_rows(file):
    return [json.loads(line) for line in file.read_bytes().splitlines()]


def shape(value):
    """The types of a value's parts, nested; of a list's or an object's parts the first."""
    if isinstance(value, dict):
        return {"{}": shape(next(iter(value.values())))}
    return [shape(value[0])] if isinstance(value, list) and value else type(value).__name__
