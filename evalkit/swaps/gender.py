"""English words for men and women, male first: the shipped mapping ``gender``.

**Source** Written for this program: pronouns, kin, titles, offices, occupations and nationalities whose form tells a
sex. No published list was copied.

**What it does not show** Two sexes only. Given names stay as they are ("Mrs Anna Lee" becomes "Mr Anna Lee"): rows that
hold them need variants of their own. So do texts about what only one sex has (a pregnancy, a beard). Words that are
common for both today (*host*, *hero*, *heir*, *guys*) are not male words here, though their female forms are swapped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from evalkit.swaps.lexicon import Lexicon
from evalkit.swaps.pronouns import is_determiner, stands_alone

VERSION = 1
"""Grows when a text would be swapped differently."""

_PAIRS = """
he she|himself herself|man woman|men women|male female|males females
boy girl|boys girls|lad lass|lads lasses|guy gal|gentleman lady|gentlemen ladies
boyfriend girlfriend|boyfriends girlfriends|schoolboy schoolgirl|schoolboys schoolgirls
husband wife|husbands wives|househusband housewife|househusbands housewives|groom bride|grooms brides
widower widow|widowers widows|fiancé fiancée|fiance fiancee|bachelor bachelorette|bachelors bachelorettes
father mother|fathers mothers|dad mom|dads moms|daddy mommy|daddies mommies|papa mama
grandfather grandmother|grandfathers grandmothers|grandpa grandma|grandpas grandmas|granddad grandmom
grandson granddaughter|grandsons granddaughters|stepfather stepmother|stepfathers stepmothers|stepdad stepmom
stepson stepdaughter|stepsons stepdaughters|stepbrother stepsister|stepbrothers stepsisters
godfather godmother|godfathers godmothers|godson goddaughter|godsons goddaughters
son daughter|sons daughters|brother sister|brothers sisters|uncle aunt|uncles aunts|nephew niece|nephews nieces
fatherhood motherhood|fatherly motherly|fatherless motherless|brotherhood sisterhood|brotherly sisterly
boyhood girlhood|boyish girlish|manhood womanhood|manly womanly|masculine feminine|masculinity femininity
paternal maternal|paternally maternally|paternity maternity|patriarch matriarch|patriarchs matriarchs
patriarchal matriarchal|patriarchy matriarchy
Mr Ms|mr ms|sir madam|sirs madams
king queen|kings queens|prince princess|princes princesses
duke duchess|dukes duchesses|emperor empress|emperors empresses
baron baroness|barons baronesses|nobleman noblewoman|noblemen noblewomen
actor actress|actors actresses|waiter waitress|waiters waitresses|landlord landlady|landlords landladies
headmaster headmistress|headmasters headmistresses|masseur masseuse|masseurs masseuses
monk nun|monks nuns|priest priestess|priests priestesses|wizard witch|wizards witches
policeman policewoman|policemen policewomen|fireman firewoman|firemen firewomen
businessman businesswoman|businessmen businesswomen|salesman saleswoman|salesmen saleswomen
chairman chairwoman|chairmen chairwomen|spokesman spokeswoman|spokesmen spokeswomen
congressman congresswoman|congressmen congresswomen|councilman councilwoman|councilmen councilwomen
assemblyman assemblywoman|assemblymen assemblywomen|alderman alderwoman|aldermen alderwomen
sportsman sportswoman|sportsmen sportswomen|horseman horsewoman|horsemen horsewomen
cameraman camerawoman|cameramen camerawomen|stuntman stuntwoman|stuntmen stuntwomen
craftsman craftswoman|craftsmen craftswomen|tradesman tradeswoman|tradesmen tradeswomen
fisherman fisherwoman|fishermen fisherwomen|mailman mailwoman|mailmen mailwomen|postman postwoman|postmen postwomen
repairman repairwoman|repairmen repairwomen|serviceman servicewoman|servicemen servicewomen
foreman forewoman|foremen forewomen|juryman jurywoman|jurymen jurywomen|layman laywoman|laymen laywomen
anchorman anchorwoman|anchormen anchorwomen|clergyman clergywoman|clergymen clergywomen
doorman doorwoman|doormen doorwomen|handyman handywoman|handymen handywomen|milkman milkwoman|milkmen milkwomen
washerman washerwoman|washermen washerwomen|ombudsman ombudswoman|ombudsmen ombudswomen
Englishman Englishwoman|Englishmen Englishwomen|Frenchman Frenchwoman|Frenchmen Frenchwomen
Irishman Irishwoman|Irishmen Irishwomen|Scotsman Scotswoman|Scotsmen Scotswomen
Welshman Welshwoman|Welshmen Welshwomen|Dutchman Dutchwoman|Dutchmen Dutchwomen
Latino Latina|Latinos Latinas|Filipino Filipina|Filipinos Filipinas|Chicano Chicana|Chicanos Chicanas
alumnus alumna|divorcé divorcée|divorcés divorcées|confidant confidante
"""
"""Male and female, which stand for one another."""

_ONE_WAY = """
dad mum|dads mums|daddy mummy|daddies mummies|grandpa granny|grandpas grannies|papa mamma
Mr Mrs|mr mrs|Mr Miss|sir ma'am|sir ma’am|bridegroom bride|bridegrooms brides|gentleman gentlewoman
lad lassie|lads lassies|host hostess|hosts hostesses|hero heroine|heroes heroines|heir heiress|heirs heiresses
steward stewardess|stewards stewardesses|manager manageress|author authoress|poet poetess|sculptor sculptress
god goddess|gods goddesses|seducer seductress|sorcerer sorceress|usher usherette|guys gals
"""
"""The same, for words that are common for both, or that another word stands for already: those that the pairs above do
not hold are found in one direction only."""

_BOTH_SEXES = frozenset(
    [
        *("host", "hosts", "hero", "heroes", "heir", "heirs", "steward", "stewards", "manager", "author", "poet"),
        *("sculptor", "god", "gods", "seducer", "sorcerer", "usher", "guys"),
    ]
)  # fmt: skip
"""Of the words for men there, those that are said of women too."""

_KEPT = re.compile(
    r"(?<!\w)(?:isle of man|man[ -]made|man[ -]hours?|man[ -]days?|no man'?s land|\(s\)he|s/he|"
    r"(?:king|queen)[ -]sized?|burger king|stephen king|(?:luther|billie jean|larry|b\.b\.) king|duke university|"
    r"mother[ -]tongues?|motherboards?|mother nature|father christmas|bachelor'?s (?:degree|programme|program|thesis)|"
    r"bachelor of \w+|sister (?:company|companies|city|cities|ship|ships)|brother printers?|"
    r"y chromosomes?|white men can't jump)(?!\w)",
    re.IGNORECASE,
)
"""Names and set phrases that speak of no man and no woman."""

_AFTER_MISS = re.compile(r"\s+[A-Z\u00c0-\u00de]")

_HIS_HER, _HIM_HER, _HIS_HERS = range(3)
_READ = 200
"""Characters before and after a pronoun that decide about it; four words are read."""


def gender_lexicon() -> Lexicon:
    """Return the lexicon of groups ``male`` and ``female``.

    >>> gender_lexicon().exchanged("He told his wife that an actress called him.", "male", "female")
    'She told her husband that an actor called her.'
    """
    pronouns = ["his her", "him her", "his hers"]  # the order of the numbers above
    listed = [pair.split() for pair in [*pronouns, *_listed(_PAIRS), *_listed(_ONE_WAY)]]
    places = [{"male": male, "female": female} for male, female in listed]
    return Lexicon("gender", places, choose=_choose, kept=_KEPT)


def _listed(pairs: str) -> list[str]:
    return [pair for line in pairs.strip().split("\n") for pair in line.split("|")]


def _choose(text: str, start: int, end: int, places: Sequence[int]) -> int | None:
    """Return the place at which a word stands; None where it is no word for a sex there."""
    word = text[start:end]
    if word.lower() in _BOTH_SEXES:
        return None
    if word.lower() == "miss":
        return places[0] if _AFTER_MISS.match(text, end) else None
    before, after = text[max(start - _READ, 0) : start], text[end : end + _READ]
    if _HIM_HER in places and _HIS_HER in places:
        return _HIS_HER if is_determiner(before, after) else _HIM_HER
    if _HIS_HERS in places and _HIS_HER in places:
        return _HIS_HERS if stands_alone(before, after) else _HIS_HER
    return places[0]
