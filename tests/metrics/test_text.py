"""BLEU, chrF and TER are sacrebleu's: its published values, and itself on random and real text."""

from __future__ import annotations

import random

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from evalkit.metrics import text
from evalkit.metrics.text import Bleu, BleuOptions, Chrf, ChrfOptions, Ter, TerOptions
from evalkit.records.exchange import Completion, Sample, Unscored

METRICS = {"bleu": Bleu, "chrf": Chrf, "ter": Ter}
LIBRARY = {"bleu": sacrebleu.BLEU, "chrf": sacrebleu.CHRF, "ter": sacrebleu.TER}


def build(name, **options):
    return METRICS[name](name, METRICS[name].Options(**options))


def score(metric, answer, targets):
    sample = Sample("s", 0, {}, tuple(targets), (), {}, None)
    return metric.score(sample, [Completion("r", answer, "stop")])


def statistics(metric, answers, targets):
    rows = [score(metric, a, t).statistics for a, t in zip(answers, targets, strict=True)]
    assert all(len(row) == len(metric.columns) for row in rows)
    return np.array(rows)


def value(metric, answers, targets):
    return metric.measures[0].aggregate(statistics(metric, answers, targets))


def library_score(name, options, answers, targets):
    """sacrebleu takes one list per reference, with None where a sample has fewer."""
    most = max(map(len, targets))
    references = [[t[k] if k < len(t) else None for t in targets] for k in range(most)]
    library = LIBRARY[name](**options)
    return library.corpus_score(answers, references).score, library


# --- what must not score ------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "worst"), [("bleu", 0), ("chrf", 0), ("ter", 100)])
@pytest.mark.parametrize(
    "answer",
    [
        "",
        " \n\t ",
        "<think>the dog bit the man</think>",
        "<think>the dog bit the man",
        "ΝΟ",  # Greek letters that look like Latin ones
        "Ѕοrry",  # Cyrillic and Greek
    ],
)
def test_an_answer_without_a_word_of_the_target_gets_the_worst_score(name, worst, answer):
    assert value(build(name), [answer], [["the dog bit the man"]]) == worst


def test_look_alike_letters_do_not_match():
    assert value(build("bleu"), ["tһe dоg bіt tһe mаn"], [["the dog bit the man"]]) == 0


def test_reasoning_is_no_part_of_the_answer():
    for name in METRICS:
        bare, reasoned = (
            value(build(name), [answer], [["the dog bit the man"]])
            for answer in (
                "a dog bit the man",
                "<think>the dog bit the man?</think>\na dog bit the man",
            )
        )
        assert bare == reasoned


@pytest.mark.parametrize("name", METRICS)
def test_a_sample_without_target_is_unscored_not_zero(name):
    assert score(build(name), "anything", []) == Unscored("no target")


@pytest.mark.parametrize("name", METRICS)
def test_a_set_without_samples_has_no_value(name):
    metric = build(name)
    assert np.isnan(metric.measures[0].aggregate(np.empty((0, len(metric.columns)))))


# --- published values ---------------------------------------------------------------------------

README_ANSWERS = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]
README_TARGETS = [
    ("The dog bit the man.", "The dog had bit the man."),
    ("It was not unexpected.", "No one was surprised."),
    ("The man bit him first.", "The man had bitten the dog."),
]
FLOOR = {"tokenize": "none", "smooth_method": "floor", "effective_order": True}

