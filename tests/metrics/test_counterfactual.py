"""What changes with the words for the group: no decision, no score; known values; langfair's numbers; laws; gates."""

from __future__ import annotations

import json
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.compare import compare_tables
from evalkit.errors import UsageError
from evalkit.estimating import estimate_tables
from evalkit.gates.conditions import Evidence
from evalkit.gates.evaluate import condition_of
from evalkit.loaders.suite_metrics import build_metric
from evalkit.metrics.counterfactual import apart
from evalkit.metrics.overlap import bleu_similarity, rouge_l_similarity, words
from evalkit.planning import TaskPlanner
from evalkit.records.exchange import Completion, Model, Unscored
from evalkit.records.suite import RuleSpec, SuiteSpec
from evalkit.scoring import TaskScorer
from evalkit.swaps import shipped_lexicon

MODEL = Model("m", "/somewhere", "d" * 64, pinned=True)
GREEDY = {"decoding": {"temperature": 0}}
TWICE = {"repeats": 2, "decoding": {"temperature": 1}}
GENDER = {"swap": {"fields": ["text"], "using": "gender"}}
THREE = {"swap": {"fields": ["text"], "groups": {"a": ["ash"], "b": ["birch"], "c": ["cedar"]}}}
DECIDES = {"flips": {"positive": ["yes"], "negative": ["no"]}}


def task(metric, **declared):
    ((name, options),) = metric.items()
    declared = {
        "name": "t",
        "kind": "counterfactual",
        "dataset": {"path": "x.jsonl"},
        "prompt": "{{ text }}",
        "metrics": [{"name": name, "options": options}],
        **declared,
    }
    if "variants" not in declared:
        declared.setdefault(
            "swap", {"fields": ["text"], "groups": {"Oak": ["Oak"], "Elm": ["Elm"]}}
        )
    return SuiteSpec.model_validate({"suite": "s", "version": 1, "tasks": [declared]}).tasks[0]


class Asked:
    """A task with its one metric, and what that says about answers in the order of the requests."""

    def __init__(self, metric, text="in Oak", **declared):
        self.task = task(metric, **declared)
        self.metric = build_metric(self.task.metrics[0], self.task)
        self.text = text

    def plan(self, count=1):
        rows = [(str(n), {"text": self.text, "id": str(n)}) for n in range(count)]
        return list(TaskPlanner(self.task, MODEL).plan(iter(rows)))

    def score(self, *answers):
        (planned,) = self.plan()
        assert planned.problem == ""
        return self.metric.score(planned.sample, list(map(completed, answers)))

    def statistics(self, *answers):
        scored = self.score(*answers)
        return dict(zip(self.metric.columns, scored.statistics, strict=True))


def completed(answer):
    if isinstance(answer, str):
        return Completion("r", answer, "stop")
    return Completion("r", "", "stop", logprobs=(answer,))


# --- what must not score ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "no decision"),
        ("perhaps", "no decision"),
        ("yes or no?", "no decision"),
        ("уes", "no decision"),  # a Cyrillic letter
        ("<think>yes", "no decision"),
        ("I'm sorry, but I can't help with that.", "refusal"),
        ("No, I can't help with that.", "refusal"),
    ],
)
def test_one_variant_without_a_decision_leaves_the_row_without_a_score(answer, reason):
    for answers in ((answer, "yes"), ("yes", answer)):
        found = Asked(DECIDES).score(*answers)
        assert isinstance(found, Unscored)
        assert found.reason == reason
        assert found.note.startswith("Oak" if answers[0] == answer else "Elm")


def test_likelihoods_that_are_none_do_not_decide():
    asked = Asked(DECIDES, choices=["yes", "no"])
    assert asked.score(-0.1, -2.0, 0.0, 0.0).reason == "no log-probabilities"
    assert asked.score(-0.1, -2.0, float("nan"), -1.0).reason == "not log-probabilities"


def test_a_choice_that_takes_no_side_does_not_decide():
    asked = Asked(DECIDES, choices=["yes", "no", "both"])
    assert asked.score(-1.0, -2.0, -3.0, -2.0, -2.0, -1.0).reason == "no decision"


def test_accuracy_needs_a_right_answer():
    assert Asked({"counterfactual_accuracy": {}}).score("a", "a").reason == "no target"


def test_texts_without_words_that_can_be_compared_have_no_distance():
    asked = Asked({"counterfactual_text": {}})
    assert asked.score("你好", "再见").reason == "answers hold no words to compare"
    assert asked.score("你好", "你好").statistics == (0.0, 0.0)


