"""Groups and their words: where a text speaks of one, and the same text about another.

A lexicon is a list of places. A place holds one word or phrase per group, and words of one place stand for one
another. Rewriting *exchanges* two groups: words of one become those of the other and the other way round, so that
"he met his wife" becomes "she met her husband" and not "she met her wife", and rewriting twice gives the text back.

Only whole words count: a word ends where a letter, digit, underscore or combining mark neither precedes nor follows, so
a possessive 's, a hyphen and any punctuation end it (*man's*, *ex-wife*), and *heroic* holds no *he*. A word is found
as it is listed, with a capital first letter, with Capital Letters throughout, and in UPPER CASE, and its stand-in is
written the same way; listed with a capital (*Oak*) it is not found in lower case, where it may be another word.
Composed and decomposed accents are the same letters. Of overlapping phrases the longest counts. A word that one group
lists at several places stands for the first of them, unless the lexicon's grammar knows better.

**Not found** are words in scripts that are written without spaces between words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.swaps.articles import with_article

Place = Mapping[str, str]
"""Group → its word at this place."""
Choose = Callable[[str, int, int, Sequence[int]], int | None]
"""``(text, start, end, places)`` → which of several places the word between start and end stands at; None where it is
no word for a group there."""
Case = Callable[[str], str]

_IN_WORD = r"\w\u0300-\u036f"
_OPENS = rf"(?:(?<![{_IN_WORD}])|(?=[^\w]))"
_CLOSES = rf"(?:(?![{_IN_WORD}])|(?<=[^{_IN_WORD}]))"
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Mention:
    """A word for a group in a text."""

    start: int
    """Where it begins."""
    end: int
    """Where it ends."""
    group: str
    """Whose word it is."""
    place: int
    """Number of the place at which it stands."""
    case: Case
    """Writes a word of the lexicon as this one is written."""


def first_place(text: str, start: int, end: int, places: Sequence[int]) -> int:
    """Return the first of several places."""
    return places[0]


class Lexicon:
    """Finds and exchanges the words of groups.

    Raises ValueError where a word is listed by two groups, so that nobody could tell whom it is about, or is empty.
    """

    def __init__(
        self,
        name: str,
        places: Sequence[Place],
        *,
        choose: Choose = first_place,
        kept: re.Pattern[str] | None = None,
        articles: bool = True,
    ) -> None:
        """``kept`` matches phrases that are never touched; ``articles``: English a and an agree with what follows."""
        self.name = name
        self.groups: tuple[str, ...] = tuple(places[0])
        self._places, self._choose, self._kept = tuple(places), choose, kept
        self._articles = articles
        self._forms = _forms_of(self._places)
        spellings = {s for form in self._forms for s in (form.casefold(), form.lower())}
        self._pattern = re.compile(f"{_OPENS}{_trie(spellings)}{_CLOSES}", re.IGNORECASE)

    def mentions(self, text: str) -> Iterator[Mention]:
        """Yield the words for groups in a text, first to last."""
        kept = [m.span() for m in self._kept.finditer(text)] if self._kept else []
        for match in self._pattern.finditer(text):
            found = self._forms.get(_SPACE.sub(" ", match.group()))
            start, end = match.span()
            if found is None or any(s < end and start < e for s, e in kept):
                continue
            group, places, case = found
            place = self._choose(text, start, end, places)
            if place is not None:
                yield Mention(start, end, group, place, case)

    def exchanged(self, text: str, one: str, other: str) -> str:
        """Return the text with the words of two groups exchanged; as it is where they are the same group."""
        stands_for = {one: other, other: one}
        return self._rewritten(text, lambda group: stands_for.get(group, group))

    def neutral(self, text: str) -> str:
        """Return the text as it would be if all were of the first group: what is left to differ is not its words."""
        return self._rewritten(text, lambda group: self.groups[0])

    def _rewritten(self, text: str, group_for: Callable[[str], str]) -> str:
        pieces, done = [], 0
        for mention in self.mentions(text):
            group = group_for(mention.group)
            place = self._places[mention.place]
            if group == mention.group:
                continue
            word = mention.case(place[group])
            between = text[done : mention.start]
            if self._articles:
                between = with_article(between, text[mention.start : mention.end], word)
            pieces += [between, word]
            done = mention.end
        return "".join([*pieces, text[done:]])


def _forms_of(places: Sequence[Place]) -> dict[str, tuple[str, tuple[int, ...], Case]]:
    """Return every way a listed word may be written: whose it is, at which places, and how it is written."""
    listed: dict[str, tuple[str, list[int]]] = {}
    for number, place in enumerate(places):
        for group, written in place.items():
            word = _SPACE.sub(" ", unicodedata.normalize("NFC", written)).strip()
            if not word:
                raise ValueError(f"group {group!r} lists an empty word")
            owner, held = listed.setdefault(word, (group, []))
            if owner != group:
                raise ValueError(
                    f"{word!r} is listed by {owner!r} and by {group!r}: whom it is about cannot be told"
                )
            held.append(number)
    forms: dict[str, tuple[str, tuple[int, ...], Case]] = {}
    for case in (
        _as_listed,
        str.upper,
        _capitalised,
        _titled,
    ):  # the first that gives a form names it
        for word, (group, numbers) in listed.items():
            if case is _titled and " " not in word:
                continue
            for form in (case(word), unicodedata.normalize("NFD", case(word))):
                if case is str.upper and len(word) == 1:
                    continue  # a single capital letter is a capitalised word
                forms.setdefault(form, (group, tuple(numbers), case))
    return forms


def _as_listed(word: str) -> str:
    return word


def _capitalised(word: str) -> str:
    return word[:1].upper() + word[1:]


def _titled(words: str) -> str:
    return " ".join(map(_capitalised, words.split(" ")))


def _trie(words: set[str]) -> str:
    """Return a pattern that matches the words, of several the longest; white space in them matches any."""
    tree: dict[str, Any] = {}
    for word in words:
        node = tree
        for character in word:
            node = node.setdefault(character, {})
        node[""] = {}
    return _branch(tree)


def _branch(node: Mapping[str, Any]) -> str:
    tails = [
        (r"\s+" if character == " " else re.escape(character)) + _branch(below)
        for character, below in sorted(node.items())
        if character
    ]
    if not tails:
        return ""
    joined = f"(?:{'|'.join(tails)})" if len(tails) > 1 or "" in node else tails[0]
    return f"{joined}?" if "" in node else joined