# sacrebleu, test/test_bleu.py: test_corpus_bleu_cases, test_raw_bleu_cases, test_case_effective_order
BLEU_VALUES = [
    (README_ANSWERS, README_TARGETS, {}, 48.530827),
    (["", "", ""], README_TARGETS, {}, 0.0),
    (README_ANSWERS, README_TARGETS, {"tokenize": "none"}, 49.1919566),
    (README_ANSWERS, README_TARGETS, {"tokenize": "13a"}, 48.530827),
    (README_ANSWERS, README_TARGETS, {"tokenize": "intl"}, 43.91623493),
    (README_ANSWERS, README_TARGETS, {"smooth_method": "none"}, 48.530827),
    (["this is a test"], [["this is a test"]], {**FLOOR, "smooth_value": 0.01}, 100.0),
    (["this is a fest"], [["this is a test"]], {**FLOOR, "smooth_value": 0.01}, 22.3606797749979),
    (["test"], [["a test"]], {**FLOOR, "smooth_value": 0.01}, 36.78794411714425),
    (["a little test"], [["a test"]], {**FLOOR, "smooth_value": 0.01}, 3.218297948685433),
]

RISK = (
    "risk assessment must be made of those who are qualified and expertise in the sector - these are the scientists .",
    "risk assessment has to be undertaken by those who are qualified and expert in that area"
    " - that is the scientists .",
)
OBAMA = (
    "Die Beziehung zwischen Obama und Netanjahu ist nicht gerade freundlich.",
    "Das Verhältnis zwischen Obama und Netanyahu ist nicht gerade freundschaftlich.",
)
EPS = {"beta": 3, "eps_smoothing": True}
SPACE = {"beta": 3, "whitespace": True}

# sacrebleu, test/test_chrf.py
CHRF_VALUES = [
    (["abcdefg"], ["hijklmnop"], EPS, 0.0),
    ([""], ["reference"], EPS, 0.0),
    (["aa"], ["ab"], EPS, 8.3333),
    (["a", "b"], ["a", "c"], EPS, 8.3333),
    (["a"], ["a"], EPS, 16.6667),
    (["a b c"], ["abc"], EPS, 50.0),
    ([RISK[0]], [RISK[1]], EPS, 63.361730),
    (
        ["  Die    Beziehung zwischen  Obama und Netanjahu ist nicht gerade  freundlich. "],
        [OBAMA[1]],
        EPS,
        64.1302698,
    ),
    (["a"], ["a"], {"beta": 3}, 100.0),
    (["a", "b"], ["a", "c"], {"beta": 3}, 50.0),
    (["aa"], ["ab"], {"beta": 3}, 25.0),
    (["a b c"], ["abc"], {"beta": 3}, 100.0),
    ([OBAMA[0]], [OBAMA[1]], SPACE, 67.3481606),
    ([RISK[0]], [RISK[1]], SPACE, 65.2414427),
    (
        ["Lapali po dechu, jejich životy skončily dřív, než skutečně začaly."],
        ["Lapali po dechu a pak jejich život skončil - dřív, než skutečně mohl začít, připomněli."],
        {"eps_smoothing": True},
        57.15704367,
    ),
]

# sacrebleu, test/test_ter.py
TER_VALUES = [
    ("aaaa bbbb cccc dddd", "aaaa bbbb cccc dddd", 0),
    ("dddd eeee ffff", "aaaa bbbb cccc", 100),
    ("", "a", 100),
    ("d e f g h a b c", "a b c d e f g h", 12.5),  # one shift
]


@pytest.mark.parametrize(("answers", "targets", "options", "expected"), BLEU_VALUES)
def test_bleu_is_as_published(answers, targets, options, expected):
    assert value(build("bleu", **options), answers, targets) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("answers", "targets", "options", "expected"), CHRF_VALUES)
def test_chrf_is_as_published(answers, targets, options, expected):
    result = value(build("chrf", **options), answers, [[t] for t in targets])
    assert result == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("answer", "target", "expected"), TER_VALUES)
def test_ter_is_as_published(answer, target, expected):
    assert value(build("ter"), [answer], [[target]]) == pytest.approx(expected, abs=1e-9)


# --- sacrebleu itself ---------------------------------------------------------------------------

