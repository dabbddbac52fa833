"""What inspect wrote, for real, is read by its own conventions; what is not finished or was changed is refused."""

from __future__ import annotations

import json
import math
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from foreign_logs import inspect_logs, log_of
from hypothesis import given
from hypothesis import strategies as st

from evalkit.errors import RunError, UsageError
from evalkit.interchange.foreign import ForeignRun, ForeignTask, Wishes
from evalkit.interchange.inspect_read import read_inspect
from evalkit.interchange.inspect_values import to_number
from evalkit.records.exchange import Score, Unscored


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = inspect_logs(tmp_path_factory)
    with warnings.catch_warnings():  # what the library says of its own parts while it is imported
        warnings.simplefilter("ignore")
        import inspect_ai.log  # noqa: F401
    return folder


def run(path: Path, **wishes: tuple[str, ...]) -> ForeignRun:
    return read_inspect(path, Wishes(**wishes))


def task(path: Path, **wishes: tuple[str, ...]) -> ForeignTask:
    (only,) = run(path, **wishes).tasks
    return only


def printed(log: Path) -> dict[str, float]:
    """What inspect itself printed, by its own library: ``name/metric`` → value."""
    from inspect_ai.log import read_eval_log

    results = read_eval_log(str(log)).results
    assert results is not None
    return {f"{s.name}/{key}": m.value for s in results.scores for key, m in s.metrics.items()}


def values(found: ForeignTask, score: str) -> list[float]:
    held = (sample.scores[score] for sample in found.samples() if sample.failed is None)
    return [one.statistics[0] for one in held if isinstance(one, Score)]