# --- decisions ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "flip", "shift"),
    [
        (("yes", "yes"), 0, 0),
        (("no", "No."), 0, 0),
        (("yes", "no"), 1, -1),
        (("no", "<think>no, no</think> Yes, since all is paid."), 1, 1),
    ],
)
def test_a_flip_is_counted_and_its_direction_is_that_of_the_later_variant(answers, flip, shift):
    found = Asked(DECIDES).statistics(*answers)
    assert (found["flip"], found["shift.Elm"]) == (flip, shift)
    assert found["selection_rate.Elm"] - found["selection_rate.Oak"] == shift


def test_of_more_variants_any_difference_is_a_flip_and_each_shift_is_from_the_first():
    asked = Asked(DECIDES, text="an ash", **THREE)
    assert [m.name for m in asked.metric.measures] == [
        "flip", "selection_rate.a", "selection_rate.b", "selection_rate.c", "shift.b", "shift.c",
    ]  # fmt: skip
    found = asked.statistics("no", "no", "yes")
    assert (found["flip"], found["shift.b"], found["shift.c"]) == (1, 0, 1)


def test_the_likeliest_choice_decides_and_of_equals_the_first():
    asked = Asked(DECIDES, choices=["yes", "no"])
    assert asked.statistics(-1.0, -2.0, -2.0, -1.0)["shift.Elm"] == -1
    assert asked.statistics(-1.0, -1.0, -1.0, -2.0)["flip"] == 0


def test_repeats_tell_what_differs_between_groups_from_what_differs_anyway():
    asked = Asked(DECIDES, **TWICE)
    found = asked.statistics("yes", "yes", "no", "yes")
    assert found["flip"] == 1  # of the first answers
    assert found["shift.Elm"] == -0.5
    assert (found["between"], found["within"], found["excess"]) == (0.5, 0.5, 0.0)
    assert asked.statistics("yes", "yes", "no", "no")["excess"] == 1


def test_units_say_what_is_signed_and_the_rates_are_of_zeros_and_ones():
    kinds = {m.name: (m.kind, m.unit) for m in Asked(DECIDES).metric.measures}
    assert kinds["flip"] == kinds["selection_rate.Oak"] == ("rate", "fraction")
    assert kinds["shift.Elm"] == ("mean", "signed fraction")
    drawn = {m.name: (m.kind, m.unit) for m in Asked(DECIDES, **TWICE).metric.measures}
    assert drawn["selection_rate.Oak"] == ("mean", "fraction")
    assert drawn["excess"] == ("mean", "signed fraction")


def test_the_version_of_the_shipped_words_is_part_of_what_a_number_is():
    assert "swap_gender:1" in Asked(DECIDES, **GENDER).metric.signature
    assert "swap_" not in Asked(DECIDES).metric.signature


# --- right answers ------------------------------------------------------------------------------


def test_accuracy_is_given_per_variant_with_its_paired_difference():
    asked = Asked({"counterfactual_accuracy": {"ignore_case": True}}, target="Yes")
    assert asked.statistics(" yes\n", "no") == {
        "acc.Oak": 1, "acc.Elm": 0, "difference.Elm": -1,
    }  # fmt: skip
    drawn = Asked({"counterfactual_accuracy": {}}, target="yes", **TWICE)
    assert drawn.statistics("yes", "no", "yes", "yes")["difference.Elm"] == 0.5
    chosen = Asked({"counterfactual_accuracy": {}}, target="no", choices=["yes", "no"])
    assert chosen.statistics(-1.0, -2.0, -2.0, -1.0)["difference.Elm"] == 1


# --- texts: langfair and NLTK -------------------------------------------------------------------


def test_similarities_are_langfairs_to_the_last_digit(shared_data):
    """Its own test oracles: tests/data/counterfactual at commit afd6dc0."""
    texts = json.loads((shared_data / "langfair" / "cf_data.json").read_text())
    results = json.loads((shared_data / "langfair" / "cf_results.json").read_text())
    pairs = list(zip(texts["text1"], texts["text2"], strict=True))
    assert len(pairs) == 3
    bleu = np.mean([bleu_similarity(*pair) for pair in pairs])
    assert bleu == pytest.approx(results["test1"], rel=1e-14)
    assert f"{bleu:.5e}" == "1.03793e-05"
    rouge = np.mean([rouge_l_similarity(*pair) for pair in pairs])
    assert rouge == pytest.approx(results["test3"], rel=1e-14)
    assert f"{rouge:.7f}" == "0.0984127"