OPTIONS = [
    ("bleu", {}),
    ("bleu", {"tokenize": "none", "lowercase": True}),
    ("bleu", {"tokenize": "char", "smooth_method": "none"}),
    ("bleu", {"tokenize": "zh", "smooth_method": "floor"}),
    ("bleu", {"tokenize": "intl", "smooth_method": "floor", "smooth_value": 0.7}),
    ("bleu", {"smooth_method": "add-k"}),
    ("bleu", {"smooth_method": "add-k", "smooth_value": 0.3, "effective_order": True}),
    ("bleu", {"effective_order": True}),
    ("bleu", {"effective_order": True, "smooth_method": "none", "max_ngram_order": 6}),
    ("chrf", {}),
    ("chrf", {"word_order": 2}),
    ("chrf", {"lowercase": True, "whitespace": True, "beta": 1, "char_order": 4}),
    ("chrf", {"eps_smoothing": True, "word_order": 1, "beta": 3}),
    ("ter", {}),
    ("ter", {"normalized": True, "no_punct": True, "asian_support": True, "case_sensitive": True}),
]

words = st.sampled_from(
    ["the", "The", "dog", "man", "bit", ",", ".", "it's", "3.5", "&amp;", "犬", "、", "é", "-"]
)
sentences = st.one_of(st.lists(words, max_size=9).map(" ".join), st.text(max_size=12)).filter(
    lambda sentence: "think>" not in sentence  # reasoning is a deviation
)
corpora = st.lists(
    st.tuples(sentences, st.lists(sentences, min_size=1, max_size=3)), min_size=1, max_size=5
)


@pytest.mark.parametrize(("name", "options"), OPTIONS)
@given(corpora)
@settings(max_examples=60)
def test_the_corpus_score_of_random_text_is_that_of_sacrebleu(name, options, corpus):
    answers, targets = zip(*corpus, strict=True)
    expected, _ = library_score(name, options, answers, targets)
    assert value(build(name, **options), answers, targets) == pytest.approx(
        expected, rel=1e-12, abs=1e-12
    )


@pytest.fixture(scope="module")
def real_corpus(shared_data):
    """Sentences of an encyclopaedia; answers drop, swap and change words of the target, some altogether."""
    lines = (shared_data / "wikitext2" / "test.txt").read_text("utf-8").splitlines()
    targets = [line.strip() for line in lines if 40 < len(line) < 400][:150]
    rng = random.Random(7)
    answers = []
    for target in targets:
        tokens = [w for w in target.split() if rng.random() > 0.1]
        i = rng.randrange(len(tokens))
        tokens = tokens[i:] + tokens[:i] if rng.random() < 0.3 else tokens
        answers.append(" ".join(w.upper() if rng.random() < 0.1 else w for w in tokens))
    answers[3] = ""
    return answers, [(t, t.lower()) if k % 3 == 0 else (t,) for k, t in enumerate(targets)]


@pytest.mark.parametrize(
    ("name", "options"), [("bleu", {}), ("chrf", {"word_order": 2}), ("ter", {})]
)
def test_the_corpus_score_of_real_text_is_that_of_sacrebleu(real_corpus, name, options):
    most = 25 if name == "ter" else 150  # TER takes 70 ms for a long sentence with a moved half
    answers, targets = (column[:most] for column in real_corpus)
    expected, library = library_score(name, options, answers, targets)
    metric = build(name, **options)
    assert 10 < expected < 90
    assert value(metric, answers, targets) == pytest.approx(expected, rel=1e-12)
    assert str(library.get_signature()).startswith("nrefs:var|")


