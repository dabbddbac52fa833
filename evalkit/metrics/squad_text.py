"""SQuAD's normal form of a text and F1 of two texts.

Source: Rajpurkar et al. 2016, section 4.2; the program evaluate-v1.1.
Deviation: F1 of an answer and a target that are both empty in normal form is 1, as in evaluate-v2.0; the v1.1 program
gives 0 where its own exact match gives 1.
"""

from __future__ import annotations

import re
import string
from collections import Counter

_ARTICLE = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def squad_normal(text: str) -> str:
    """Return SQuAD's normal form: lower case, no ASCII punctuation, no articles, single spaces, in that order.

    >>> squad_normal("The  U.S. paid $1,000!")
    'us paid 1000'
    """
    bare = text.lower().translate(_WITHOUT_PUNCTUATION)
    return " ".join(_ARTICLE.sub(" ", bare).split())


def squad_f1(answer: str, target: str) -> float:
    """Return the F1 of two bags of words in SQuAD's normal form: 1 where both are empty, 0 where one is.

    >>> squad_f1("the black cat", "a black dog")
    0.5
    """
    found, expected = squad_normal(answer).split(), squad_normal(target).split()
    common = sum((Counter(found) & Counter(expected)).values())
    return 2 * common / (len(found) + len(expected)) if found or expected else 1.0