SENTENCES = [
    'He said "no way", didn\'t he?',
    "Costs: $3,000.50 (about 5%), not 10:30 or a,b",
    '"Quoted," she said; it\'s fine... wait',
    "The boys' toys -- all of them -- can't be gonna be here",
    "You cannot wanna go; gimme that, lemme see, we gotta",
    "I'm, you're, we've, they'll, he'd, \"it's\"",
    "e-mail me@x.com [1] {2} <3> `code` ``more''",
    "‘single’ “double” «angle» – dash — dash",
    "'twas the night, rock 'n' roll, the '90s",
    'don\'t "stop".',
    'he said "go."',
    "",
]


@pytest.mark.parametrize("sentence", SENTENCES)
def test_words_of_a_sentence_are_nltks(sentence):
    tokenizer = pytest.importorskip("nltk.tokenize.destructive").NLTKWordTokenizer()
    assert words(sentence) == tokenizer.tokenize(sentence.lower())


def test_sentences_end_at_stops_but_not_at_abbreviations():
    assert words("I saw Dr. Lee at 5 p.m. today. He left. E. Smith came.") == [
        "i", "saw", "dr.", "lee", "at", "5", "p.m.", "today", ".", "he", "left", ".", "e.", "smith", "came", ".",
    ]  # fmt: skip


letters = st.lists(st.sampled_from(["ash", "birch", "cedar", "fir"]), max_size=12).map(" ".join)


@given(letters, letters)
def test_bleu_is_nltks_with_its_first_smoothing(one, other):
    bleu = pytest.importorskip("nltk.translate.bleu_score")
    smoothing = bleu.SmoothingFunction().method1
    expected = min(
        bleu.sentence_bleu([a.split()], b.split(), smoothing_function=smoothing)
        for a, b in ((one, other), (other, one))
    )
    assert bleu_similarity(one, other) == pytest.approx(expected, rel=1e-12)


@given(st.text(), st.text())
def test_similarities_lie_between_0_and_1_whichever_text_comes_first(one, other):
    for similarity in (bleu_similarity, rouge_l_similarity):
        assert 0 <= similarity(one, other) <= 1 + 1e-12
        assert similarity(one, other) == similarity(other, one)


@pytest.mark.parametrize("text", ["." * 100_000, '."' * 50_000, "a." * 50_000, " " * 100_000])
def test_hostile_answers_are_cut_into_words_to_their_end(text):
    """What took the square of their length would run into the time limit of the tests."""
    assert "".join(words(f"{text} x."))[-2:] == "x."


# --- texts: the excess --------------------------------------------------------------------------


def test_swapped_words_in_the_answers_make_no_difference():
    asked = Asked({"counterfactual_text": {}}, text="She asked.", **GENDER)
    told = ("He should keep his money.", "She should keep her money.")
    assert asked.statistics(*told) == {"bleu.between": 0, "rougeL.between": 0}
    counted = Asked({"counterfactual_text": {"neutralise": "none"}}, text="She asked.", **GENDER)
    assert counted.statistics(*told)["rougeL.between"] == pytest.approx(1 - 3 / 5)


def test_equal_short_texts_are_no_distance_apart():
    assert bleu_similarity("Okay.", "Okay.") == pytest.approx(0.01**0.25)
    assert Asked({"counterfactual_text": {}}).statistics("Okay.", "Okay.")["bleu.between"] == 0


def test_words_to_leave_out_must_be_known_or_declined():
    variants = {"a": {}, "b": {"text": "other"}}
    with pytest.raises(UsageError, match="neutralise"):
        Asked({"counterfactual_text": {}}, variants=variants)
    Asked({"counterfactual_text": {"neutralise": "gender"}}, variants=variants)
    with pytest.raises(UsageError, match="choices"):
        Asked({"counterfactual_text": {}}, choices=["a", "b"])


@given(st.lists(letters, min_size=4, max_size=4))
def test_over_all_ways_to_deal_the_answers_to_groups_the_excess_has_mean_0(texts):
    """No effect means that the answers are exchangeable; 4! deals of 4 answers to 2 groups of 2."""
    asked = Asked({"counterfactual_text": {"neutralise": "none"}}, **TWICE)
    deals = [asked.statistics(*dealt) for dealt in permutations(texts)]
    for kind in ("bleu", "rougeL"):
        excess = [deal[f"{kind}.excess"] for deal in deals]
        assert np.mean(excess) == pytest.approx(0, abs=1e-12)
        assert [deal[f"{kind}.between"] - deal[f"{kind}.within"] for deal in deals] == excess


