"""Metrics of log-probability: perplexity of texts, accuracy of multiple choice.

Perplexity. With L = Σ ln p over all scored tokens of all texts, ``token`` = exp(-L / tokens),
``word`` = exp(-L / words), ``byte`` = exp(-L / bytes), ``bits_per_byte`` = -L / (bytes · ln 2): sums
before ratios, never a mean of perplexities. ``token`` depends on the tokenizer; checkpoints with
different tokenizers are compared by ``bits_per_byte``.

Multiple choice. The answer is the choice c with the highest ln p(c | prompt) (``acc``), the highest
per character (``acc_norm``) or per UTF-8 byte (``acc_bytes``) of the choice without its delimiter;
of equals the first. ``tied`` is the share of samples whose two likeliest choices are within 1e-6: a
high share says that accuracy is chance, or that log-probabilities are missing.

Both fail closed (``logprobs``).

**Source** lm-evaluation-harness 0.4, ``api/task.py``. Words are ``len(re.split(r"\\s+", text))``, so
space at either end counts one more. **Deviation** A sample with a token of probability 0 (-inf) is
unscored, where the harness's perplexity is infinite. A perplexity beyond the largest double has no
value: per word, a text written without spaces gets there; its bits per byte do not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from evalkit.metrics.base import Array, FromSums, Metric, corpus, rate, ratio
from evalkit.metrics.logprobs import TIE, log_likelihoods
from evalkit.records.exchange import Completion, Sample, Score, Unscored
from evalkit.registry import register

_SPACE = re.compile(r"\s+")


def _per(column: int) -> FromSums:
    """Return exp(-L / column), NaN where the column is 0 or the value beyond the largest double."""

    def from_sums(sums_XK: Array, n_X: Array) -> Array:
        with np.errstate(over="ignore"):
            value_X = np.exp(-ratio(sums_XK[..., 0], sums_XK[..., column]))
        return np.where(np.isinf(value_X), np.nan, value_X)

    return from_sums


def _bits_per_byte(sums_XK: Array, n_X: Array) -> Array:
    return -ratio(sums_XK[..., 0], sums_XK[..., 3]) / math.log(2)


@register(
    "metric",
    "perplexity",
    summary="Perplexity per token, word and byte, and bits per byte, of the task's texts.",
    example="perplexity",
)
class Perplexity(Metric):
    """Statistics of one text; its only target is the text itself."""

    kinds = frozenset({"perplexity"})
    needs = frozenset({"logprobs"})
    needs_target = False
    columns = ("log_likelihood", "tokens", "words", "bytes")
    measures = (
        corpus("token", _per(1), unit="perplexity/token", better="lower"),
        corpus("word", _per(2), unit="perplexity/word", better="lower"),
        corpus("byte", _per(3), unit="perplexity/byte", better="lower"),
        corpus("bits_per_byte", _bits_per_byte, unit="bits/byte", better="lower"),
    )

    def score(self, sample: Sample, completions: Sequence[Completion]) -> Score | Unscored:
        """Return log-likelihood (nats), scored tokens, words and bytes of the text."""
        text = sample.targets[0] if sample.targets else ""
        if not text:
            return Unscored("empty text")
        totals = log_likelihoods(completions[:1])
        if isinstance(totals, Unscored):
            return totals
        tokens = len(completions[0].logprobs or ())
        return Score((totals[0], float(tokens), float(count_words(text)), float(_bytes(text))))


@register(
    "metric",
    "multiple_choice",
    summary="Accuracy of the likeliest choice: plain, per character, per byte; share of ties.",
    example="multiple_choice",
)
class MultipleChoice(Metric):
    """Statistics of one question; its only target is the number of the right choice, from 0."""

    kinds = frozenset({"multiple_choice"})
    needs = frozenset({"logprobs"})
    columns = ("acc", "acc_norm", "acc_bytes", "tied")
    measures = (
        rate("acc", column=0),
        rate("acc_norm", column=1),
        rate("acc_bytes", column=2),
        rate("tied", column=3, better="lower"),
    )

    def score(self, sample: Sample, completions: Sequence[Completion]) -> Score | Unscored:
        """Return whether the likeliest choice is right, by each of three lengths, and if it is tied."""
        choices = sample.choices
        assert len(completions) == len(choices), "multiple choice needs one completion per choice"
        right = _place(sample.targets[0], len(choices)) if sample.targets else None
        if right is None:
            return Unscored("target is not a choice", repr(sample.targets))
        if not all(choices):
            return Unscored("empty choice")
        totals = log_likelihoods(completions)
        if isinstance(totals, Unscored):
            return totals
        per_character = [total / len(c) for total, c in zip(totals, choices, strict=True)]
        per_byte = [total / _bytes(c) for total, c in zip(totals, choices, strict=True)]
        best = sorted(totals, reverse=True)
        flags = (
            _first_highest(totals) == right,
            _first_highest(per_character) == right,
            _first_highest(per_byte) == right,
            len(best) > 1 and best[0] - best[1] < TIE,
        )
        return Score(tuple(map(float, flags)))


def count_words(text: str) -> int:
    """Return how many pieces white space cuts a text into; empty ones at its ends count.

    >>> count_words("to be"), count_words(" to be\\n")
    (2, 4)
    """
    return len(_SPACE.split(text))


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _first_highest(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)


def _place(target: str, n_choices: int) -> int | None:
    """Return the place that a numeral from 0 to ``n_choices - 1`` names, None for any other text."""
    numerals = [str(n) for n in range(n_choices)]
    return numerals.index(target) if target in numerals else None
