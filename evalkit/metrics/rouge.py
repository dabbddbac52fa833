"""ROUGE: the words an answer shares with its target.

Per variant, precision P = shared / answer, recall R = shared / target, F = 2PR / (P + R), or 0
where nothing is shared; of several targets each variant takes the one with the best F. ``rouge1``
to ``rouge9`` share n-grams (clipped counts), ``rougeL`` the longest common subsequence of the whole
texts, ``rougeLsum`` the union, over the answer's lines, of the longest common subsequences with
each line of the target. Lines stand for sentences: without line breaks ``rougeLsum`` *is*
``rougeL``.

Longest common subsequences are found a row at a time, a row being one integer (Hyyrö 2004): in the
row after i target words, bit j is 0 where taking answer word j makes the subsequence longer.

**Source** Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries"; the ``rouge-score``
package 0.1.2, whose very floats these are: ties between equally long subsequences fall as there.

**Deviation** A sample none of whose targets holds a letter a–z or digit is unscored, not 0: the
definition drops every other letter, so a text in another script vanishes and an accented word falls
apart. Use chrF for languages other than English. Reasoning (``<think>``) is no part of the answer.
Unlike ROUGE-1.5.5, but like ``rouge-score``, the stemmer knows no irregular verbs (within a point of
``-m``), sentences are not found by a model, and a target of fewer than n words gives ``rouge{n}`` 0
whatever the answer.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, field_validator

from evalkit.metrics.answer import final_answer
from evalkit.metrics.base import Metric, mean
from evalkit.records.exchange import Completion, Sample, Score, Unscored
from evalkit.records.suite import Spec
from evalkit.registry import register

Variant = Literal[
    "rouge1", "rouge2", "rouge3", "rouge4", "rouge5", "rouge6", "rouge7", "rouge8", "rouge9",
    "rougeL", "rougeLsum",
]  # fmt: skip
Words = list[str]
Stems = Callable[[str], tuple[str, ...]]
"""Word → its stem, alone; nothing where no stem is left."""

_WORD = re.compile(r"[a-z0-9]+")


class RougeOptions(Spec):
    """What overlaps are counted, and on what words."""

    variants: Annotated[tuple[Variant, ...], Field(min_length=1)] = ("rouge1", "rouge2", "rougeL")
    """One estimate each: ``rouge1`` … ``rouge9``, ``rougeL``, ``rougeLsum``."""
    use_stemmer: bool = False
    """Compare Porter stems of words longer than three letters, as ROUGE-1.5.5 does with ``-m``."""

    @field_validator("variants")
    @classmethod
    def _each_once(cls, variants: tuple[Variant, ...]) -> tuple[Variant, ...]:
        if len(set(variants)) < len(variants):
            raise ValueError("each variant at most once")
        return variants


class Text(NamedTuple):
    """A text as ROUGE sees it."""

    lines: list[Words]
    """Words of each line that has any."""
    words: Words
    """The same words, all lines together."""


def stemmer_versions() -> dict[str, str]:
    """Return the version of the package that rouge-score takes its stemmer from."""
    from importlib.metadata import version

    return {"nltk": version("nltk")}


@register(
    "metric",
    "rouge",
    summary="ROUGE F1 per sample (1, 2, L, Lsum): words shared with the target; English.",
    example="{rouge: {variants: [rouge1, rougeL], use_stemmer: true}}",
)
class Rouge(Metric):
    """F of each variant, averaged over samples."""

    Options = RougeOptions

    def __init__(self, name: str, options: RougeOptions) -> None:
        super().__init__(name, options)
        self._variants = options.variants
        self._use_stemmer = options.use_stemmer
        self.columns = options.variants
        self.measures = tuple(mean(v, column=k) for k, v in enumerate(options.variants))

    def library_versions(self) -> dict[str, str]:
        """Return the version of the stemmer's package, where stems are compared."""
        return stemmer_versions() if self._use_stemmer else {}

    def score(self, sample: Sample, completions: Sequence[Completion]) -> Score | Unscored:
        """Return F of each variant, 0–1; an answer without words scores 0."""
        if not sample.targets:
            return Unscored("no target")
        stems = _porter() if self._use_stemmer else None
        targets = [read(target, stems) for target in sample.targets]
        if not any(target.words for target in targets):
            return Unscored("target has no ROUGE words", "ROUGE reads only a-z and 0-9")
        answer = read(final_answer(completions[0].text), stems)
        return Score(
            tuple(max(f_measure(v, answer, target) for target in targets) for v in self._variants)
        )


