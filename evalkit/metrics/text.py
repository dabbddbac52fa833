"""BLEU, chrF and TER: distance between answers and reference texts, by sacrebleu's definitions.

All three are corpus scores: counts are summed over samples before they are divided, so the statistics
of a sample are its counts and there is no sentence score to average.

- BLEU = 100 · BP · exp(mean over n ≤ 4 of ln p_n), p_n the share of the answer's n-grams that some
  target has (clipped), BP = exp(min(0, 1 - r / c)) for c answer words and r target words.
- chrF = 100 · F_β, β = 2, of precision and recall averaged over character n-grams, n ≤ 6 (chrF++
  with ``word_order: 2``).
- TER = 100 · edits / target words, where moving a phrase is one edit.

Several targets: BLEU takes an n-gram's highest count in any of them and the length nearest to the
answer's, chrF the target with the best F, TER the fewest edits and the mean length.

**Source** sacrebleu ≥ 2.5. Its own metric objects count (``_extract_corpus_statistics``, which its
significance tests use as well); the aggregate here is its formula over arrays of sums and equals its
corpus score to rounding. An empty answer is a bad answer, not an error. Tokenisation moves BLEU by
more than models do, hence sacrebleu's signature in ours.

**Deviation** ``nrefs:any`` stands in the signature: the number of targets belongs to the data set,
whose digest already guards comparisons. Reasoning (``<think>``) is no part of the answer. Tokenizers
that download a model are not offered. A set without samples has no score.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from evalkit.metrics.answer import final_answer
from evalkit.metrics.base import Array, Metric, corpus, ratio
from evalkit.records.exchange import Completion, Sample, Score, Unscored
from evalkit.records.suite import Spec
from evalkit.registry import register

CACHED_CHARACTERS = 1 << 23
"""sacrebleu remembers the last 65,536 tokenised texts whatever their length: after so many characters
it is made to forget them, so that memory stays bounded."""


class SacrebleuMetric(Metric):
    """A metric whose statistics sacrebleu counts; subclasses say how to build its object."""

    _characters = 0

    @cached_property
    def _counter(self) -> Any:  # noqa: ANN401 - a sacrebleu metric, which has no types
        return self._sacrebleu()

    def _sacrebleu(self) -> Any:  # noqa: ANN401 - a sacrebleu metric
        raise NotImplementedError

    @property
    def signature(self) -> str:
        """Return all options, then sacrebleu's own signature (which leaves some of them out)."""
        counter = self._sacrebleu()
        counter.num_refs = "any"
        return f"{super().signature}|{counter.get_signature()}"

    def score(self, sample: Sample, completions: Sequence[Completion]) -> Score | Unscored:
        """Return sacrebleu's counts for one answer against all targets of its sample."""
        if not sample.targets:
            return Unscored("no target")
        answer = final_answer(completions[0].text)
        references = [[target] for target in sample.targets]
        (statistics,) = self._counter._extract_corpus_statistics([answer], references)
        self._characters += len(answer) + sum(map(len, sample.targets))
        if self._characters > CACHED_CHARACTERS:
            self._characters = 0
            _forget(getattr(self._counter, "tokenizer", None))
        return Score(tuple(map(float, statistics)))


def _forget(tokenizer: object) -> None:
    """Empty the caches on the call methods of a sacrebleu tokenizer and of the one inside it."""
    for part in (tokenizer, getattr(tokenizer, "_post_tokenizer", None)):
        clear = getattr(vars(type(part)).get("__call__"), "cache_clear", None)
        if clear is not None:
            clear()


Smoothing = Literal["none", "floor", "add-k", "exp"]