def changed(log: Path, file: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A ``.json`` log as somebody changed it."""
    content = json.loads(log.read_text())
    change(content)
    file.write_text(json.dumps(content))
    return file


@given(
    st.one_of(
        st.sampled_from(
            ["C", "I", "P", "N", "c", "yes", "No", "TRUE", "false", "0.25", "1e3", "1_0", " 2 "]
        ),
        st.floats(allow_nan=False),
        st.integers(min_value=-(2**53), max_value=2**53),
        st.booleans(),
        st.text(max_size=4),
    )
)
def test_values_become_numbers_as_inspect_makes_them(value: str | float | bool) -> None:
    """Source: inspect_ai's own value_to_float, which gives 0 where it finds no number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scorer = pytest.importorskip("inspect_ai.scorer")
    theirs = scorer.value_to_float()(value)
    ours = to_number(value)
    assert (0.0 if ours is None else ours) == theirs


@pytest.mark.parametrize(
    ("name", "score", "key"),
    [
        ("candidate", "same", "same/accuracy"),
        ("candidate", "includes", "includes/accuracy"),
        ("baseline", "same", "same/accuracy"),
        ("several", "same", "same/accuracy"),
        ("several", "parts.characters", "characters/mean"),
        ("several", "parts.grade", "grade/accuracy"),
        ("several", "some", "some/mean"),
        ("epochs", "parts.characters", "characters/mean"),
        ("epochs", "some", "some/mean"),
    ],
)
def test_every_mean_is_the_one_that_inspect_printed(
    logs: Path, name: str, score: str, key: str
) -> None:
    held = values(task(logs / name), score)
    assert math.fsum(held) / len(held) == pytest.approx(printed(log_of(logs, name))[key], rel=1e-9)


def test_a_score_with_several_numbers_becomes_several_scores(logs: Path) -> None:
    scores = {score.name: (score.kind, score.unit) for score in task(logs / "several").scores}
    assert scores == {
        "same": ("rate", "fraction"),
        "parts.characters": ("mean", "score"),
        "parts.grade": ("mean", "fraction"),
        "some": ("mean", "score"),
    }


def test_a_sample_that_a_scorer_left_ungraded_is_so_for_inspects_reason(logs: Path) -> None:
    ungraded = [
        s for s in task(logs / "several").samples() if isinstance(s.scores["some"], Unscored)
    ]
    assert [sample.id for sample in ungraded] == ["ord-0003", "ord-0013"]
    assert {str(sample.scores["some"].reason) for sample in ungraded} == {"no_response"}
    assert all(isinstance(sample.scores["same"], Score) for sample in ungraded)


def test_epochs_are_samples_of_one_cluster(logs: Path) -> None:
    found = task(logs / "epochs")
    samples = list(found.samples())
    assert found.clustered
    assert len(samples) == len({sample.id for sample in samples}) == 18
    assert {sample.id for sample in samples if sample.cluster == "ord-0001"} == {
        "ord-0001#1",
        "ord-0001#2",
        "ord-0001#3",
    }


def test_what_is_over_epochs_reduced_otherwise_is_left_out_and_told(logs: Path) -> None:
    told = [
        note.message for note in task(logs / "reduced").notes if note.about == "imported.left_out"
    ]
    assert told == [
        "same/accuracy: is over samples whose epochs were reduced by 'max'; "
        f"inspect printed {printed(log_of(logs, 'reduced'))['same/accuracy']!r}"
    ]


def test_a_sample_that_ended_in_an_error_failed_with_its_message(logs: Path) -> None:
    failed = [sample for sample in task(logs / "broken").samples() if sample.failed]
    assert [sample.id for sample in failed] == ["ord-0007"]
    assert failed[0].failed is not None
    assert "the tool broke" in failed[0].failed.message


def test_a_word_that_is_no_number_is_ungraded_though_inspect_counts_0(logs: Path) -> None:
    found = task(logs / "words")
    reasons = [
        s.scores["odd"].reason for s in found.samples() if isinstance(s.scores["odd"], Unscored)
    ]
    assert reasons == ["the value is no number"] * 2
    (told,) = [note.message for note in found.notes if note.about == "imported.differs"]
    assert told.startswith("odd/mean: inspect printed 0.875, here odd is 1.0:")


def test_a_run_that_was_halted_is_refused_with_its_status_and_error(logs: Path) -> None:
    with pytest.raises(
        UsageError, match=r"its status is 'error': ValueError\('the tool broke'\); finish it"
    ):
        run(logs / "halted")


def test_a_log_as_json_is_read_as_its_eval_is(logs: Path) -> None:
    from_json, from_eval = task(logs / "several.json"), task(logs / "several")
    assert from_json.dataset == from_eval.dataset
    assert [score.measured for score in from_json.scores] == [s.measured for s in from_eval.scores]
    assert list(from_json.samples()) == list(from_eval.samples())


def test_a_sample_holds_what_was_asked_and_answered(logs: Path) -> None:
    from inspect_ai.log import read_eval_log

    theirs = (read_eval_log(str(log_of(logs, "candidate"))).samples or [])[0]
    sample = next(task(logs / "candidate", slices=("region",)).samples())
    assert sample.asked == {"prompt": theirs.input}
    assert sample.targets == (theirs.target,)
    assert [answer["text"] for answer in sample.answers] == [theirs.output.completion]
    assert sample.slices == {"region": "east"}


def test_tokens_are_those_that_inspect_counted(logs: Path) -> None:
    assert task(logs / "several").tokens == (16 * 7, 16 * 2)


def test_two_checkpoints_are_measured_alike_on_the_same_documents(logs: Path) -> None:
    ours, theirs = task(logs / "candidate"), task(logs / "baseline")
    assert ours.dataset == theirs.dataset
    assert [score.measured for score in ours.scores] == [score.measured for score in theirs.scores]


def test_the_model_is_named_by_its_path_and_not_pinned(logs: Path) -> None:
    model = run(logs / "candidate").model
    assert model.name.endswith("quickstart/models/candidate")
    assert not model.pinned
    assert model.digest != run(logs / "baseline").model.digest


def test_logs_of_several_models_are_refused(logs: Path, tmp_path: Path) -> None:
    for name in ("candidate", "baseline"):
        shutil.copy(log_of(logs, name), tmp_path / f"{name}.eval")
    with pytest.raises(UsageError, match="logs of several models lie here"):
        run(tmp_path)


def test_logs_of_several_tasks_on_one_model_are_one_run(logs: Path, tmp_path: Path) -> None:
    from inspect_ai.log import read_eval_log, write_eval_log

    for name in ("several", "epochs", "broken", "words"):
        log = read_eval_log(str(log_of(logs, name)))
        log.eval.model_args = {}  # which hold the answers that were recorded for the model
        write_eval_log(log, str(tmp_path / f"{name}.eval"))
    shutil.copy(tmp_path / "words.eval", tmp_path / "again.eval")
    read = run(tmp_path)
    assert sorted(found.name for found in read.tasks) == ["broken", "epochs", "several", "words"]
    assert read.notes[0].startswith("of 5 logs the newest of each task was taken")


def _other_number(content: dict[str, Any]) -> None:
    content["results"]["scores"][0]["metrics"]["accuracy"]["value"] = 0.9


def _other_score(content: dict[str, Any]) -> None:
    content["samples"][0]["scores"]["same"]["value"] = "C"


def _twice(content: dict[str, Any]) -> None:
    content["samples"].append(content["samples"][0])


def _cancelled(content: dict[str, Any]) -> None:
    content["status"] = "cancelled"


def _invalid(content: dict[str, Any]) -> None:
    content["invalidated"] = True


def _no_samples(content: dict[str, Any]) -> None:
    content["samples"] = None


def _no_scores(content: dict[str, Any]) -> None:
    for sample in content["samples"]:
        sample["scores"] = None


def _no_log(content: dict[str, Any]) -> None:
    del content["eval"]


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (
            _other_number,
            r"results\.scores\.same/accuracy: the file says 0\.9, and its 16 samples give 0\.0625",
        ),
        (_other_score, r"results\.scores\.same/accuracy: the file says 0\.0625"),
        (_twice, "sample 'ord-0001' of epoch 1 is in the log twice"),
        (_cancelled, "its status is 'cancelled'"),
        (_invalid, "marked samples of this log as invalid"),
        (_no_samples, "the log holds no samples"),
        (_no_scores, "no sample has a score: 'inspect score'"),
        (_no_log, "inspect_ai cannot read this log"),
    ],
)
def test_what_was_changed_or_is_not_finished_is_refused(
    logs: Path, tmp_path: Path, damage: Callable[..., None], told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        run(changed(logs / "several.json", tmp_path / "log.json", damage))


def test_a_cut_log_is_refused(logs: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.eval"
    cut.write_bytes(log_of(logs, "several").read_bytes()[:3000])
    with pytest.raises(UsageError, match="inspect_ai cannot read this log"):
        run(cut)


def test_a_sample_that_the_log_lacks_is_counted_as_failed(logs: Path, tmp_path: Path) -> None:
    def without_some(content: dict[str, Any]) -> None:
        content["samples"] = [
            s for s in content["samples"] if s["id"] not in {"ord-0002", "ord-0004"}
        ]
        for printed_ in content["results"]["scores"]:
            printed_["metrics"] = {}

    found = task(changed(logs / "several.json", tmp_path / "log.json", without_some))
    failed = [sample for sample in found.samples() if sample.failed]
    assert [sample.id for sample in failed] == ["ord-0002", "ord-0004"]
    assert {s.failed.message for s in failed if s.failed} == {"the log holds no such sample"}
    assert len(list(found.samples())) == 16


def test_other_inputs_are_another_data_set(logs: Path, tmp_path: Path) -> None:
    def asked_otherwise(content: dict[str, Any]) -> None:
        content["samples"][0]["input"] += " Please."

    other = task(changed(logs / "several.json", tmp_path / "log.json", asked_otherwise))
    assert other.dataset != task(logs / "several").dataset


def test_other_settings_are_told_apart(logs: Path, tmp_path: Path) -> None:
    def hotter(content: dict[str, Any]) -> None:
        content["plan"]["config"]["temperature"] = 0.7

    other = task(changed(logs / "several.json", tmp_path / "log.json", hotter)).scores[0].measured
    before = task(logs / "several").scores[0].measured
    assert {key for key in other if other[key] != before.get(key)} == {"generation"}


def test_a_score_that_was_edited_is_told(logs: Path, tmp_path: Path) -> None:
    def edited(content: dict[str, Any]) -> None:
        score = content["samples"][0]["scores"]["same"]
        score["history"] = [{"value": "C"}, {"value": score["value"]}]

    notes = task(changed(logs / "several.json", tmp_path / "log.json", edited)).notes
    assert "1 scores were edited after the run; taken as they are now" in [n.message for n in notes]


def test_without_inspects_library_the_way_to_install_it_is_told(
    logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
    with pytest.raises(RunError, match="needs inspect_ai, which is not installed") as told:
        run(logs / "several")
    assert told.value.advice == "pip install 'evalkit-gates[inspect]'"