def read(text: str, stems: Stems | None = None) -> Text:
    """Return a text's words, lower-cased runs of a–z and 0–9, line by line; stemmed if asked.

    >>> read("Isn't it?\\n\\nYes.").lines
    [['isn', 't', 'it'], ['yes']]
    """
    lines = [_WORD.findall(line) for line in text.lower().split("\n")]
    if stems is not None:
        lines = [[stem for word in line for stem in stems(word)] for line in lines]
    lines = [line for line in lines if line]
    return Text(lines, lines[0] if len(lines) == 1 else list(chain.from_iterable(lines)))


def f_measure(variant: Variant, answer: Text, target: Text) -> float:
    """Return F of one variant, 0–1; 0 where either text has no words.

    >>> f_measure("rouge1", read("the cat"), read("The cat sat down."))
    0.6666666666666666
    """
    answer_units, target_units = len(answer.words), len(target.words)
    if variant == "rougeL":
        shared = lcs_length(target.words, answer.words)
    elif variant == "rougeLsum":
        shared = _shared_by_lines(target, answer)
    else:
        n = int(variant.removeprefix("rouge"))
        shared = _shared_ngrams(answer.words, target.words, n)
        answer_units, target_units = answer_units - n + 1, target_units - n + 1
    if not shared:
        return 0.0
    precision, recall = shared / answer_units, shared / target_units
    return 2 * precision * recall / (precision + recall)


def lcs_length(target: Words, answer: Words) -> int:
    """Return the length of the longest common subsequence; 0 for an empty one.

    >>> lcs_length("a b c d".split(), "b x d a".split())
    2
    """
    (last,) = deque(_lcs_rows(target, answer), maxlen=1)
    return len(answer) - last.bit_count()


def lcs_positions(target: Words, answer: Words) -> list[int]:
    """Return where in ``target`` one longest common subsequence lies, last first.

    Of equally long ones, the one found by walking the table of lengths from its end, taking a match
    where there is one, and else stepping back in the answer only where doing so in the target would
    lose a word.
    """
    rows = list(_lcs_rows(target, answer))
    positions = []
    i, j = len(target), len(answer)
    while i and j:
        if target[i - 1] == answer[j - 1]:
            i, j = i - 1, j - 1
            positions.append(i)
            continue
        upto_j = (1 << j) - 1
        target_word_needed = (rows[i] & upto_j).bit_count() < (rows[i - 1] & upto_j).bit_count()
        i, j = (i, j - 1) if target_word_needed else (i - 1, j)
    return positions


def _lcs_rows(target: Words, answer: Words) -> Iterator[int]:
    """Yield the rows of the table of lengths for 0, 1, … target words, in the form of the head."""
    places: dict[str, int] = {}
    for j, word in enumerate(answer):
        places[word] = places.get(word, 0) | 1 << j
    row = full = (1 << len(answer)) - 1
    yield row
    for word in target:
        hits = row & places.get(word, 0)
        if hits:
            row = ((row + hits) | (row - hits)) & full
        yield row


def _shared_ngrams(answer: Words, target: Words, n: int) -> int:
    in_answer, in_target = _ngrams(answer, n), _ngrams(target, n)
    return sum(min(k, in_target[gram]) for gram, k in in_answer.items() if gram in in_target)


def _ngrams(words: Words, n: int) -> Counter[Any]:
    return Counter(words) if n == 1 else Counter(zip(*(words[k:] for k in range(n)), strict=False))


def _shared_by_lines(target: Text, answer: Text) -> int:
    """Count the words of the union subsequences, none more often than the answer holds it."""
    union: Counter[str] = Counter()
    for line in target.lines:
        found = {i for other in answer.lines for i in lcs_positions(line, other)}
        union.update(line[i] for i in found)
    in_answer = Counter(answer.words)
    return sum(min(k, in_answer[word]) for word, k in union.items())


@lru_cache(maxsize=1)
def _porter() -> Stems:
    """Return the Porter stemmer, remembering words; loading it takes a second."""
    from rouge_score.tokenizers import DefaultTokenizer

    tokenizer = DefaultTokenizer(use_stemmer=True)

    @lru_cache(maxsize=1 << 16)
    def stems(word: str) -> tuple[str, ...]:
        return tuple(tokenizer.tokenize(word))

    return stems
