"""What lm_eval wrote, for real, is read as it is, and what was cut or changed is refused."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from foreign_logs import DOCUMENTS, lm_eval_output, of_model

from evalkit.errors import UsageError
from evalkit.interchange.foreign import ForeignTask, Wishes
from evalkit.interchange.lm_eval_read import read_lm_eval
from evalkit.records.exchange import Score, Unscored


@pytest.fixture(scope="session")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lm_eval_output(tmp_path_factory)


@pytest.fixture(scope="session")
def written(output: Path) -> Path:
    return of_model(output, "candidate")


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    return shutil.copytree(written, tmp_path / "model")


def results_file(folder: Path) -> Path:
    return next(folder.glob("results_*.json"))


def samples_file(folder: Path, task: str) -> Path:
    return next(folder.glob(f"samples_{task}_*.jsonl"))


def change_results(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = results_file(folder)
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def change_rows(folder: Path, task: str, change: Callable[[list[dict[str, Any]]], object]) -> None:
    file = samples_file(folder, task)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    change(rows)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def tasks(folder: Path, **wishes: tuple[str, ...]) -> dict[str, ForeignTask]:
    return {task.name: task for task in read_lm_eval(folder, Wishes(**wishes)).tasks}


def values(task: ForeignTask, score: str) -> list[float]:
    found = (sample.scores[score] for sample in task.samples())
    return [score.statistics[0] for score in found if isinstance(score, Score)]


def test_every_mean_is_the_one_that_lm_eval_printed(written: Path) -> None:
    printed = json.loads(results_file(written).read_text())["results"]
    read = tasks(written)
    for name, score, key in (
        ("quiz", "acc", "acc,none"),
        ("quiz", "acc_norm", "acc_norm,none"),
        ("orders", "exact_match.strict", "exact_match,strict"),
        ("orders", "exact_match.stripped", "exact_match,stripped"),
        ("tickets", "characters", "characters,none"),
        ("tickets", "of_some", "of_some,none"),
        ("tickets", "with_gaps", "with_gaps,none"),
    ):
        held = values(read[name], score)
        assert math.fsum(held) / len(held) == pytest.approx(printed[name][key], rel=1e-9)


def test_a_document_has_one_sample_with_the_scores_of_every_filter(written: Path) -> None:
    samples = list(tasks(written)["orders"].samples())
    assert [sample.id for sample in samples] == [str(n) for n in range(DOCUMENTS)]
    assert {*samples[0].scores} == {"exact_match.strict", "exact_match.stripped"}


def test_zeros_and_ones_are_a_rate_and_other_numbers_a_mean(written: Path) -> None:
    kinds = {
        f"{t.name}/{s.name}": (s.kind, s.unit) for t in tasks(written).values() for s in t.scores
    }
    assert kinds["quiz/acc"] == ("rate", "fraction")
    assert kinds["tickets/characters"] == ("mean", "score")
    assert kinds["notes/word_perplexity"] == ("weighted_perplexity", "perplexity/word")
    assert kinds["notes/bits_per_byte"] == ("bits_per_byte", "bits/byte")


def test_directions_are_those_that_lm_eval_tells(written: Path) -> None:
    better = {s.name: s.better for t in tasks(written).values() for s in t.scores}
    assert (better["characters"], better["bits_per_byte"], better["acc"]) == (
        "lower",
        "lower",
        "higher",
    )
    assert tasks(written, lower=("quiz/acc",))["quiz"].scores[0].better == "lower"


def test_a_score_that_a_document_lacks_is_ungraded_and_takes_no_other_with_it(
    written: Path,
) -> None:
    samples = list(tasks(written)["tickets"].samples())
    lacking = [s for s in samples if s.scores["of_some"] == Unscored("lm-eval gave no such score")]
    assert len(lacking) == DOCUMENTS // 2
    assert all(isinstance(sample.scores["characters"], Score) for sample in samples)
    gaps = [s.scores["with_gaps"] for s in samples if isinstance(s.scores["with_gaps"], Unscored)]
    assert len(gaps) == DOCUMENTS // 8
    assert {gap.reason for gap in gaps} == {"what was recorded is no finite number"}


def test_what_is_no_mean_of_documents_is_left_out_and_told(written: Path) -> None:
    read = tasks(written)
    told = [note.message for note in (*read["orders"].notes, *read["tickets"].notes)]
    assert [t for t in told if t.startswith("orders/bleu,strict: its aggregate (bleu) is no mean")]
    assert [t for t in told if "tickets/longest,none" in t and "function of its own" in t]
    assert {s.name for s in read["orders"].scores} == {"exact_match.strict", "exact_match.stripped"}


def test_a_question_is_read_with_its_choices_and_their_likelihoods(written: Path) -> None:
    row = json.loads(samples_file(written, "quiz").read_text().splitlines()[0])
    sample = next(tasks(written)["quiz"].samples())
    assert sample.asked["prompt"] == row["arguments"]["gen_args_0"]["arg_0"]
    assert sample.asked["choices"] == [f" {choice}" for choice in row["doc"]["choices"]]
    assert sample.targets == (str(row["doc"]["answer"]),)
    assert [a["logprob"] for a in sample.answers] == [float(r[0][0]) for r in row["resps"]]


def test_an_answer_is_what_the_model_wrote_before_any_filter(written: Path) -> None:
    row = json.loads(samples_file(written, "orders").read_text().splitlines()[0])
    sample = next(tasks(written)["orders"].samples())
    assert sample.answers == [{"text": row["resps"][0][0], "finish_reason": "other"}]
    assert sample.targets == (row["doc"]["target"],)


def test_a_field_of_the_documents_becomes_a_slice_where_documents_have_it(written: Path) -> None:
    read = tasks(written, slices=("region",))
    assert (read["orders"].slices, read["quiz"].slices) == (("region",), ())
    assert next(read["orders"].samples()).slices == {"region": "east"}


def test_a_field_that_no_document_has_is_refused_with_the_nearest(written: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'region'"):
        tasks(written, slices=("regions",))


def test_a_score_that_there_is_not_is_refused_with_the_nearest(written: Path) -> None:
    with pytest.raises(UsageError, match=r"--lower 'acc_nor'.*did you mean 'acc_norm'"):
        tasks(written, lower=("acc_nor",))


def test_a_score_can_be_left_out(written: Path) -> None:
    read = tasks(written, without=("tickets/of_some",))["tickets"]
    assert "of_some" not in {score.name for score in read.scores}
    assert "tickets/of_some,none: as --without says" in [note.message for note in read.notes]


def test_the_same_documents_have_one_digest_and_others_another(
    written: Path, output: Path, copy: Path
) -> None:
    baseline = tasks(of_model(output, "baseline"))
    assert {n: t.dataset for n, t in tasks(written).items()} == {
        n: t.dataset for n, t in baseline.items()
    }

    def other_document(rows: list[dict[str, Any]]) -> None:
        rows[3]["doc"]["question"] += " Please."

    change_rows(copy, "quiz", other_document)
    assert tasks(copy)["quiz"].dataset != baseline["quiz"].dataset
    assert tasks(copy)["notes"].dataset == baseline["notes"].dataset


def _version(content: dict[str, Any]) -> None:
    content["lm_eval_version"] = "0.4.9"


def _task_version(content: dict[str, Any]) -> None:
    content["versions"]["quiz"] = 2


def _shots(content: dict[str, Any]) -> None:
    content["n-shot"]["quiz"] = 5


@pytest.mark.parametrize("change", [_version, _task_version, _shots])
def test_what_was_measured_otherwise_is_told_apart(
    written: Path, copy: Path, change: Callable[..., None]
) -> None:
    before = tasks(written)["quiz"].scores[0].measured
    change_results(copy, change)
    assert tasks(copy)["quiz"].scores[0].measured != before


def test_other_prompts_are_told_apart(written: Path, copy: Path) -> None:
    def shorter(rows: list[dict[str, Any]]) -> None:
        rows[0]["arguments"]["gen_args_0"]["arg_0"] = "Q"

    change_rows(copy, "quiz", shorter)
    ours, theirs = tasks(copy)["quiz"].scores[0].measured, tasks(written)["quiz"].scores[0].measured
    assert {key for key in ours if ours[key] != theirs[key]} == {"prompts"}


def test_two_checkpoints_are_measured_alike(written: Path, output: Path) -> None:
    baseline = tasks(of_model(output, "baseline"))
    for name, task in tasks(written).items():
        assert [s.measured for s in task.scores] == [s.measured for s in baseline[name].scores]


def test_the_model_is_not_pinned_where_no_hash_of_its_bytes_is_told(
    written: Path, copy: Path
) -> None:
    model = read_lm_eval(written, Wishes()).model
    assert not model.pinned
    assert model.name.endswith("quickstart/models/candidate")
    change_results(copy, lambda content: content["config"].update(model_sha="a" * 40))
    assert read_lm_eval(copy, Wishes()).model.pinned


def test_an_adapter_without_a_hash_leaves_the_model_unpinned(copy: Path) -> None:
    arguments = {"pretrained": "org/model", "peft": "mine"}
    change_results(copy, lambda c: c["config"].update(model_sha="a" * 40, model_args=arguments))
    assert not read_lm_eval(copy, Wishes()).model.pinned


def test_keys_and_passwords_are_not_kept(copy: Path) -> None:
    told = "pretrained=org/model,api_key=sk-1234,tokenizer=org/tokenizer"
    change_results(copy, lambda content: content["config"].update(model_args=told))
    engine = json.dumps(read_lm_eval(copy, Wishes()).model.engine)
    assert "sk-1234" not in engine
    assert "tokenizer=org/tokenizer" in engine


def _changed_number(folder: Path) -> None:
    change_results(folder, lambda content: content["results"]["quiz"].update({"acc,none": 0.999}))


def _changed_perplexity(folder: Path) -> None:
    change_results(
        folder, lambda content: content["results"]["notes"].update({"bits_per_byte,none": 0.2})
    )


def _changed_score(folder: Path) -> None:
    change_rows(folder, "quiz", lambda rows: rows[0].update(acc=1 - rows[0]["acc"]))


def _twice(folder: Path) -> None:
    change_rows(folder, "quiz", lambda rows: rows.append(rows[5]))


def _one_less(folder: Path) -> None:
    change_rows(folder, "quiz", lambda rows: rows.pop())


def _less_of_a_filter(folder: Path) -> None:
    change_rows(folder, "orders", lambda rows: rows.pop())


def _other_filter(folder: Path) -> None:
    change_rows(folder, "orders", lambda rows: rows[0].update(filter="loose"))


def _cut(folder: Path) -> None:
    file = samples_file(folder, "quiz")
    file.write_bytes(file.read_bytes()[:-40])


def _no_row(folder: Path) -> None:
    with samples_file(folder, "quiz").open("a") as file:
        file.write("[1, 2]\n")


def _no_document(folder: Path) -> None:
    change_rows(folder, "quiz", lambda rows: rows[0].pop("doc_id"))


def _no_samples(folder: Path) -> None:
    samples_file(folder, "quiz").unlink()


def _swapped_hash(folder: Path) -> None:
    change_rows(folder, "quiz", lambda rows: rows[0].update(prompt_hash=rows[1]["prompt_hash"]))


def _cut_results(folder: Path) -> None:
    file = results_file(folder)
    file.write_text(file.read_text()[:300])


def _no_results(folder: Path) -> None:
    results_file(folder).unlink()


def _not_a_number(folder: Path) -> None:
    change_results(
        folder, lambda content: content["results"]["quiz"].update({"acc,none": math.nan})
    )


def _climbing(folder: Path) -> None:
    def renamed(content: dict[str, Any]) -> None:
        for key in ("results", "configs"):
            content[key] = {"../quiz": content[key]["quiz"]}

    change_results(folder, renamed)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (
            _changed_number,
            r"results\.quiz\.acc,none: the file says 0\.999, and its 40 samples give 0\.9",
        ),
        (_changed_perplexity, r"results\.notes\.bits_per_byte,none: the file says 0\.2"),
        (_changed_score, r"results\.quiz\.acc,none: the file says 0\.975"),
        (
            _twice,
            r"samples_quiz_.*jsonl:41: doc_id: document 5 of filter 'none' stands in line 6 already",
        ),
        (_one_less, "lm-eval scored 40 documents, and here are 39 with a score"),
        (_less_of_a_filter, "filter 'strict' has 40 documents and filter 'stripped' 39"),
        (_other_filter, "the results have no filter 'loose'; allowed: strict, stripped"),
        (_cut, r"samples_quiz_.*jsonl:40: the row is cut or no JSON"),
        (_no_row, r"samples_quiz_.*jsonl:41: this is no row of lm-eval's samples"),
        (_no_document, "doc_id: no document's number: found None"),
        (_no_samples, "the samples of quiz are not beside the results.*--log_samples"),
        (_swapped_hash, "the rows are not those that the results were made of"),
        (_cut_results, "not JSON"),
        (_no_results, r"no results_<time>\.json of lm-eval lies here"),
        (_not_a_number, "the file says nan"),
        (_climbing, "'../quiz' is no name of a task"),
    ],
)
def test_what_was_cut_or_changed_is_refused(
    copy: Path, damage: Callable[[Path], None], told: str
) -> None:
    damage(copy)
    with pytest.raises(UsageError, match=told):
        read_lm_eval(copy, Wishes())


def test_a_mean_of_documents_of_which_one_has_no_number_is_taken_and_told(copy: Path) -> None:
    def without_one(rows: list[dict[str, Any]]) -> None:
        rows[0]["characters"] = math.nan

    change_rows(copy, "tickets", without_one)
    change_results(copy, lambda c: c["results"]["tickets"].update({"characters,none": math.nan}))
    read = tasks(copy)["tickets"]
    assert len(values(read, "characters")) == DOCUMENTS - 1
    assert [note.about for note in read.notes if "characters" in note.message] == [
        "imported.differs"
    ]


def test_of_several_results_the_newest_is_taken_and_told(copy: Path) -> None:
    for file in list(copy.iterdir()):
        stamp = file.stem.rpartition("_")[2]
        shutil.copy(file, copy / file.name.replace(stamp, "2001-01-01T00-00-00.000001"))
    read = read_lm_eval(copy, Wishes())
    assert "2001" not in read.files[0].name
    assert read.notes[0].startswith("of 2 results in ")


def test_results_of_several_models_are_refused_with_their_folders(output: Path) -> None:
    with pytest.raises(
        UsageError, match=r"results of several models lie here; pass one of: .*baseline"
    ):
        read_lm_eval(output, Wishes())


def test_a_group_is_told_to_be_made_of_its_tasks(copy: Path) -> None:
    change_results(copy, lambda content: content["results"].update(all={"acc,none": 0.5}))
    assert read_lm_eval(copy, Wishes()).notes == (
        "all: a group's number is made of its tasks' numbers; its tasks are taken over one by one",
    )


def test_a_direction_that_is_not_told_is_taken_as_higher_and_said(copy: Path) -> None:
    change_results(copy, lambda content: content["higher_is_better"].pop("quiz"))
    told = [note.message for note in tasks(copy)["quiz"].notes]
    assert told[0] == (
        "quiz/acc,none: lm-eval does not say which direction is better; taken as higher (--lower acc)"
    )


def test_a_likelihood_of_nothing_stays_readable(copy: Path) -> None:
    def impossible(rows: list[dict[str, Any]]) -> None:
        rows[0]["filtered_resps"][0][0] = "-inf"

    change_rows(copy, "quiz", impossible)
    sample = next(tasks(copy)["quiz"].samples())
    assert "choices" not in sample.asked
    assert sample.answers[0]["text"] == " safety (-inf)"


def test_times_are_those_of_the_file(copy: Path) -> None:
    change_results(copy, lambda c: c.update(date=86_400.5, total_evaluation_time_seconds="90.25"))
    read = read_lm_eval(copy, Wishes())
    assert (read.started, read.finished) == (
        "1970-01-02T00:00:00+00:00",
        "1970-01-02T00:01:30+00:00",
    )
    assert read.seconds == 90.25


def _odd_tables(folder: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for key in ("versions", "n-shot", "higher_is_better", "config", "n-samples", "task_hashes"):
            content[key] = None
        content["configs"]["quiz"] |= {"metric_list": 7, "filter_list": "x", "output_type": []}

    change_results(folder, change)


def _odd_texts(folder: Path) -> None:
    def change(rows: list[dict[str, Any]]) -> None:
        rows[0] |= {"arguments": {"gen_args_0": []}, "resps": None, "target": None}
        rows[1] |= {"arguments": 3, "filtered_resps": {"a": 1}, "doc": "no table"}
        rows[2] |= {
            "arguments": [["\ud800", "\ud800"]],
            "target": ["\ud800"],
            "doc": {"a": math.inf},
        }

    change_rows(folder, "quiz", change)


@pytest.mark.parametrize("change", [_odd_tables, _odd_texts])
def test_what_is_not_as_lm_eval_writes_it_does_not_stop_the_numbers(
    copy: Path, written: Path, change: Callable[[Path], None]
) -> None:
    change(copy)
    read = tasks(copy)["quiz"]
    assert len(list(read.samples())) == DOCUMENTS
    assert values(read, "acc") == values(tasks(written)["quiz"], "acc")


def test_a_number_beyond_the_largest_is_ungraded(copy: Path) -> None:
    def beyond(rows: list[dict[str, Any]]) -> None:
        rows[0]["characters"] = 10**400

    change_rows(copy, "tickets", beyond)
    change_results(copy, lambda c: c["results"]["tickets"].update({"characters,none": math.inf}))
    found = next(tasks(copy)["tickets"].samples()).scores["characters"]
    assert isinstance(found, Unscored)
    assert found.reason == "what was recorded is no finite number"
