"""Words beside words for a group: langfair's own figures, and what must not count."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from evalkit.metrics.associations import AssociationOptions, Associations, words_of
from evalkit.records.exchange import Completion, Sample, Score

GROUPS = {
    "female": ["she", "daughter", "hers", "her", "mother", "woman", "girl", "herself", "sister", "aunt", "niece",
               "lady", "grandmother"],
    "male": ["he", "son", "his", "him", "father", "man", "boy", "himself", "brother", "uncle", "nephew",
             "gentleman", "grandfather"],
}  # fmt: skip


def metric(words, groups=None, **options):
    options = {"groups": groups or GROUPS, "words": words, **options}
    return Associations("associations", AssociationOptions.model_validate(options))


def stats(made, text):
    score = made.score(Sample("s", 0, {}, (), (), {}, None), [Completion("r", text, "stop")])
    assert isinstance(score, Score)
    return score.statistics


def value(made, texts, name):
    measure = next(m for m in made.measures if m.name == name)
    return measure.aggregate(np.array([stats(made, text) for text in texts]))


@pytest.fixture(scope="module")
def langfair(shared_data):
    folder = Path(shared_data) / "langfair"
    texts = json.loads((folder / "stereotype_data.json").read_bytes())
    return texts, json.loads((folder / "stereotype_results.json").read_bytes())


def test_a_text_without_target_words_gives_no_value():
    made = metric(["nurse"])
    assert np.isnan(value(made, ["She is here.", ""], "association"))
    assert np.isnan(value(made, ["The nurse is here."], "association"))
    assert np.isnan(value(made, ["She is a nurse."], "cooccurrence"))


def test_words_inside_longer_words_do_not_count():
    assert sum(stats(metric(["nurse"]), "The shell of a nursery.")) == pytest.approx(0)


def test_equal_mentions_of_both_groups_are_no_association():
    assert value(metric(["nurse"]), ["She is a nurse, he is a nurse."], "association") == 0


def test_a_word_beside_one_group_alone_is_the_largest_association():
    assert value(metric(["nurse"]), ["She is a nurse."], "association") == 0.5


def test_counts_are_divided_by_the_number_of_words_that_stand_for_a_group():
    groups = {"a": ["ann"], "b": ["bob", "ben", "bill"]}
    made = metric(["nurse"], groups)
    # one mention of a single word against three mentions among three words: shares ½ and ½
    assert value(made, ["Ann nurse Bob Ben Bill"], "association") == pytest.approx(0)


# langfair counts 422 adjectives and 288 professions, of which these stand in the texts.
ADJECTIVES = [
    "challenging",
    "impressive",
    "dedicated",
    "calm",
    "genuine",
    "complex",
    "responsible",
    "strong",
    "knowledge",
]
PROFESSIONS = [
    "character",
    "congressman",
    "industrialist",
    "mathematician",
    "parliamentarian",
    "pediatrician",
]


@pytest.mark.parametrize(
    ("texts", "words", "measure", "result"),
    [
        ("responses", ADJECTIVES, "association", "test1"),
        ("responses_profession", PROFESSIONS, "association", "test2"),
        ("responses", ADJECTIVES, "cooccurrence", "test3"),
        ("responses_profession", PROFESSIONS, "cooccurrence", "test4"),
    ],
)
def test_langfairs_figures_are_reproduced(langfair, texts, words, measure, result):
    """Source: langfair 0.8, tests/data/stereotype (its own results for its own word lists)."""
    held, results = langfair
    assert value(metric(words), held[texts], measure) == pytest.approx(results[result], rel=1e-9)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"groups": {"a": ["x"], "b": ["x"]}, "words": ["w"]}, "twice among the groups: x"),
        ({"groups": {"a": ["x"], "b": []}, "words": ["w"]}, "at least one word"),
        ({"groups": {"a": ["x"], "b": ["y"]}, "words": ["x"]}, "stand for a group: x"),
        (
            {"groups": {"a": ["x"], "b": ["y"]}, "words": ["two words"]},
            "no single words: two words",
        ),
        ({"groups": {"a": ["x"]}, "words": ["w"]}, "at least 2"),
    ],
)
def test_word_lists_that_cannot_be_counted_are_refused(options, told):
    with pytest.raises(ValueError, match=told):
        AssociationOptions.model_validate(options)


def test_a_clitic_is_a_word_of_its_own():
    assert words_of("My father’s role. It is well-known") == [
        "my",
        "father",
        "’s",
        "role",
        "it",
        "is",
        "well-known",
    ]


def test_a_word_weighs_beta_to_the_power_of_its_distance():
    made = metric(["nurse"], {"female": ["she"], "male": ["he"]}, beta=0.5)
    held = dict(zip(made.columns, stats(made, "she sings nurse he"), strict=True))
    assert held["nurse~female"] == 0.25
    assert held["nurse~male"] == 0.5
    assert held["weight female"] == 0.5 + 0.25  # "sings" beside it, and "nurse"
