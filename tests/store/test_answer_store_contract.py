"""What holds for every answer store."""

from __future__ import annotations

import hashlib

import pytest

from evalkit.records.exchange import Completion
from evalkit.store.answers import SqliteAnswers


def answer(name: str, text: str = "yes") -> Completion:
    return Completion(hashlib.sha256(name.encode()).hexdigest(), text, "stop")


@pytest.fixture(params=[SqliteAnswers])
def store(request, tmp_path):
    with request.param(tmp_path / "answers.sqlite") as opened:
        yield opened


def test_an_empty_store_knows_nothing(store):
    assert store.get([answer("a").request_id]) == {}


def test_asking_for_nothing_gives_nothing(store):
    assert store.get([]) == {}


@pytest.mark.parametrize("flushed", [True, False])
def test_what_was_put_is_found(store, flushed):
    store.put(answer("a"))
    if flushed:
        store.flush()
    assert store.get([answer("a").request_id, answer("b").request_id]) == {
        answer("a").request_id: answer("a")
    }


@pytest.mark.parametrize("flushed", [True, False])
def test_the_first_answer_stays(store, flushed):
    store.put(answer("a", "first"))
    if flushed:
        store.flush()
    store.put(answer("a", "second"))
    store.flush()
    (found,) = store.get([answer("a").request_id]).values()
    assert found.text == "first"


def test_asking_twice_for_the_same_gives_it_once(store):
    store.put(answer("a"))
    assert len(store.get([answer("a").request_id] * 3)) == 1


@pytest.mark.parametrize("count", [1, 499, 500, 501, 2500])
def test_any_number_is_found_in_one_call(store, count):
    answers = {a.request_id: a for a in (answer(f"n{n}", str(n)) for n in range(count))}
    for each in answers.values():
        store.put(each)
    assert store.get(list(answers)) == answers


def test_flushing_twice_is_flushing_once(store):
    store.put(answer("a"))
    store.flush()
    store.flush()
    assert len(store.get([answer("a").request_id])) == 1
