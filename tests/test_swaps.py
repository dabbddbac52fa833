"""Texts about one group told about another."""

from __future__ import annotations

import csv
import unicodedata
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from swap_sentences import FORMS, MISSES, sentences

from evalkit.errors import UsageError
from evalkit.records.suite import SwapSpec
from evalkit.swaps import SHIPPED, groups_of, lexicon_of, shipped_lexicon, swapped_rows

GENDER = shipped_lexicon("gender")


def lexicon(articles="english", **groups):
    return lexicon_of(SwapSpec(fields=("text",), groups=groups, articles=articles))


def both_ways(text, words):
    """The text about the second group, and that one about the first again."""
    one, other = words.groups[:2]
    there = words.exchanged(text, one, other)
    return there, words.exchanged(there, one, other)


DISTRICTS = lexicon(Oak=["Oak", "north of the river"], Elm=["Elm", "south of the river"])


# --- what must not change -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The nurse lost the keys.",
        "The theme of heroic sheep and mannequins, manned hereby.",
        "A man-made lake on the Isle of Man, a king-size bed.",
        "Our host is the heir and a poet.",
        "You guys are late.",
        "I miss the bus. Miss it again.",
        "hE and sHe",  # no way of writing a word
        "he_said man2 éhe",
        "vitamin A",
    ],
)
def test_what_is_no_word_for_a_man_or_a_woman_stays(text):
    assert GENDER.exchanged(text, "male", "female") == text
    assert GENDER.neutral(text) == text


@given(st.text())
def test_a_text_without_a_listed_word_stays_as_it_is(text):
    words = lexicon(a=["qzx"], b=["xzq"])
    if "qzx" not in text.casefold() and "xzq" not in text.casefold():
        assert words.exchanged(text, "a", "b") == text == words.neutral(text)


@given(st.text())
def test_exchanging_a_group_with_itself_changes_nothing(text):
    assert GENDER.exchanged(text, "male", "male") == text


# --- English, for men and women -----------------------------------------------------------------


def test_each_of_winogenders_sentences_becomes_that_of_the_other_sex(shared_data):
    """240 stems, each written by its authors about a man, a woman, and in a neutral form."""
    stems = defaultdict(dict)
    path = shared_data / "winogender" / "all_sentences.tsv"
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            stem, sex = row["sentid"].removesuffix(".txt").rsplit(".", 1)
            stems[stem][sex] = row["sentence"]
    pairs = [(s["male"], s["female"]) for s in stems.values()]
    assert len(pairs) == 240
    right = sum(
        (GENDER.exchanged(male, "male", "female") == female)
        + (GENDER.exchanged(female, "male", "female") == male)
        for male, female in pairs
    )
    assert right == 480


@pytest.mark.parametrize(("of_her", "of_him"), sentences())
def test_her_is_his_or_him_by_the_grammar_around_it(of_her, of_him):
    assert GENDER.exchanged(of_her, "female", "male") == MISSES.get(of_her, of_him)
    back = MISSES.get(of_him, FORMS.get(of_him, of_her))
    assert GENDER.exchanged(of_him, "male", "female") == back


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        ("She SHE she", "He HE he"),
        ("MR LEE AND MRS LEE", "MS LEE AND MR LEE"),
        ("A WAITER IS A MAN. AN ACTOR", "A WAITRESS IS A WOMAN. AN ACTRESS"),
        ("the man's hat, the men's hats, the boys' hats", "the woman's hat, the women's hats, the girls' hats"),
        ("his/her form, he/she, him or her, his or hers", "her/his form, she/he, her or him, hers or his"),
        ("His or her opinion counts.", "Her or his opinion counts."),
        ("an Englishwoman and a Frenchwoman", "an Englishman and a Frenchman"),
        ("her\n\nNext paragraph", "him\n\nNext paragraph"),
        ("her\nkeys", "his\nkeys"),
        ("The hostess, an heiress, met a heroine.", "The host, an heir, met a hero."),
        ("Yes ma'am, said the bridegroom's mum.", "Yes sir, said the bride's dad."),
        ("the fiancée", "the fiancé"),
        (unicodedata.normalize("NFD", "the fiancée"), "the fiancé"),
    ],
)  # fmt: skip
def test_case_number_possession_and_accents_are_kept(text, swapped):
    assert GENDER.exchanged(text, "male", "female") == swapped


