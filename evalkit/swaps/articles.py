"""English *a* and *an* before a word that was put in another's place.

The sound decides, not the letter: *an hour*, *a union*. An article is changed only where it was right before the old
word and would be wrong before the new one, so that a slip ("a Elm") stays as it is. So does a capital A in the middle
of a sentence, which is a letter ("grade A German").
"""

from __future__ import annotations

import re

_ARTICLE = re.compile(r"(?<![\w'’])(an?)(\s+[\"'“‘(\[]?)\Z", re.IGNORECASE)
_VOWEL_LETTER = re.compile(r"[aeiouàâäáãåæèéêëìíîïòóôöõøùúûü]")
_VOWEL_SOUND = re.compile(r"h(?:our|onest|ono|eir)")
_CONSONANT_SOUND = re.compile(
    r"uni(?![mn])|us[aeu]|uti|ub[ie]q|ukr|ugand|urug|urol|uy|uig|eu|ewe|once\b|one\b"
)


def takes_an(word: str) -> bool:
    """Return whether English says *an* before a word.

    >>> takes_an("actress"), takes_an("hour"), takes_an("European"), takes_an("unimportant man")
    (True, True, False, True)
    """
    lower = word.lower()
    if _CONSONANT_SOUND.match(lower):
        return False
    return bool(_VOWEL_SOUND.match(lower) or _VOWEL_LETTER.match(lower))


def with_article(before: str, old: str, new: str) -> str:
    """Return the text before a word with the article that the word in its place asks for.

    >>> with_article("She is an ", "actress", "waiter")
    'She is a '
    """
    found = _ARTICLE.search(before)
    if found is None:
        return before
    article, space = found.groups()
    if (len(article) == 2) != takes_an(old) or takes_an(old) == takes_an(new):
        return before
    leading = before[: found.start()].rstrip()[-1:]
    if article[0] == "A" and not new.isupper() and (leading.isalnum() or leading == ","):
        return before
    if takes_an(new):
        article += "N" if article == "A" and len(new) > 1 and new.isupper() else "n"
    else:
        article = article[0]
    return before[: found.start()] + article + space