# --- the law of sums ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"), [("bleu", {}), ("chrf", {"eps_smoothing": True}), ("ter", {})]
)
@given(corpora, corpora, st.randoms())
@settings(max_examples=30)
def test_summed_statistics_of_two_corpora_give_the_score_of_their_union(
    name, options, one, other, order
):
    metric = build(name, **options)
    parts = [statistics(metric, *zip(*corpus, strict=True)) for corpus in (one, other)]
    union = [*one, *other]
    order.shuffle(union)
    expected, _ = library_score(name, options, *zip(*union, strict=True))
    sums_K = parts[0].sum(axis=0) + parts[1].sum(axis=0)
    result = metric.measures[0].from_sums(sums_K, np.asarray(float(len(union))))
    assert float(result) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_many_sets_are_aggregated_at_once(real_corpus, name, options):
    answers, targets = (column[:12] for column in real_corpus)
    metric = build(name, **options)
    stats_NK = statistics(metric, answers, targets)
    draws_BN = np.random.default_rng(0).multinomial(12, [1 / 12] * 12, size=(3, 5)).astype(float)
    draws_BN[0, 0] = 0
    values_B = metric.measures[0].from_sums(draws_BN @ stats_NK, draws_BN.sum(axis=-1))
    assert values_B.shape == (3, 5)
    assert np.isnan(values_B[0, 0])
    for place in [(0, 1), (2, 4)]:
        drawn = np.repeat(stats_NK, draws_BN[place].astype(int), axis=0)
        assert values_B[place] == pytest.approx(metric.measures[0].aggregate(drawn), rel=1e-12)


# --- signature, options, memory -----------------------------------------------------------------


@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_the_signature_holds_that_of_sacrebleu(name, options):
    _, library = library_score(name, options, ["a b"], [["a c"]])
    published = str(library.get_signature())
    assert published.startswith("nrefs:1|")
    assert build(name, **options).signature.endswith(published.replace("nrefs:1", "nrefs:any"))


def test_the_signature_of_bleu_is_the_published_form():
    signature = build("bleu").signature.replace("nrefs:any", "nrefs:1")
    assert (
        f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{sacrebleu.__version__}" in signature
    )


def test_every_option_changes_the_signature():
    signatures = [build(name, **options).signature for name, options in OPTIONS]
    # these two differ in nothing that sacrebleu's own signature shows
    signatures += [build("bleu", max_ngram_order=2).signature, build("chrf", beta=3).signature]
    assert len(set(signatures)) == len(signatures)


def test_the_signature_does_not_depend_on_what_was_scored():
    metric = build("bleu")
    before = metric.signature
    score(metric, "a b", ["a", "b", "c"])
    assert metric.signature == before


@pytest.mark.parametrize("tokenizer", ["flores200", "spm", "13b"])
def test_a_tokenizer_that_must_be_downloaded_is_refused(tokenizer):
    with pytest.raises(ValidationError, match="'13a', 'none', 'intl'"):
        BleuOptions(tokenize=tokenizer)


@pytest.mark.parametrize("tokenizer", ["ja-mecab", "ko-mecab"])
def test_a_tokenizer_whose_package_is_missing_is_refused_before_the_run(tokenizer):
    try:
        sacrebleu.BLEU(tokenize=tokenizer)
    except RuntimeError:
        with pytest.raises(ValueError, match="pip install"):
            build("bleu", tokenize=tokenizer)
    else:
        assert f"tok:{tokenizer}" in build("bleu", tokenize=tokenizer).signature


def test_a_smoothing_value_without_its_method_is_refused():
    with pytest.raises(ValidationError, match="smooth_value"):
        BleuOptions(smooth_value=0.5)
    assert ChrfOptions().word_order == 0
    assert TerOptions().case_sensitive is False


@pytest.mark.parametrize("name", ["bleu", "ter"])
def test_memory_stays_bounded_over_many_long_texts(monkeypatch, name):
    monkeypatch.setattr(text, "CACHED_CHARACTERS", 5_000)
    metric = build(name)
    text._forget(metric._counter.tokenizer)
    sizes = []
    for n in range(60):
        score(metric, f"{n} " + "x" * 400, [f"{n} " + "y" * 400])
        sizes.append(vars(type(metric._counter.tokenizer))["__call__"].cache_info().currsize)
    assert max(sizes) <= 2 * (5_000 // 800 + 2)
    assert min(sizes[1:]) == 0