def test_a_text_about_two_people_keeps_them_apart():
    assert GENDER.exchanged("He met his wife and her son.", "male", "female") == (
        "She met her husband and his daughter."
    )


def test_texts_about_a_man_and_about_a_woman_are_equal_once_neutral():
    """*His*, which stands for *her* and *hers*, is one word there: only misread ones stay apart."""
    unequal = [her for her, him in sentences() if GENDER.neutral(her) != GENDER.neutral(him)]
    assert set(unequal) <= set(MISSES)


# --- articles -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        ("an Oak resident", "an Elm resident"),
        ("an American, a German", "a German, an American"),
        ("A German", "An American"),
        ("A GERMAN", "AN AMERICAN"),
        ('a "German"', 'an "American"'),
        ("grade A German, vitamin A", "grade A American, vitamin A"),
        ("He left. A German", "He left. An American"),
        ("an German, a American", "an American, a German"),  # slips stay
        ("plan B: a European, an hourly rate", "plan B: an Asian, an hourly rate"),
    ],
)
def test_a_and_an_agree_with_the_word_put_in(text, swapped):
    words = lexicon(one=["Oak", "American", "European"], other=["Elm", "German", "Asian"])
    assert words.exchanged(text, "one", "other") == swapped


def test_articles_stay_in_other_languages():
    words = lexicon(articles="keep", una=["María"], otra=["Ana"])
    assert words.exchanged("a María", "una", "otra") == "a Ana"


# --- words of one's own -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        ("district Oak", "district Elm"),
        ("an oak, OAK, Oak's, Oakland, Oak-born", "an oak, ELM, Elm's, Oakland, Elm-born"),
        ("from Oak to Elm", "from Elm to Oak"),
        ("North of the  river; North Of The River", "South of the river; South Of The River"),
        ("north of\nthe river", "south of the river"),
    ],
)
def test_words_and_phrases_are_swapped_whole_and_as_they_are_written(text, swapped):
    assert DISTRICTS.exchanged(text, "Oak", "Elm") == swapped


def test_the_longest_phrase_counts():
    words = lexicon(a=["old man", "man"], b=["old woman", "woman"])
    assert words.exchanged("an old man and a man", "a", "b") == "an old woman and a woman"


@pytest.mark.parametrize("word", ["René", "Łukasz", "Ольга", "Straße", "👩", "محمد"])
def test_words_of_any_alphabet_with_spaces_are_found_in_either_unicode_form(word):
    words = lexicon(a=[word], b=["Kim"])
    for form in ("NFC", "NFD"):
        text = unicodedata.normalize(form, f"for {word}, {word}")
        assert words.exchanged(text, "a", "b") == "for Kim, Kim"
        assert words.exchanged(text + "\u0301x", "a", "b").startswith("for Kim, ")


def test_an_accent_belongs_to_its_word():
    words = lexicon(a=["Rene"], b=["Kim"])
    text = unicodedata.normalize("NFD", "René")
    assert words.exchanged(text, "a", "b") == text


def test_a_word_of_two_groups_or_an_empty_one_is_refused():
    with pytest.raises(ValueError, match="'sir' is listed by 'a' and by 'b'"):
        lexicon(a=["sir"], b=["sir"])
    with pytest.raises(ValueError, match="empty"):
        lexicon(a=["x", " "], b=["y", "z"])


def test_a_word_listed_twice_by_its_group_stands_for_the_first():
    words = lexicon(a=["dad", "dad"], b=["mom", "mum"])
    assert words.exchanged("mum, mom, dad", "a", "b") == "dad, dad, mom"


