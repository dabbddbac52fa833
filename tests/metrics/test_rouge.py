"""ROUGE is rouge-score's to the last bit, and ROUGE-1.5.5's to the digits that it prints."""

from __future__ import annotations

import importlib.metadata
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from evalkit.metrics.rouge import Rouge, RougeOptions, f_measure, lcs_length, read
from evalkit.records.exchange import Completion, Sample, Score, Unscored

ALL = ("rouge1", "rouge2", "rouge3", "rougeL", "rougeLsum")


def build(**options):
    return Rouge("rouge", RougeOptions(**options))


def score(metric, answer, *targets):
    sample = Sample("s", 0, {}, targets, (), {}, None)
    return metric.score(sample, [Completion("r", answer, "stop")])


def by_name(metric, answer, *targets):
    return dict(zip(metric.columns, score(metric, answer, *targets).statistics, strict=True))


@pytest.fixture(scope="module")
def rouge_score():
    """rouge-score with the stemmer on and off."""
    from rouge_score.rouge_scorer import RougeScorer

    return {stem: RougeScorer(list(ALL), use_stemmer=stem) for stem in (False, True)}


def expected(library, stem, answer, targets):
    return {k: s.fmeasure for k, s in library[stem].score_multi(list(targets), answer).items()}


# --- what must not score ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        "",
        " \n ",
        "...!?",
        "I cannot help with that.",
        "<think>the dog bit a man</think>",
        "<think>the dog bit a man",
        "τһе ԁоɡ Ьіτ α mаη",  # letters that look Latin
        "собака укусила человека",
    ],
)
def test_an_answer_without_a_word_of_the_target_scores_0(answer):
    assert score(build(variants=ALL), answer, "the dog bit a man") == Score((0.0,) * 5)


def test_reasoning_is_no_part_of_the_answer():
    metric = build()
    reasoned = score(metric, "<think>was it a cat?</think> The dog.", "the dog")
    assert reasoned == score(metric, "The dog.", "the dog") == Score((1.0, 1.0, 1.0))


def test_a_sample_without_target_is_unscored():
    assert score(build(), "anything") == Unscored("no target")


@pytest.mark.parametrize("target", ["", "—", "犬が人を噛んだ", "Собака"])
def test_a_target_in_which_rouge_sees_no_word_is_unscored_not_0(target):
    result = score(build(), target, target)
    assert isinstance(result, Unscored)
    assert result.reason == "target has no ROUGE words"


def test_one_readable_target_is_enough():
    assert score(build(variants=["rouge1"]), "a dog", "犬", "a dog") == Score((1.0,))


# --- ROUGE-1.5.5 --------------------------------------------------------------------------------

# ROUGE-1.5.5 run on rouge-score's test data, as its own tests state it: line, stemmer, variant → F
PERL = [
    (0, False, "rouge1", 0.51163),
    (0, False, "rouge2", 0.39024),
    (1, False, "rouge1", 0.50000),
    (1, True, "rouge1", 0.52941),
]


@pytest.mark.parametrize(("line", "stem", "variant", "f"), PERL)
def test_f_is_that_of_rouge_1_5_5(shared_data, line, stem, variant, f):
    target, answer = (
        (shared_data / "rouge" / name).read_text("utf-8").splitlines()[line]
        for name in ("target.txt", "prediction.txt")
    )
    metric = build(variants=[variant], use_stemmer=stem)
    assert score(metric, answer, target).statistics[0] == pytest.approx(f, abs=5e-6)


def test_f_over_sentences_is_that_of_rouge_1_5_5(shared_data):
    target, answer = (
        (shared_data / "rouge" / name).read_text("utf-8")
        for name in ("target_multi.0.txt", "prediction_multi.0.txt")
    )
    metric = build(variants=["rougeLsum"], use_stemmer=True)
    assert score(metric, answer, target).statistics[0] == pytest.approx(0.47205, abs=5e-6)


# --- rouge-score --------------------------------------------------------------------------------

alphabet = st.sampled_from(
    ["a", "b", "cats", "cat", "Running", "run", "isn't", "é", "3.5", "\n", "\n\n"]
)
prose = st.one_of(st.lists(alphabet, max_size=14).map(" ".join), st.text(max_size=15)).filter(
    lambda text: "think>" not in text  # reasoning is a deviation
)