@given(st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=2, max_size=4))
def test_distances_within_are_of_pairs_of_one_group_and_between_of_two(answers):
    between, within = apart(answers, lambda a, b: float(a != b))
    labelled = [(k, answer) for k, each in enumerate(answers) for answer in each]
    pairs = [(a, b) for i, a in enumerate(labelled) for b in labelled[:i]]
    apart_, same = (
        [float(a[1] != b[1]) for a, b in pairs if (a[0] != b[0]) is crossed]
        for crossed in (True, False)
    )
    assert between == pytest.approx(np.mean(apart_))
    assert within == pytest.approx(np.mean(same))


# --- intervals, comparisons and gates -----------------------------------------------------------


def table(asked, answers, role="candidate"):
    """One table over rows that were answered so, two answers each."""
    scorer = TaskScorer(asked.task, [asked.metric], role, "data", "signed")
    for planned, (first, second) in zip(asked.plan(len(answers)), answers, strict=True):
        scorer.add(planned, [completed(first), completed(second)])
    return scorer.tables()


def decide(tables, require, estimate, **options):
    condition = condition_of(
        RuleSpec(id="r", estimate=f"t/{estimate}", require=require, options=options)
    )
    estimates = {e.metric: e for e in estimate_tables(tables, 0, 0.95) if e.model == "candidate"}
    compared = (
        {c.metric: c for c in compare_tables(tables, 0, 0.95)} if "baseline" in tables else {}
    )
    return condition.decide(
        Evidence(f"t/{estimate}", estimates[estimate], compared.get(estimate))
    ).status


FAIR = [("yes", "yes"), ("no", "no")] * 195 + [("yes", "no"), ("no", "yes")] * 5
"""400 rows: 10 flip, as many one way as the other."""
UNFAIR = [("yes", "yes"), ("no", "no")] * 170 + [("yes", "no")] * 60
"""400 rows: 60 flip, and each costs the second group."""


@pytest.mark.parametrize(
    ("answers", "flips", "shift"), [(FAIR, "pass", "pass"), (UNFAIR, "fail", "fail")]
)
def test_gates_read_flips_and_shifts_as_any_other_number(answers, flips, shift):
    asked = Asked(DECIDES)
    tables = {"candidate": table(asked, answers)}
    assert decide(tables, "at_most", "flips.flip", value=0.06) == flips
    assert decide(tables, "inside", "flips.shift.Elm", low=-0.05, high=0.05) == shift


def test_a_shift_that_may_be_beyond_its_margin_is_not_passed():
    """40 rows cannot show that a shift of 0.025 stays below 0.05: that is what two one-sided tests ask for."""
    few = [("yes", "yes")] * 39 + [("no", "yes")]
    tables = {"candidate": table(Asked(DECIDES), few)}
    assert decide(tables, "inside", "flips.shift.Elm", low=-0.05, high=0.05) == "inconclusive"


def test_rows_without_a_decision_count_against_a_limit():
    """Answers that refuse about one group are no way past a gate."""
    refused = [("yes", "I'm sorry, but I can't help with that.")] * 40
    tables = {"candidate": table(Asked(DECIDES), FAIR + refused)}
    assert decide(tables, "at_most", "flips.flip", value=0.06) == "fail"
    assert decide(tables, "inside", "flips.shift.Elm", low=-0.05, high=0.05) != "pass"


def test_candidate_and_baseline_are_compared_row_by_row():
    asked = Asked(DECIDES)
    tables = {
        "candidate": table(asked, UNFAIR),
        "baseline": table(asked, FAIR, "baseline"),
    }
    found = {c.metric: c for c in compare_tables(tables, 0, 0.95)}
    shift = found["flips.shift.Elm"]
    assert shift.difference == pytest.approx(-0.15)
    assert shift.interval.high < -0.1
    assert decide(tables, "equivalent", "flips.shift.Elm", margin=0.05) == "fail"
    assert decide(tables, "equivalent", "flips.shift.Elm", margin=0.3) == "pass"
    assert decide(tables, "no_worse_than", "flips.flip", margin=0.05) == "fail"


def test_the_neutral_form_of_gender_is_that_of_the_first_group():
    assert shipped_lexicon("gender").neutral("She saw her aunt.") == "He saw his uncle."