NAMES = ("ash", "birch", "cedar", "Dogwood", "elder tree", "fir")
texts = st.lists(
    st.sampled_from([*NAMES, *map(str.upper, NAMES), *map(str.title, NAMES), "the", "of", ",", "ashes", "'s"])
).map(" ".join)  # fmt: skip
TREES = lexicon("keep", a=NAMES[:2], b=NAMES[2:4], c=NAMES[4:])


@given(texts, st.sampled_from("abc"), st.sampled_from("abc"))
def test_exchanging_twice_gives_the_text_back(text, one, other):
    """Where each word stands at one place: case shapes are kept but for a phrase's inner capitals."""
    there = TREES.exchanged(text, one, other)
    assert TREES.exchanged(there, one, other).casefold() == text.casefold()


@given(texts, st.sampled_from("abc"), st.sampled_from("abc"))
def test_neutral_texts_do_not_tell_which_group_they_were_about(text, one, other):
    swapped = TREES.exchanged(text, one, other)
    assert TREES.neutral(swapped).casefold() == TREES.neutral(text).casefold()


@given(texts)
def test_a_neutral_text_names_the_first_group_alone(text):
    assert {mention.group for mention in TREES.mentions(TREES.neutral(text))} <= {"a"}


# --- rows ---------------------------------------------------------------------------------------


def test_a_row_is_told_about_each_group_in_the_order_of_the_groups():
    row = {"text": "Rosa is from Elm.", "id": 7}
    rows = swapped_rows(row, ["text"], DISTRICTS)
    assert list(rows) == ["Oak", "Elm"]
    assert rows["Elm"] == row
    assert rows["Oak"] == {"text": "Rosa is from Oak.", "id": 7}


def test_a_row_is_about_the_group_that_is_named_first_and_all_its_fields_are_told_alike():
    words = lexicon(a=["ash"], b=["birch"], c=["cedar"])
    rows = swapped_rows(
        {"title": "A birch", "texts": ["the ash and the birch", "no tree"]},
        ["title", "texts"],
        words,
    )
    assert rows["b"]["title"] == "A birch"
    assert rows["a"] == {"title": "An ash", "texts": ["the birch and the ash", "no tree"]}
    assert rows["c"] == {"title": "A cedar", "texts": ["the ash and the cedar", "no tree"]}


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"text": "nobody is named"}, "no word of 'groups' (Oak, Elm) stands in 'text'"),
        ({}, "no field 'text'"),
        ({"text": 3}, "holds no text"),
        ({"text": ["Oak", None]}, "holds no text"),
    ],
)
def test_a_row_without_anything_to_swap_is_refused_in_words(row, told):
    with pytest.raises(ValueError, match="swap") as refused:
        swapped_rows(row, ["text"], DISTRICTS)
    assert told in str(refused.value)


def test_an_unknown_mapping_is_told_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'gender'"):
        lexicon_of(SwapSpec(fields=("text",), using="gendr"))


def test_every_shipped_mapping_tells_its_groups_and_swaps_something():
    for name, shipped in SHIPPED.items():
        groups = groups_of(SwapSpec(fields=("text",), using=name))
        assert groups == shipped.build().groups and len(groups) >= 2
        assert name in shipped.example and shipped.summary.endswith(".")


@pytest.mark.parametrize(
    ("text", "mentions"),
    [("a " * 50_000, 0), ("she " * 50_000, 50_000), ("her\t\t" * 50_000, 50_000), ("he" * 50_000, 0)],
)  # fmt: skip
def test_long_and_hostile_texts_are_read_to_their_end(text, mentions):
    """What took the square of their length would run into the time limit of the tests."""
    assert sum(1 for _ in GENDER.mentions(text)) == mentions
    assert len(GENDER.exchanged(text, "male", "female").split()) == len(text.split())
