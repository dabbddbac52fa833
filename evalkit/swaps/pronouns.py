"""Which *her* is *his* and which is *him*, and which *his* is *hers*.

English has one word where it has two for the other sex: *her* is an object ("told **her**" ↔ "told **him**") or a
determiner ("**her** car" ↔ "**his** car"), *his* a determiner or a possessive pronoun ("a friend of **his**" ↔ "of
**hers**"). The words around decide:

- A *determiner* has its noun phrase after it. So the word is none where the clause ends, or where what follows cannot
  begin a noun phrase that already has a determiner: a preposition, conjunction, pronoun, another determiner, an
  auxiliary, an adverb that ends the clause.
- Some words begin noun phrases and also follow an object. There the verb before decides: *saw her running* but *her
  running shoes*; *let her go*; *called her back* but *her back hurt*; *gave her two books* but *her two books*; *made
  her angry*.
- In *his or her opinion* and *her/his* the first is what the second is.

**Known limits** A bare noun after a verb with two objects is ambiguous without meaning ("gave her advice", "gave her
opinion"): apart from a few nouns that are hardly ever owned (*permission*, *directions*) it is taken as owned. The rule
reads four words and parses nothing.

**Source** The distribution of determiners and pronouns in Huddleston & Pullum 2002, "The Cambridge Grammar of the
English Language", chapter 5; lists and rules are this program's own.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"\s*(?:(?P<quote>[\"'“‘*_(\[]+)(?=\w))?(?P<word>[$€£]?\w[\w'’-]*|[^\w\s])|\s*\Z"
)
_LAST_WORD = re.compile(r"(\w[\w'’-]*)[\s\"'“‘*_]*\Z")
_PARAGRAPH = re.compile(r"[^\S\n]*\n\s*\n")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PREPOSITIONS = _words(
    "to in on at of from with without for by about into onto upon over under after before during until till since "
    "through across against among amongst between behind beside besides beneath beyond near off out up down away "
    "around round along toward towards via within as than like despite except throughout underneath opposite"
)
_CONJUNCTIONS = _words(
    "and or but nor because if when whenever while where wherever that which who whom whose what why how whether "
    "although though unless so yet then &"
)
_DETERMINERS = _words(
    "the a an this these those some any all each no another my your our their its his her he she it they we you i "
    "me us them him herself himself something anything everything nothing someone somebody anyone anybody "
    "everyone everybody nobody it's he's she's they're i'm you're"
)
_AUXILIARIES = _words(
    "is are was were be been am has had have do does did would could should must may not never isn't wasn't "
    "aren't weren't doesn't didn't won't wouldn't can't couldn't shouldn't hasn't hadn't don't can cannot"
)
_ADVERBS = _words(
    "again today yesterday tomorrow tonight now later soon here there too either anyway anymore instead together "
    "alone once twice already always ever sometimes often afterwards afterward elsewhere somewhere anywhere "
    "everywhere"
)
_FUNCTION = _PREPOSITIONS | _CONJUNCTIONS | _DETERMINERS | _AUXILIARIES | _ADVERBS
_ENDS_CLAUSE = frozenset(".,;:!?)]}…—–\"”’'|>") | {""}

_POSSESSIVE = _words("his her their my your our its")
_ADJECTIVES_IN_LY = _words(
    "early only daily weekly monthly yearly quarterly friendly elderly lovely family lonely likely unlikely ugly "
    "silly holy lively deadly costly curly orderly bodily worldly motherly fatherly sisterly brotherly womanly "
    "manly timely untimely scholarly cowardly heavenly reply supply assembly jelly belly ally bully rally anomaly "
    "butterfly fly italy july multiply apply nightly hourly princely leisurely sickly homely hilly wooly woolly "
    "oily"
)
_BACK = _words(
    "called call calls calling took take takes taking brought bring brings bringing sent send sends sending paid "
    "pay pays paying invited invite asked ask told wrote write writes got get gets put held hold holds want wants "
    "wanted have had phoned phone texted text drove drive welcomed welcome pulled pull pushed push let win won "
    "hired hire rang ring led lead kept keep love loved loves hit stab stabbed"
)
_HOME = _words(
    "drove drive drives driving took take takes taking brought bring brings walked walk walks walking sent send "
    "sends followed follow follows let see saw seen escorted escort accompanied accompany carried carry drop "
    "dropped call"
)
_PERCEIVE = _words(
    "saw see sees seeing seen heard hear hears hearing watched watch watches watching found find finds caught "
    "catch left leave leaves noticed notice notices kept keep keeps remember remembered imagine imagined spotted "
    "spot sent observed observe"
)
_CAUSE = _words(
    "let lets letting make makes made making help helps helped helping see saw watch watched hear heard have feel "
    "felt"
)
_BARE_VERBS = _words(
    "go be come do know get take see keep become understand leave stay feel think find believe sit stand speak "
    "write learn choose decide pay win lose eat wait explain finish enter pass forget continue realize realise "
    "prepare recover improve succeed move run walk sing fall cry laugh smile sleep drive"
)
_COMPLEMENT = _words(
    "made make makes making found find finds kept keep keeps considered consider got get gets left leave thought "
    "want wanted rendered drove judged deemed declared called"
)
_STATES = _words(
    "happy sad angry proud sick ill busy safe guilty nervous uncomfortable comfortable unhappy afraid jealous "
    "famous rich unfit unqualified qualified suitable unsuitable incompetent competent responsible liable "
    "available eligible ineligible awake asleep alive dead dizzy tired anxious upset furious speechless helpless "
    "uneasy aware charming boring attractive difficult impressive trustworthy crazy mad ready"
)
_APPOINT = _words("made make makes named name elected elect appointed appoint crowned called")
_OFFICES = _words(
    "chairwoman chairman chair ceo president director manager captain queen king partner head leader supervisor editor "
    "minister chancellor mayor governor ambassador executor trustee team-leader"
)
_GIVE = _words(
    "give gives gave given giving tell tells told telling offer offers offered offering show shows showed shown "
    "showing send sends sent sending pay pays paid paying ask asks asked asking teach teaches taught owe owes "
    "owed charge charges charged cost costs lend lends lent loan loaned hand hands handed grant grants granted "
    "fine fined award awarded buy buys bought bring brought prescribe prescribed deny denied save saved promise "
    "promised wish wished allow allowed earn earned feed fed leave left call called name named"
)
_NUMBERS = _words(
    "two three four five six seven eight nine ten eleven twelve twenty thirty fifty hundred many several few "
    "plenty enough more less most both half double"
)
_GIFTS = _words(
    "money permission luck credit directions instructions flowers access hope trouble notice time advice medication "
    "medicine water food feedback"
)
_UNITS_OF_TIME = _words(
    "week night year month weekend spring summer fall autumn winter monday tuesday wednesday thursday friday "
    "saturday sunday january february march april june july august september october november december morning "
    "evening afternoon"
)
_OWNED_WITH_EVERY = _words("move need whim word step wish thought breath action decision moment")
_MODIFIES_A_NOUN = _words(
    "off down past inside outside over under near after above then up out like back away opposite all no yet once"
)


def is_determiner(before: str, after: str) -> bool:
    """Return whether a *her* with these texts around it is a determiner (*his*) rather than an object (*him*).

    >>> is_determiner("The nurse lost ", " keys."), is_determiner("They told ", " the news.")
    (True, False)
    """
    (quoted, first), rest = _next(after)
    (_, second), further = _next(rest)
    previous = _previous(before)
    if _coordinated(first, second, "his"):
        return is_determiner("", further)
    if first == "-":
        return True
    if quoted or first[:1] in ("$", "€", "£"):
        return previous not in _GIVE
    if first in _ENDS_CLAUSE or not first[0].isalnum() or _PARAGRAPH.match(after):
        return False
    return not _is_object(previous, first, second, _next(further)[0][1])


def _is_object(previous: str, first: str, second: str, third: str) -> bool:
    """Return whether a *her* between these words is an object."""
    ends = second in _ENDS_CLAUSE or second in _FUNCTION
    by_verb: list[tuple[bool, bool]] = [  # (this rule speaks, the word is an object)
        (first == "back", previous in _BACK and ends),
        (first == "home", previous in _HOME and ends),
        (first == "every", second not in _OWNED_WITH_EVERY),
        (first in ("past", "inside", "outside"), ends and second not in _AUXILIARIES),
        (first == "very", second in ("much", "well", "highly", "little")),
        (first in ("much", "well", "better", "best", "first", "right"), ends),
        (
            first in ("last", "next"),
            second in _UNITS_OF_TIME and third not in ("at", "of", "in", "as", "with"),
        ),
        (first[0].isdigit() or first in _NUMBERS, previous in _GIVE),
        (first in _GIFTS, previous in _GIVE and ends),
        (first in _BARE_VERBS, previous in _CAUSE),
        (first in _STATES, previous in _COMPLEMENT and ends),
        (first in _OFFICES, previous in _APPOINT and ends),
        (first.endswith("ing") and len(first) > 4, previous in _PERCEIVE),
        (first.endswith("ly") and first not in _ADJECTIVES_IN_LY, ends),
    ]
    return next((is_object for speaks, is_object in by_verb if speaks), first in _FUNCTION)


def stands_alone(before: str, after: str) -> bool:
    """Return whether a *his* with these texts around it is a pronoun (*hers*) rather than a determiner (*her*).

    >>> stands_alone("The car is ", "."), stands_alone("It was ", " car.")
    (True, False)
    """
    if _PARAGRAPH.match(after):
        return True
    (quoted, first), rest = _next(after)
    (_, second), further = _next(rest)
    if _coordinated(first, second, "her"):
        return stands_alone("", further)
    if quoted or first == "-":
        return False
    if first in _ENDS_CLAUSE or (not first[0].isalnum() and first[0] not in "$€£"):
        return True
    if first in _MODIFIES_A_NOUN:
        return False
    return first in _FUNCTION


def _coordinated(first: str, second: str, other: str) -> bool:
    """Return whether the two words after a pronoun join another to it that the rest of the phrase belongs to."""
    return (first in ("and", "or", "&") and second == other) or (
        first == "/" and second in _POSSESSIVE
    )


def _next(text: str) -> tuple[tuple[bool, str], str]:
    """Return the next word or mark in lower case, whether a quotation opens before it, and what follows."""
    found = _TOKEN.match(text)
    if found is None:
        return (False, ""), ""
    word = (found["word"] or "").lower().replace("’", "'")
    return (bool(found["quote"]), word), text[found.end() :]


def _previous(text: str) -> str:
    found = _LAST_WORD.search(text)
    return found[1].lower() if found else ""
