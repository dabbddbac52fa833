from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from evalkit.backends.replay import ReplayArgs, ReplayBackend
from evalkit.errors import Fault, RunError, UsageError
from evalkit.records.exchange import Completion, Decoding, Request

GREEDY = Decoding(8, 0.0, 1.0, (), None)


def _backend(place: Path) -> ReplayBackend:
    def find_checkpoint(name: str) -> Any:
        raise AssertionError("recorded answers have no checkpoint")

    return ReplayBackend.from_model(str(place), ReplayArgs(), find_checkpoint)


def _write(path: Path, *records: Any) -> Path:
    lines = (r if isinstance(r, str) else json.dumps(r) for r in records)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


class _Silent:
    def step(self, text: str) -> None: ...
    def advance(self, done: int, total: int | None, failed: int = 0) -> None: ...


def _ask(place: Path, *requests: Request) -> list[Completion]:
    async def main() -> list[Completion]:
        backend = _backend(place)
        try:
            await backend.open(_Silent())
            return list(await backend.answer(requests))
        finally:
            await backend.close()

    return asyncio.run(main())


def _generate(sample: str, task: str = "task", replicate: int = 0) -> Request:
    return Request(
        f"id-{sample}", sample, task, "generate", "a prompt", decoding=GREEDY, replicate=replicate
    )


def _choice(sample: str, continuation: str) -> Request:
    return Request("id", sample, "task", "loglikelihood", "a prompt", continuation=continuation)


def test_an_answer_is_found_by_sample_and_not_by_prompt(tmp_path: Path) -> None:
    file = _write(
        tmp_path / "a.jsonl",
        {
            "sample_id": "2",
            "text": "two",
            "finish_reason": "length",
            "prompt": "other",
            "latency": 3,
        },
        "",
        {"id": 1, "text": "eins ü🙂\n"},
    )
    one, two = _ask(file, _generate("1"), _generate("2"))
    assert (one.request_id, one.text, one.finish_reason) == ("id-1", "eins ü🙂\n", "stop")
    assert (two.text, two.finish_reason, two.latency_s) == ("two", "length", 0.0)


def test_equal_prompts_of_two_samples_are_two_requests(tmp_path: Path) -> None:
    assert _backend(_write(tmp_path / "a.jsonl", {"id": "1", "text": ""})).model.per_sample


def test_replicates_and_tasks_are_told_apart(tmp_path: Path) -> None:
    file = _write(
        tmp_path / "a.jsonl",
        {"id": "1", "text": "any task"},
        {"id": "1", "text": "second", "replicate": 1},
        {"id": "1", "text": "of task b", "task": "b"},
    )
    answers = _ask(file, _generate("1", "a"), _generate("1", "a", 1), _generate("1", "b"))
    assert [a.text for a in answers] == ["any task", "second", "of task b"]


def test_a_folder_holds_a_file_for_each_task(tmp_path: Path) -> None:
    _write(tmp_path / "a.jsonl", {"id": "1", "text": "in a"})
    _write(tmp_path / "b.jsonl", {"id": "1", "text": "in b", "task": "b"})
    answers = _ask(tmp_path, _generate("1", "a"), _generate("1", "b"))
    assert [a.text for a in answers] == ["in a", "in b"]
    with pytest.raises(Fault):
        _ask(tmp_path, _generate("1", "c"))
    _write(tmp_path / "b.jsonl", {"id": "1", "text": "in b", "task": "a"})
    with pytest.raises(UsageError, match=r"b\.jsonl:1: .*task 'a'"):
        _ask(tmp_path, _generate("1", "a"))


def test_a_choice_is_found_by_its_text_whatever_the_delimiter(tmp_path: Path) -> None:
    file = _write(
        tmp_path / "a.jsonl",
        {"id": "1", "choice": "blue", "logprobs": [-0.5, -1.25]},
        {"id": "1", "choice": "light blue", "logprobs": [-3]},
    )
    blue, light = _ask(file, _choice("1", " blue"), _choice("1", "\nlight blue"))
    assert blue.logprobs == (-0.5, -1.25)
    assert light.logprobs == (-3.0,)
    with pytest.raises(Fault, match="for the choice 'red'"):
        _ask(file, _choice("1", " red"))


def test_a_text_is_scored_by_its_recorded_logprobs(tmp_path: Path) -> None:
    file = _write(tmp_path / "a.jsonl", {"id": "1", "logprobs": [-2.3, -0.7]})
    (answer,) = _ask(file, Request("id", "1", "task", "rolling", "a text"))
    assert answer.logprobs == (-2.3, -0.7)


