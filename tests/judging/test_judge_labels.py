"""Labelled items from files that people write, right and wrong."""

from __future__ import annotations

import json

import pytest

from evalkit.errors import UsageError
from evalkit.judging.labels import bait, consensus
from evalkit.loaders.judge_labels import MAX_TEXT, load_labels
from evalkit.records.suite import JudgeSpec

POINTWISE = JudgeSpec(judge="quality", model="m", criteria="c", scale=(1, 5))
PAIRWISE = JudgeSpec(judge="better", model="m", criteria="c", form="pairwise")
HEAD = "question,answer,label\n"


def load(tmp_path, text, spec=POINTWISE, name="labels.csv"):
    file = tmp_path / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_labels(file, spec).items


def refused(tmp_path, text, spec=POINTWISE, name="labels.csv"):
    with pytest.raises(UsageError) as caught:
        load(tmp_path, text, spec, name)
    assert caught.value.problems and all(p.file.endswith(name) for p in caught.value.problems)
    return [str(p).removeprefix(f"{tmp_path}/") for p in caught.value.problems]


def test_a_row_is_an_item_with_its_code(tmp_path):
    (one, two) = load(tmp_path, HEAD + "q,good,5\nq,bad,1\n")
    assert (one.question.question, one.question.answers) == ("q", ("good",))
    assert [dict(item.ratings) for item in (one, two)] == [{"label": 4}, {"label": 0}]
    assert two.place == "labels.csv:3"


def test_annotators_stand_in_columns_in_rows_or_in_an_object(tmp_path):
    columns = load(tmp_path, "question,answer,label:ann,label:bob\nq,a,4,5\nq,b,,2\n")
    assert [dict(item.ratings) for item in columns] == [{"ann": 3, "bob": 4}, {"bob": 1}]
    rows = load(tmp_path, "question,answer,label,annotator\nq,a,4,ann\nq,a,5,bob\nq,b,2,bob\n")
    assert [dict(item.ratings) for item in rows] == [{"ann": 3, "bob": 4}, {"bob": 1}]
    held = {"question": "q", "answer": "a", "labels": {"ann": 4, "bob": 5.0}}
    (one,) = load(tmp_path, json.dumps(held), name="labels.jsonl")
    assert dict(one.ratings) == {"ann": 3, "bob": 4}
    (unnamed,) = load(tmp_path, HEAD + "q,a,4\nq,a,5\nq,a,4\n")
    assert sorted(unnamed.ratings.values()) == [3, 3, 4], "rows without names are by three people"


def test_pairs_are_labelled_by_letters_in_either_case(tmp_path):
    text = "question,answer_a,answer_b,label\nq,x,y,A\nq,x,z,b\nq,x,u,Tie\n"
    items = load(tmp_path, text, PAIRWISE)
    assert [dict(item.ratings) for item in items] == [{"label": 2}, {"label": 0}, {"label": 1}]
    assert items[0].question.others == ("y",)


def test_most_say_what_people_say_and_without_most_it_is_the_middle():
    assert consensus(POINTWISE, [4, 4, 0]) == 4
    assert consensus(POINTWISE, [0, 4]) == 2
    assert consensus(PAIRWISE, [2, 0]) == 1
    assert consensus(PAIRWISE, [2, 2, 0]) == 2


def test_canaries_stand_beside_the_answer_that_people_prefer(tmp_path):
    text = "question,answer_a,answer_b,label\nq,good,bad,A\nq,poor,fine,B\nq,same,same2,tie\n"
    held = bait(PAIRWISE, load(tmp_path, text, PAIRWISE))
    assert [question.others for question in held] == [("good",), ("fine",)]


def test_a_question_with_two_answers_makes_its_canaries_once(tmp_path):
    items = load(tmp_path, HEAD + "q,one,5\nq,two,1\nr,three,2\n")
    assert [question.id for question in bait(POINTWISE, items)] == ["line 2", "line 4"]


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("6", "'6'"),
        ("0", "'0'"),
        ("4.5", "'4.5'"),
        ("nan", "'nan'"),
        ("inf", "'inf'"),
        ("good", "'good'"),
        ("1e999", "'1e999'"),
        ("1_0", "'1_0'"),
        ("1e0", "'1e0'"),
    ],
)
def test_a_rating_off_the_scale_is_told_with_its_line(tmp_path, label, shown):
    (told,) = refused(tmp_path, HEAD + f"q,a,3\nq,b,{label}\n")
    assert told == f"labels.csv:3: label: found {shown}; allowed: a whole number from 1 to 5"


@pytest.mark.parametrize("value", [True, [4], {"x": 1}, 10**300, -1, 3.5])
def test_a_label_that_is_no_rating_is_told_whatever_its_type(tmp_path, value):
    row = {"question": "q", "answer": "a", "label": value}
    (told,) = refused(tmp_path, json.dumps(row), name="labels.jsonl")
    assert "labels.jsonl:1: label" in told


def test_nan_in_json_is_told_with_its_line(tmp_path):
    text = '{"question": "q", "answer": "a", "label": 4}\n{"question": "q", "answer": "b", "label": NaN}'
    (told,) = refused(tmp_path, text, name="labels.jsonl")
    assert told.startswith("labels.jsonl:2: ") and "NaN" in told


def test_all_wrong_rows_are_told_at_once(tmp_path):
    told = refused(tmp_path, HEAD + "q,a,9\n,b,3\nq,c,\nq,d,4\n")
    assert [line.split(": ")[0] for line in told] == [f"labels.csv:{n}" for n in (2, 3, 4)]
    assert "nobody rated" in told[2]


