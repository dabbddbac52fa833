"""What annotators get: blinded, shuffled, and complete."""

from __future__ import annotations

import json

import pytest
from review_worlds import LABELS, SCALE, suite

from evalkit.errors import UsageError
from evalkit.records.review import DrawnTask
from evalkit.reviewing import exported, refuse_unreviewable, shown_answers

N = 30


def row(n, model, text, **changes):
    return {
        "model": model,
        "task": "write",
        "id": f"sample-{n:03}",
        "prompt": f"Say {n}",
        "targets": [f"right {n}"],
        "answers": [{"text": text, "finish_reason": "stop"}],
        "scores": {"exact_match": {"value": 0.987654}},
        **changes,
    }


def made(rows, seed=0, samples=None):
    ids = samples or sorted({r["id"] for r in rows})
    by: dict = {}
    for each in rows:
        by.setdefault(each["model"], {})[each["task"], each["id"]] = each
    task = DrawnTask(task="write", review=SCALE, drawn=len(ids), of=len(ids))
    return exported([task], {"write": ids}, by, scorecard="c" * 64, draw="uniform", seed=seed)


def both(n):
    return [row(n, "candidate", f"good {n}"), row(n, "baseline", f"poor {n}")]


ROWS = [each for n in range(N) for each in both(n)]


def test_an_item_says_nothing_of_model_sample_or_score():
    text = json.dumps([item.model_dump() for item in made(ROWS).items])
    assert not [w for w in ("candidate", "baseline", "sample-", "0.987654") if w in text]


def test_an_items_id_cannot_be_told_from_its_sample_and_changes_with_the_seed():
    one, two = (
        {a.sample + a.models[0]: a.item for a in made(ROWS, seed).review.answers} for seed in (0, 1)
    )
    assert not set(one.values()) & set(two.values())
    assert len(set(one.values())) == 2 * N


def test_no_spreadsheet_takes_an_id_for_a_number():
    found = made(ROWS)
    assert all(item.item[0] == "i" for item in found.items)
    assert found.review.id[0] == "r"


def test_the_order_of_items_tells_neither_sample_nor_model():
    """Sorted, or model by model, the order would give both away; shuffled it correlates with neither."""
    answers = made(ROWS).review.answers
    assert [a.sample for a in answers] != sorted(a.sample for a in answers)
    first = [a.models[0] for a in answers][:N].count("candidate")
    assert 5 < first < 25


def test_the_same_seed_gives_the_same_review_in_any_order_of_rows():
    assert made(ROWS) == made(ROWS[::-1])


def test_equal_answers_of_both_models_are_one_item():
    rows = [row(1, "candidate", "same"), row(1, "baseline", "same")]
    (answer,) = made(rows).review.answers
    assert answer.models == ("candidate", "baseline")


def test_equal_answers_to_different_prompts_are_two_items():
    rows = [row(1, "candidate", "same"), row(1, "baseline", "same", prompt="another")]
    assert len(made(rows).items) == 2


def test_a_sample_that_failed_stays_in_the_key_and_shows_no_item():
    failed = {"failed": {"kind": "timeout", "message": "", "attempts": 3}, "answers": []}
    rows = [row(1, "candidate", "", **failed), row(1, "baseline", "fine")]
    found = made(rows)
    assert [item.answer for item in found.items] == ["fine"]
    assert {a.models[0]: a.failed for a in found.review.answers} == {
        "baseline": "",
        "candidate": "timeout",
    }
    assert len(list(shown_answers(found.review))) == 1


def test_a_sample_the_baseline_never_had_is_told():
    found = made([row(1, "candidate", "fine"), row(2, "baseline", "x")], samples=["sample-001"])
    assert found.review.answers[1].failed == "the run has no such sample of this model"


def test_of_several_answers_both_models_show_the_same_one_and_all_are_shown_in_turn():
    answers = [{"text": f"a{k}", "finish_reason": "stop"} for k in range(4)]
    rows = [r | {"answers": answers} for n in range(40) for r in both(n)]
    found = made(rows).review.answers
    by = {(a.sample, m): a.answer for a in found for m in a.models}
    assert all(by[s, "candidate"] == by[s, "baseline"] for s, _ in by)
    assert set(by.values()) == {0, 1, 2, 3}


def test_chat_messages_are_shown_with_who_speaks():
    talk = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
    held = row(1, "candidate", "Hi") | {"messages": talk}
    del held["prompt"]
    assert made([held]).items[0].prompt == "system: Be kind.\n\nuser: Hello"


def test_of_a_multiple_choice_task_the_likeliest_choice_is_the_answer():
    held = row(1, "candidate", "") | {
        "choices": ["red", "blue"],
        "targets": ["1"],
        "answers": [{"logprob": -3.0, "tokens": 1}, {"logprob": -0.5, "tokens": 1}],
    }
    (item,) = made([held]).items
    assert (item.answer, item.targets) == ("blue", ("blue",))


def test_of_a_counterfactual_task_the_prompt_of_the_shown_variant_is_shown():
    held = row(1, "candidate", "") | {
        "variants": {"a": {"prompt": "about a"}, "b": {"prompt": "about b"}},
        "answers": [{"variant": v, "text": f"on {v}", "finish_reason": "stop"} for v in "ab"],
    }
    (item,) = made([held]).items
    assert item.prompt[-1] == item.answer[-1]


def test_likelihoods_are_nothing_that_people_could_rate():
    task = suite(LABELS).sampled[0]
    refuse_unreviewable(task)
    with pytest.raises(UsageError, match="likelihoods"):
        refuse_unreviewable(task.model_copy(update={"kind": "perplexity"}))