class BleuOptions(Spec):
    """sacrebleu's options of BLEU, with its defaults."""

    tokenize: Literal["13a", "none", "intl", "char", "zh", "ja-mecab", "ko-mecab"] = "13a"
    """Tokenizer: ``13a`` is WMT's, ``zh`` for Chinese; ``ja-mecab`` and ``ko-mecab`` need the
    ``sacrebleu[ja]`` and ``sacrebleu[ko]`` packages."""
    lowercase: bool = False
    """Compare lower-cased text."""
    smooth_method: Smoothing = "exp"
    """What an order without a match counts as: half of the order before (``exp``), a constant
    (``floor``), one more match (``add-k``), nothing (``none``)."""
    smooth_value: Annotated[float, Field(gt=0)] | None = None
    """The constant of ``floor`` (default 0.1) or ``add-k`` (default 1)."""
    max_ngram_order: Annotated[int, Field(ge=1, le=9)] = 4
    """Longest n-gram counted."""
    effective_order: bool = False
    """Leave out orders for which the answers are too short, rather than score 0."""

    @model_validator(mode="after")
    def _value_has_a_method(self) -> BleuOptions:
        if self.smooth_value is not None and self.smooth_method not in ("floor", "add-k"):
            raise ValueError("'smooth_value' belongs to smooth_method 'floor' or 'add-k'")
        return self


@register(
    "metric",
    "bleu",
    summary="Corpus BLEU, equal to sacrebleu's, with its signature.",
    example="{bleu: {tokenize: 13a}}",
)
class Bleu(SacrebleuMetric):
    """BLEU; see the module's head."""

    Options = BleuOptions

    def __init__(self, name: str, options: BleuOptions) -> None:
        super().__init__(name, options)
        orders = range(1, options.max_ngram_order + 1)
        self.columns = (
            "answer_words",
            "target_words",
            *(f"match_{n}" for n in orders),
            *(f"total_{n}" for n in orders),
        )
        self.measures = (corpus("", partial(bleu_from_sums, options=options), unit="points"),)
        if options.tokenize.endswith("mecab"):
            try:
                self._counter  # noqa: B018 - built now, so that a missing package shows before a run
            except RuntimeError as error:
                raise ValueError(" ".join(str(error).split())) from error

    def _sacrebleu(self) -> Any:  # noqa: ANN401
        from sacrebleu.metrics.bleu import BLEU

        return BLEU(force=True, **self.options.model_dump())


def bleu_from_sums(sums_XK: Array, n_X: Array, *, options: BleuOptions) -> Array:
    """Return BLEU, 0–100, from summed lengths, matches and totals; NaN for a set without samples."""
    order = options.max_ngram_order
    answer_X, target_X = sums_XK[..., 0], sums_XK[..., 1]
    match_XO, total_XO = sums_XK[..., 2 : 2 + order], sums_XK[..., 2 + order :]
    any_match_X = (match_XO > 0).any(axis=-1)
    if options.smooth_method == "add-k":
        more_O = np.full(order, options.smooth_value or 1.0)
        more_O[0] = 0.0  # single words are never smoothed
        match_XO, total_XO = match_XO + more_O, total_XO + more_O
    reached_XO = total_XO > 0
    missed_XO = reached_XO & (match_XO == 0)
    if options.smooth_method == "exp":
        match_XO = np.where(missed_XO, 0.5 ** missed_XO.cumsum(axis=-1), match_XO)
    elif options.smooth_method == "floor":
        match_XO = np.where(missed_XO, options.smooth_value or 0.1, match_XO)
    used_XO = reached_XO if options.effective_order else np.ones_like(reached_XO)
    precision_XO = np.where(reached_XO, ratio(match_XO, total_XO), 0.0)
    with np.errstate(divide="ignore"):  # ln 0 = -inf makes the score 0
        sum_X = np.where(used_XO, np.log(precision_XO), 0.0).sum(axis=-1)
    mean_X = sum_X / np.maximum(used_XO.sum(axis=-1), 1)
    brevity_X = np.minimum(0.0, 1.0 - ratio(target_X, answer_X))
    score_X = np.where(any_match_X, 100.0 * np.exp(brevity_X + mean_X), 0.0)
    return np.where(n_X > 0, score_X, np.nan)


class ChrfOptions(Spec):
    """sacrebleu's options of chrF, with its defaults."""

    char_order: Annotated[int, Field(ge=1, le=20)] = 6
    """Longest character n-gram."""
    word_order: Annotated[int, Field(ge=0, le=9)] = 0
    """Longest word n-gram; 2 gives chrF++."""
    beta: Annotated[int, Field(ge=1)] = 2
    """How many times as much recall weighs as precision."""
    lowercase: bool = False
    """Compare lower-cased text."""
    whitespace: bool = False
    """Count spaces as characters."""
    eps_smoothing: bool = False
    """Average F over all orders, as chrF++.py and NLTK do, not over those that occur."""