@given(prose, st.lists(prose, min_size=1, max_size=3), st.booleans())
@settings(max_examples=400)
def test_floats_are_those_of_rouge_score_on_random_text(rouge_score, answer, targets, stem):
    metric = build(variants=ALL, use_stemmer=stem)
    result = score(metric, answer, *targets)
    if isinstance(result, Unscored):
        assert not any(read(target).words for target in targets)
        assert set(expected(rouge_score, stem, answer, targets).values()) == {0}
    else:
        assert dict(zip(ALL, result.statistics, strict=True)) == expected(
            rouge_score, stem, answer, targets
        )


@pytest.mark.parametrize("stem", [False, True])
def test_floats_are_those_of_rouge_score_on_real_text(shared_data, rouge_score, stem):
    text = (shared_data / "wikitext2" / "test.txt").read_text("utf-8")
    pages = [line.strip().replace(" . ", " .\n") for line in text.splitlines() if len(line) > 300][
        :25
    ]
    rng = random.Random(11)
    metric = build(variants=ALL, use_stemmer=stem)
    for page in pages:
        sentences = page.split("\n")
        rng.shuffle(sentences)
        answer = "\n".join(
            " ".join(w for w in s.split(" ") if rng.random() < 0.7) for s in sentences
        )
        assert by_name(metric, answer, page) == expected(rouge_score, stem, answer, [page])


@given(
    st.lists(st.sampled_from("abc"), max_size=70), st.lists(st.sampled_from("abcd"), max_size=70)
)
def test_the_subsequence_is_as_long_as_dynamic_programming_finds(one, other):
    table = [[0] * (len(other) + 1)]
    for x in one:
        row = [0]
        for j, y in enumerate(other):
            row.append(table[-1][j] + 1 if x == y else max(row[j], table[-1][j + 1]))
        table.append(row)
    assert lcs_length(one, other) == lcs_length(other, one) == table[-1][-1]


# --- laws ---------------------------------------------------------------------------------------

EQUAL = "to be or not to be\nthat is the question"


@pytest.mark.parametrize("variant", ALL)
def test_a_text_matches_itself_and_f_is_symmetric(variant):
    other = read("the question is whether to be")
    assert f_measure(variant, read(EQUAL), read(EQUAL)) == 1
    if variant != "rougeLsum":
        assert f_measure(variant, read(EQUAL), other) == f_measure(variant, other, read(EQUAL))


def test_the_order_of_lines_counts_for_rouge_l_but_not_for_rouge_lsum():
    result = by_name(
        build(variants=ALL), "four words come first\nto be", "to be\nfour words come first"
    )
    assert result["rougeL"] == pytest.approx(4 / 6)
    assert result["rougeLsum"] == 1


@given(prose, prose)
def test_without_line_breaks_rouge_lsum_is_rouge_l(answer, target):
    answer, target = (read(" ".join(text.split())) for text in (answer, target))
    assert f_measure("rougeLsum", answer, target) == f_measure("rougeL", answer, target)


@given(prose, st.lists(prose, min_size=2, max_size=3))
def test_of_several_targets_each_variant_takes_its_best(answer, targets):
    metric = build(variants=ALL)
    singles = [score(metric, answer, target) for target in targets]
    scored = [single.statistics for single in singles if isinstance(single, Score)]
    together = score(metric, answer, *targets)
    if scored:
        assert together.statistics == tuple(map(max, zip(*scored, strict=True)))
    else:
        assert isinstance(together, Unscored)


def test_a_target_shorter_than_the_n_gram_scores_0_even_when_met():
    assert by_name(build(), "Yes.", "yes") == {"rouge1": 1, "rouge2": 0, "rougeL": 1}


# --- options ------------------------------------------------------------------------------------


def test_measures_are_means_named_by_their_variant():
    metric = build(variants=["rougeL", "rouge1"])
    assert [(m.name, m.kind, m.column) for m in metric.measures] == [
        ("rougeL", "mean", 0),
        ("rouge1", "mean", 1),
    ]
    assert metric.columns == ("rougeL", "rouge1")


@pytest.mark.parametrize("variants", [[], ["rouge0"], ["rouge-1"], ["rouge1", "rouge1"]])
def test_variants_that_do_not_exist_or_come_twice_are_refused(variants):
    with pytest.raises(ValidationError):
        RougeOptions(variants=variants)


def test_the_stemmer_is_part_of_the_signature_with_its_version():
    plain, stemmed = build().signature, build(use_stemmer=True).signature
    assert "use_stemmer:no" in plain
    assert "nltk" not in plain
    assert f"nltk:{importlib.metadata.version('nltk')}" in stemmed


def test_stems_match_where_words_do_not():
    assert by_name(build(), "dogs running", "dog runs")["rouge1"] == 0
    assert by_name(build(use_stemmer=True), "dogs running", "dog runs")["rouge1"] == 1
