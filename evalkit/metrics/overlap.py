"""How alike two answers are in their words: sentence BLEU and ROUGE-L, 0–1, the same whichever comes first.

``bleu_similarity`` is the lesser of BLEU either way round. BLEU = BP · exp(¼ Σ ln p_n), n = 1 … 4, on lower-cased
words, with p_n the clipped share of n-grams, a count of 0 taken as 0.1 (Chen & Cherry's first smoothing), a share over
no n-grams as one over 1, and BP = min(1, exp(1 − r/c)); 0 where no word is shared. ``rouge_l_similarity`` is the F of
the longest common subsequence of Porter-stemmed words.

Words are those of the Penn Treebank: punctuation stands alone, *didn't* is *did n't*, *you'd* is *you 'd*.

**Source** langfair's ``BleuSimilarity`` and ``RougelSimilarity`` (its numbers to the last digit, on its own test
texts); Chen & Cherry 2014, WMT, technique 1; Treebank conventions as in NLTK's word tokenizer.
**Deviation** NLTK splits sentences by a trained model first, which matters for the stop that ends one; here a stop ends
a sentence before white space or the end, unless it ends an abbreviation or an initial. Short texts have few 4-grams:
"Okay." is 0.32 alike to itself, which is why equal texts are to be compared as texts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from math import exp, fsum, log
from typing import Any

from evalkit.metrics.rouge import Text, f_measure

ORDERS = 4
"""Longest n-gram of BLEU."""
_EPSILON = 0.1
"""Matches that an order without one counts as."""

_ABBREVIATIONS = frozenset(
    [
        *("mr", "mrs", "ms", "dr", "prof", "st", "vs", "e.g", "i.e", "inc", "ltd", "co", "corp", "jr", "sr", "fig"),
        *("gen", "rep", "sen", "gov", "capt", "lt", "col", "sgt", "dept", "approx", "u.s", "u.k", "p.m", "a.m"),
    ]
)  # fmt: skip
_SENTENCE_END = re.compile(r"(?<![.?!])([.?!]++)[\"'”’)\]}]*+(?=\s)")
_WORD_BEFORE = re.compile(r"(?<![^\s(\"'“‘\[])[^\s(\"'“‘\[]{1,6}\Z")
_RULES = tuple(
    (re.compile(pattern), put)
    for pattern, put in (
        (r"([«“‘„]|`+)", r" \1 "),
        (r"^\"", " `` "),
        (r"([ (\[{<])(\"|'{2})", r"\1 `` "),
        (r"(?<!\w)'(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)", "' "),
        (r"([^.])(\.)([\])}>\"'»”’ ]*+)\s*$", r"\1 \2 \3 "),
        (r"([:,])(?!\d)", r" \1 "),
        (r"\.{2,}", r" \g<0> "),
        (r"[;@#$%&?!*\u2012-\u2015]", r" \g<0> "),
        (r"[\][(){}<>]", r" \g<0> "),
        (r"--", " -- "),
        (r"([»”’])", r" \1 "),
        (r"''|\"", " '' "),
        (r"([^' ])('[smd]|'ll|'re|'ve|n't|')(?=\s|$)", r"\1 \2"),
        (r"\b(can)(not)\b|\b(gim)(me)\b|\b(gon)(na)\b|\b(got)(ta)\b|\b(lem)(me)\b|\b(wan)(na)(?=\s)",
         lambda m: " ".join(filter(None, m.groups()))),
    )
)  # fmt: skip
"""What is set apart, in this order; texts are lower-cased."""


def bleu_similarity(one: str, other: str) -> float:
    """Return the lesser of BLEU of either text against the other, 0–1; 0 for an empty text."""
    first, second = words(one), words(other)
    return min(_sentence_bleu(first, second), _sentence_bleu(second, first))


def rouge_l_similarity(one: str, other: str) -> float:
    """Return F of the longest common subsequence of stems, 0–1; 0 where either text has no word of a–z and 0–9."""
    return f_measure("rougeL", *(Text([stems], stems) for stems in (_stems(one), _stems(other))))


def has_rouge_words(text: str) -> bool:
    """Return whether a text has any word that ROUGE reads."""
    return bool(_stems(text))


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, as the Penn Treebank cuts them.

    >>> words("You'd go. I can't!")
    ['you', "'d", 'go', '.', 'i', 'ca', "n't", '!']
    """
    return [word for sentence in _sentences(text.lower()) for word in _cut(sentence)]


def _cut(sentence: str) -> list[str]:
    for pattern, put in _RULES:
        sentence = pattern.sub(put, sentence)
    return sentence.split()


def _sentences(text: str) -> list[str]:
    found, start = [], 0
    for match in _SENTENCE_END.finditer(text):
        before = _WORD_BEFORE.search(text[max(match.start() - 7, 0) : match.start()])
        word = before.group() if before else ""
        if match[1] == "." and (word in _ABBREVIATIONS or len(word) == 1):
            continue
        found.append(text[start : match.end()].strip())
        start = match.end()
    return [*found, text[start:].strip()]


def _sentence_bleu(reference: Sequence[str], hypothesis: Sequence[str]) -> float:
    shares = []
    for n in range(1, ORDERS + 1):
        counts, held = _ngrams(hypothesis, n), _ngrams(reference, n)
        shared = sum(min(count, held[gram]) for gram, count in counts.items())
        if n == 1 and not shared:
            return 0.0
        shares.append((shared or _EPSILON) / max(1, counts.total()))
    penalty = min(1.0, exp(1 - len(reference) / len(hypothesis)))
    return penalty * exp(fsum(log(share) / ORDERS for share in shares))


def _ngrams(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(tokens[k:] for k in range(n)), strict=False))


@lru_cache(maxsize=4096)
def _stems(text: str) -> list[str]:
    stems: list[str] = _tokenizer().tokenize(text)
    return stems


@lru_cache(maxsize=1)
def _tokenizer() -> Any:  # noqa: ANN401 - a rouge_score tokenizer, which has no types
    from rouge_score.tokenizers import DefaultTokenizer

    return DefaultTokenizer(use_stemmer=True)