@register(
    "metric",
    "chrf",
    summary="Corpus chrF or chrF++ (word_order: 2), equal to sacrebleu's; any language.",
    example="{chrf: {word_order: 2}}",
)
class Chrf(SacrebleuMetric):
    """chrF; see the module's head."""

    Options = ChrfOptions

    def __init__(self, name: str, options: ChrfOptions) -> None:
        super().__init__(name, options)
        orders = [f"char_{n + 1}" for n in range(options.char_order)]
        orders += [f"word_{n + 1}" for n in range(options.word_order)]
        counts = ("answer", "target", "match")
        self.columns = tuple(f"{order}_{count}" for order in orders for count in counts)
        self.measures = (corpus("", partial(chrf_from_sums, options=options), unit="points"),)

    def _sacrebleu(self) -> Any:  # noqa: ANN401
        from sacrebleu.metrics.chrf import CHRF

        return CHRF(**self.options.model_dump())


def chrf_from_sums(sums_XK: Array, n_X: Array, *, options: ChrfOptions) -> Array:
    """Return chrF, 0–100, from summed counts in answer, target and both; NaN without samples."""
    weight = options.beta**2
    answer_XO, target_XO, match_XO = (sums_XK[..., k::3] for k in range(3))
    precision_XO = _share(match_XO, answer_XO)
    recall_XO = _share(match_XO, target_XO)
    if options.eps_smoothing:  # sacrebleu's 1e-16 in place of 0 is below rounding
        score_X = 100.0 * _f_measure(precision_XO, recall_XO, weight).mean(axis=-1)
    else:
        # an order that only one side has shares nothing: it adds 0 to the sums and is not counted
        n_orders_X = ((answer_XO > 0) & (target_XO > 0)).sum(axis=-1)
        precision_X = _share(precision_XO.sum(axis=-1), n_orders_X)
        recall_X = _share(recall_XO.sum(axis=-1), n_orders_X)
        score_X = 100.0 * _f_measure(precision_X, recall_X, weight)
    return np.where(n_X > 0, score_X, np.nan)


def _share(part: Array, whole: Array) -> Array:
    """Return part ÷ whole, 0 where the whole is 0."""
    return np.nan_to_num(ratio(part, whole), nan=0.0)


def _f_measure(precision: Array, recall: Array, weight: float) -> Array:
    """Return F with recall weighed ``weight`` = β² times, 0 where both are 0."""
    return _share((1 + weight) * precision * recall, weight * precision + recall)


class TerOptions(Spec):
    """sacrebleu's options of TER, with its defaults."""

    normalized: bool = False
    """Split off punctuation and undo XML escapes first."""
    no_punct: bool = False
    """Remove punctuation."""
    asian_support: bool = False
    """With ``normalized``, a word per Chinese or Japanese character."""
    case_sensitive: bool = False
    """Compare text as it is, not lower-cased."""


@register(
    "metric",
    "ter",
    summary="Corpus translation edit rate, equal to sacrebleu's; lower is better, slow on long text.",
    example="ter",
)
class Ter(SacrebleuMetric):
    """TER; see the module's head."""

    Options = TerOptions
    columns = ("edits", "target_words")

    def __init__(self, name: str, options: TerOptions) -> None:
        super().__init__(name, options)
        self.measures = (corpus("", ter_from_sums, unit="points", better="lower"),)

    def _sacrebleu(self) -> Any:  # noqa: ANN401
        from sacrebleu.metrics.ter import TER

        return TER(**self.options.model_dump())


def ter_from_sums(sums_XK: Array, n_X: Array) -> Array:
    """Return TER, 0 and up, from summed edits and target words; NaN for a set without samples.

    Where all targets are empty it is 100 if any answer is not, else 0.
    """
    edits_X, words_X = sums_XK[..., 0], sums_XK[..., 1]
    rate_X = np.where(words_X > 0, ratio(edits_X, words_X), np.where(edits_X > 0, 1.0, 0.0))
    return np.where(n_X > 0, 100.0 * rate_X, np.nan)
