"""Rows of the Winogender schemas: a sentence with a pronoun that stands for an occupation or for another person, once
with a male, once with a female and once with a neutral pronoun.

**Fields** of a row, which is one stem: ``id``, ``template`` (what its two stems share: one names the other person, one
says "someone"), ``occupation``, ``participant``, ``choices`` (both, as named), ``answer`` (which is right, from 0),
``refers_to`` (``occupation`` or ``participant``), ``male``, ``female``, ``neutral`` (the sentences),
``male_pronoun``, ``female_pronoun``, ``neutral_pronoun``, ``percent_female`` (of those who work in the occupation, US
Bureau of Labor Statistics) and ``gotcha``.

**Gotcha**. For the female pronoun a stem is one where the answer is the occupation and less than half of those who
work in it are women, or at least half are and the answer is the other person; for the male pronoun it is the reverse.
So each stem is one for exactly one of the two: ``gotcha`` names it.

**Source**: Rudinger et al. 2018, NAACL, section 2 and table 2; ``data/all_sentences.tsv`` and
``data/occupations-stats.tsv``.

**Deviation**: lm-eval's gotchas are those whose answer is the occupation alone, half of the paper's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from evalkit.errors import Problem, UsageError
from evalkit.loaders.rows import Format, Row, TsvRows

GENDERS = ("male", "female", "neutral")
STATISTICS = "occupations-stats.tsv"


class WinogenderRows(TsvRows):
    """Winogender's stems, with the shares of women from the file beside it."""

    format: ClassVar[Format] = "winogender"
    beside: ClassVar[tuple[str, ...]] = (STATISTICS,)

    def _read(self) -> Iterator[tuple[int, Row]]:
        women = self._shares_of_women()
        stems: dict[str, tuple[int, dict[str, str]]] = {}
        for line, row in super()._read():
            parts = row.get("sentid", "").split(".")
            if len(parts) != 5 or parts[3] not in GENDERS or parts[2] not in ("0", "1"):
                found = f"this is no sentence of Winogender: {row.get('sentid')!r}"
                self._refuse(
                    line, found, "sentid such as nurse.patient.1.female.txt, and a sentence"
                )
            if parts[0] not in women:
                self._refuse(line, f"{STATISTICS} has no occupation {parts[0]!r}")
            first, sentences = stems.setdefault(".".join(parts[:3]), (line, {}))
            if parts[3] in sentences:
                self._refuse(line, f"the sentence {row['sentid']!r} is there twice (line {first})")
            sentences[parts[3]] = row["sentence"]
        for stem, (line, sentences) in stems.items():
            pronouns = _pronouns(sentences)
            if pronouns is None:
                self._refuse(
                    line,
                    f"the sentences of {stem!r} do not differ in a pronoun alone",
                    f"one sentence each for {', '.join(GENDERS)}",
                )
            yield line, _row(stem, sentences, pronouns, women)

    def _count(self) -> int | None:
        sentences = super()._count()
        return None if sentences is None else sentences // len(GENDERS)

    def _shares_of_women(self) -> dict[str, float]:
        """Return occupation → percent who are women."""
        path = self.path.with_name(STATISTICS)
        shares = {}
        for line, row in TsvRows(path, "", None)._read():
            try:
                shares[row["occupation"]] = float(row["bls_pct_female"])
            except (KeyError, ValueError):
                found = "a row has no number under 'bls_pct_female'"
                raise UsageError([Problem(str(path), line, "", found)]) from None
        return shares


def _pronouns(sentences: Mapping[str, str]) -> dict[str, str] | None:
    """Return gender → pronoun: the first word in which a stem's sentences differ; None where there is no such one."""
    if set(sentences) != set(GENDERS):
        return None
    words = {
        gender: [word.strip(".,") for word in text.split()] for gender, text in sentences.items()
    }
    for place, each in enumerate(zip(*(words[gender] for gender in GENDERS), strict=False)):
        if len(set(each)) > 1:
            rest = [words[gender][place + 1 :] for gender in ("male", "female")]
            alone = len(set(each)) == len(GENDERS) and rest[0] == rest[1]
            return dict(zip(GENDERS, each, strict=True)) if alone else None
    return None


def _named(participant: str) -> str:
    return participant if participant == "someone" else f"the {participant}"


def _row(
    stem: str,
    sentences: Mapping[str, str],
    pronouns: Mapping[str, str],
    women: Mapping[str, float],
) -> Row:
    occupation, participant, answer = stem.split(".")
    is_occupation = answer == "0"
    mostly_women = women[occupation] >= 50
    return {
        "id": stem,
        "template": f"{occupation}.{answer}",
        "occupation": occupation,
        "participant": participant,
        "choices": [f"the {occupation}", _named(participant)],
        "answer": int(answer),
        "refers_to": "occupation" if is_occupation else "participant",
        **{gender: sentences[gender] for gender in GENDERS},
        **{f"{gender}_pronoun": pronouns[gender] for gender in GENDERS},
        "percent_female": women[occupation],
        "gotcha": "male" if is_occupation == mostly_women else "female",
    }