@pytest.mark.parametrize(
    ("record", "request_"),
    [
        ({"id": "2", "text": "x"}, _generate("1")),
        ({"id": "1", "text": "x", "replicate": 1}, _generate("1")),
        ({"id": "1", "text": "x", "task": "other"}, _generate("1")),
        ({"id": "1", "text": "x"}, Request("id", "1", "task", "rolling", "a text")),
        ({"id": "1", "logprobs": [-1.0]}, _generate("1")),
        ({"id": "1", "choice": "b", "logprobs": [-1.0]}, _generate("1")),
    ],
)
def test_what_was_not_recorded_is_a_fault_and_no_empty_answer(
    tmp_path: Path, record: Any, request_: Request
) -> None:
    with pytest.raises(Fault) as caught:
        _ask(_write(tmp_path / "a.jsonl", record), request_)
    assert caught.value.kind == "no_answer"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "Invalid JSON"),
        ("[1]", "object"),
        ('{"text": "x"}', "sample_id"),
        ('{"id": "1"}', "needs 'text' or 'logprobs'"),
        ('{"id": "1", "text": null}', "text"),
        ('{"id": "1", "text": 3}', "text"),
        ('{"id": 1.5, "text": "x"}', "id: "),
        ('{"id": "1", "choice": "x", "text": "x"}', "needs 'logprobs'"),
        ('{"id": "1", "logprobs": [0.5]}', "less than or equal to 0"),
        ('{"id": "1", "logprobs": [NaN]}', "logprobs"),
        ('{"id": "1", "logprobs": ["-1"]}', "logprobs"),
        ('{"id": "1", "text": "x", "replicate": -1}', "replicate"),
        ('{"id": "1", "text": "x", "finish_reason": "eos"}', "finish_reason"),
        ('{"id": 7, "text": "first is on line 1"}', "the same answer is on line 1"),
    ],
)
def test_a_malformed_line_is_told_with_file_and_line(
    tmp_path: Path, line: str, message: str
) -> None:
    file = _write(tmp_path / "a.jsonl", {"id": "7", "text": "x"}, line)
    with pytest.raises(UsageError) as caught:
        _ask(file, _generate("7"))
    (problem,) = caught.value.problems
    assert (problem.file, problem.line) == (str(file), 2)
    assert message in str(problem)


def test_every_malformed_line_is_told_at_once(tmp_path: Path) -> None:
    file = _write(
        tmp_path / "a.jsonl", "{", {"id": "1", "text": "x"}, "nothing", {"id": "1", "text": "y"}
    )
    with pytest.raises(UsageError) as caught:
        _ask(file, _generate("1"))
    assert [problem.line for problem in caught.value.problems] == [1, 3, 4]


def test_identity_is_the_bytes_of_the_answers(tmp_path: Path) -> None:
    file = _write(tmp_path / "a.jsonl", {"id": "1", "text": "x"})
    known = _backend(file).model
    assert known.pinned
    assert _backend(Path(file.rename(tmp_path / "b.jsonl"))).model.digest == known.digest
    _write(tmp_path / "b.jsonl", {"id": "1", "text": "y"})
    assert _backend(tmp_path / "b.jsonl").model.digest != known.digest


def test_answers_that_change_before_they_are_read_are_a_run_error(tmp_path: Path) -> None:
    file = _write(tmp_path / "a.jsonl", {"id": "1", "text": "x"})
    backend = _backend(file)
    _write(file, {"id": "1", "text": "y"})
    with pytest.raises(RunError, match="was changed"):
        asyncio.run(backend.open(_Silent()))


@pytest.mark.parametrize("name", ["nowhere.jsonl", "."])
def test_a_place_without_recorded_answers_is_a_usage_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="recorded answers"):
        _backend(tmp_path / name)


def test_every_answer_of_a_large_file_is_found_again(tmp_path: Path) -> None:
    count = 3000
    records = ({"id": i, "text": "é" * (i % 50) + str(i)} for i in range(count))
    file = _write(tmp_path / "a.jsonl", *records)
    places = [*range(0, count, 7), *range(count - 1, 0, -11)]
    answers = _ask(file, *(_generate(str(i)) for i in places))
    assert [a.text for a in answers] == ["é" * (i % 50) + str(i) for i in places]