def test_wrong_columns_are_told_once_with_what_is_there(tmp_path):
    told = refused(tmp_path, "prompt,answr,label\n" + "q,a,3\n" * 100)
    assert len(told) == 2
    assert "there is no 'question'; the first row has 'prompt', 'answr', 'label'" in told[0]
    assert "did you mean 'answr'?" in told[1]


def test_labels_for_a_judge_of_the_other_form_say_so(tmp_path):
    told = refused(tmp_path, "question,answer_a,answer_b,label\nq,x,y,A\n")
    assert "these are labels for a pairwise judge, and quality is pointwise" in told[0]
    told = refused(tmp_path, HEAD + "q,a,3\n", PAIRWISE)
    assert "these are labels for a pointwise judge, and better is pairwise" in told[0]


def test_a_cell_of_ten_megabytes_is_told_without_being_shown(tmp_path):
    (told,) = refused(tmp_path, HEAD + f"q,{'x' * (10 << 20)},3\n")
    assert told == (
        f"labels.csv:2: answer: the text has 10,485,760 characters; allowed: at most {MAX_TEXT:,}"
    )
    (told,) = refused(tmp_path, HEAD + f"q,a,{'x' * (10 << 20)}\n")
    assert len(told) < 200
    assert all(len(line) < 3000 for line in refused(tmp_path, "x" * (10 << 20) + "\n1\n"))


def test_a_thousand_wrong_rows_are_counted_beyond_fifty(tmp_path):
    told = refused(tmp_path, HEAD + "".join(f"q,{n},9\n" for n in range(1000)))
    assert len(told) == 51 and "and 950 more problems" in told[-1]


def test_one_annotator_rates_an_item_once(tmp_path):
    (told,) = refused(tmp_path, "question,answer,label,annotator\nq,a,4,ann\nq,a,5,ann\n")
    assert "labels.csv:3: annotator: ann has rated this item at labels.csv:2 already" in told


def test_one_item_under_two_ids_is_not_counted_as_two(tmp_path):
    head = "id,question,answer,label\n"
    (told,) = refused(tmp_path, head + "r1,q,a,4\nr2,q,a,5\n")
    assert "labels.csv:3: id: this very item stands at labels.csv:2 under the id 'r1'" in told
    (one,) = load(tmp_path, head + "0,q,a,4\n0,q,a,5\n")
    assert (one.question.id, len(one.ratings)) == ("0", 2)


def test_a_judge_that_is_shown_the_right_answer_needs_it_on_every_row(tmp_path):
    guided = POINTWISE.model_copy(update={"reference": True})
    (told,) = refused(tmp_path, "question,answer,label,reference\nq,a,4,r\nq,b,4,\n", guided)
    assert told.startswith("labels.csv:3: reference: ")
    (one,) = load(tmp_path, "question,answer,label,reference\nq,a,4,r\n", guided)
    assert one.question.reference == "r"


def test_a_file_without_right_answers_is_told_once(tmp_path):
    guided = POINTWISE.model_copy(update={"reference": True})
    (told,) = refused(tmp_path, HEAD + "q,a,3\n" * 100, guided)
    assert "there is no 'reference'" in told and "quality is shown the right answer" in told


def test_a_spreadsheets_semicolons_separate_as_commas_do(tmp_path):
    (one,) = load(tmp_path, 'question;answer;label\n"what, then?";"this; that";4\n')
    assert (one.question.question, one.question.answers) == ("what, then?", ("this; that",))
    (one,) = load(tmp_path, "question,answer,label\nq;r,a;b;c;d,4\n")
    assert one.question.question == "q;r"


def test_a_missing_column_of_labels_names_both_ways_to_write_it(tmp_path):
    (told,) = refused(tmp_path, "question,answer,rating\nq,a,3\n")
    assert "a column label, or label:NAME for each annotator" in told


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (b"", "labels.csv"),
        (b"", "labels.jsonl"),
        (HEAD.encode(), "labels.csv"),
        (b"question,answer,label\nq,\xff,3\n", "labels.csv"),
        (b"question,answer,label\nq,a\n", "labels.csv"),
        (b'question,answer,label\nq,"a,3\n', "labels.csv"),
        (b"[" * 100_000, "labels.jsonl"),
        (b"[1, 2]", "labels.jsonl"),
        (b"PAR1\x00\x00", "labels.jsonl"),
        (b'{"question": 1, "answer": null, "label": 3}', "labels.jsonl"),
    ],
)
def test_files_that_hold_no_labels_end_in_words(tmp_path, text, name):
    assert refused(tmp_path, text, name=name)


def test_one_annotator_gives_one_label_in_a_row(tmp_path):
    for row in (
        {"label": 3, "annotator": "ann", "label:ann": 5},
        {"label:ann": 3, "label: ann ": 5},
        {"labels": {"ann": 3, "ann ": 5}},
    ):
        text = json.dumps({"question": "q", "answer": "a", **row})
        (told,) = refused(tmp_path, text, name="labels.jsonl")
        assert "'ann' has two labels: 3 and 5" in told
    same = json.dumps({"question": "q", "answer": "a", "label:ann": 3, "label: ann ": 3})
    (item,) = load(tmp_path, same, name="labels.jsonl")
    assert item.ratings == {"ann": 2}
