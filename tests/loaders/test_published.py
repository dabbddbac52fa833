"""Published bias sets as their authors give them: what each row says, and what is refused.

Truth: the counts and definitions in Parrish et al. 2022 (BBQ), Nangia et al. 2020 (CrowS-Pairs) and Rudinger et al.
2018 (Winogender), over their own files where these are at hand.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from evalkit.errors import UsageError
from evalkit.loaders.datasets import open_dataset
from evalkit.loaders.published.bbq import Item, biased_answer
from evalkit.records.suite import DatasetSpec


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def opened(folder: Path, path: str, format_: str, **spec):
    return open_dataset(DatasetSpec(path=path, format=format_, **spec), folder, sha256)


def rows_of(folder: Path, path: str, format_: str, **spec):
    return [row for _, row in opened(folder, path, format_, **spec).rows()]


# --- BBQ ---------------------------------------------------------------------------------------------------------

ITEM = {
    "example_id": 7,
    "question_index": "3",
    "question_polarity": "neg",
    "context_condition": "ambig",
    "category": "Religion",
    "answer_info": {
        "ans0": ["Jewish", "Jewish"],
        "ans1": ["Not known", "unknown"],
        "ans2": ["Muslim", "Muslim"],
    },
    "additional_metadata": {"subcategory": "None", "stereotyped_groups": ["Muslim"]},
    "context": "Two people left.",
    "question": "Who left first?",
    "ans0": "The Jewish one",
    "ans1": "Not known",
    "ans2": "The Muslim one",
    "label": 1,
}


def item(category, groups, first, second, polarity="neg"):
    """An item about two people, each a pair of description and group; its third answer is that nothing is known."""
    return Item.model_validate(
        {
            **ITEM,
            "category": category,
            "question_polarity": polarity,
            "answer_info": {
                "ans0": list(first),
                "ans1": list(second),
                "ans2": ["Unknown", "unknown"],
            },
            "additional_metadata": {"stereotyped_groups": groups},
        }
    )


@pytest.fixture(scope="module", params=["Religion", "Sexual_orientation"])
def category(request, shared_data):
    return rows_of(shared_data / "bbq", f"{request.param}.jsonl", "bbq")


def test_every_item_of_a_category_is_a_row_with_its_biased_answer_derived(category):
    # Table 3 of the paper gives the numbers of examples; the paper has 25 templates in a category.
    expected = {"Religion": 1200, "Sexual_orientation": 864}[category[0]["category"]]
    assert len(category) == expected
    assert len({row["id"] for row in category}) == expected
    assert len({row["template"] for row in category}) == 25
    assert not any(row["not_derived"] for row in category)
    assert all(row["biased"] != row["unknown"] for row in category)


def test_ambiguous_items_have_unknown_for_their_answer_and_disambiguated_ones_a_person(category):
    for row in category:
        assert (row["label"] == row["unknown"]) == (row["context_condition"] == "ambig")


def test_right_answers_follow_the_stereotype_in_half_of_each_template(category):
    # Footnote 6 of the paper: aligned and nonaligned examples are completely balanced in each template.
    follows = defaultdict(Counter)
    for row in category:
        if row["context_condition"] == "disambig":
            follows[row["template"]][row["label"] == row["biased"]] += 1
    assert all(counts[True] == counts[False] for counts in follows.values())


def test_the_opposite_question_about_the_same_people_has_the_other_biased_answer(category):
    asked = defaultdict(dict)
    for row in category:
        key = (row["template"], row["context"], tuple(sorted(row["choices"])))
        people = [row["choices"][row["biased"]]]
        asked[key].setdefault(row["question_polarity"], []).extend(people)
    pairs = [answers for answers in asked.values() if len(answers) == 2]
    assert pairs
    assert all(set(answers["neg"]).isdisjoint(answers["nonneg"]) for answers in pairs)


def test_a_row_holds_what_a_prompt_shows_and_what_the_metric_reads(tmp_path):
    (tmp_path / "Religion.jsonl").write_text(json.dumps(ITEM) + "\n")
    assert rows_of(tmp_path, "Religion.jsonl", "bbq") == [
        {
            "id": "Religion-7",
            "category": "Religion",
            "subset": "Religion",
            "template": "Religion-3",
            "question_polarity": "neg",
            "context_condition": "ambig",
            "context": "Two people left.",
            "question": "Who left first?",
            "choices": ["The Jewish one", "Not known", "The Muslim one"],
            "label": 1,
            "unknown": 1,
            "biased": 2,
            "not_derived": "",
        }
    ]


RULES = [  # the rules of the authors' BBQ_results_metadata.R, one by one: who of the two is stereotyped
    ("Age", ["old"], ("grandson", "nonOld"), ("grandfather", "old"), 1),  # "old" is in "nonOld"
    ("Age", ["nonOld"], ("grandson", "nonOld"), ("grandfather", "old"), 0),
    ("Disability_status", ["disabled", "D/deaf"], ("a", "nonDisabled"), ("b", "disabled"), 1),
    ("Gender_identity", ["F"], ("woman", "woman"), ("man", "man"), 0),
    ("Gender_identity", ["M"], ("Mary", "F"), ("Robert", "M"), 1),
    ("Gender_identity", ["women"], ("girl", "girl"), ("boy", "boy"), 0),
    (
        "Gender_identity",
        ["Transgender women", "transgender men", "trans"],
        ("a", "nonTrans_F"),
        ("b", "trans_F"),
        1,
    ),
    # The group says Europe and AsiaPacific; the nationality stands in the description.
    ("Nationality", ["British"], ("Japanese", "AsiaPacific"), ("British", "Europe"), 1),
    ("Race_ethnicity", ["Black", "African American"], ("African", "African"), ("b", "Black"), 1),
    ("Race_ethnicity", ["Black"], ("Emily", "F-White"), ("Jamal", "M-Black"), 1),
    ("SES", ["low SES"], ("doctor", "highSES"), ("cashier", "lowSES"), 1),
]


@pytest.mark.parametrize(("category_", "groups", "first", "second", "target"), RULES)
def test_the_stereotyped_person_is_found_by_the_rules_of_the_category(
    category_, groups, first, second, target
):
    assert biased_answer(item(category_, groups, first, second)) == target
    assert biased_answer(item(category_, groups, first, second, "nonneg")) == 1 - target


@pytest.mark.parametrize(
    ("category_", "groups", "first", "second", "why"),
    [
        ("Religion", [], ("a", "Muslim"), ("b", "Jewish"), "names no stereotyped group"),
        ("Religion", ["Hindu"], ("a", "Muslim"), ("b", "Jewish"), "no answer is of"),
        # 36 answers in the authors' results have this fault, mended in the data since.
        ("Physical_appearance", ["negDress"], ("a", "negDress"), ("b", "negDress"), "each person"),
        ("Religion", ["Muslim"], ("a", "unknown"), ("b", "Muslim"), "not exactly one answer"),
        ("Race_x_gender", ["F-Black"], ("a", "F-Black"), ("b", "M-White"), "cross two"),
        ("Religion", ["Muslim"], ("a", ""), ("b", ""), "no answer is of"),
    ],
)
def test_what_cannot_be_derived_says_why_and_is_not_guessed(category_, groups, first, second, why):
    found = biased_answer(item(category_, groups, first, second))
    assert isinstance(found, str)
    assert why in found


def test_questions_with_proper_names_are_a_subset_of_their_own(tmp_path):
    named = {**ITEM, "question_index": "26", "category": "Race_ethnicity"}
    (tmp_path / "names.jsonl").write_text(json.dumps(named) + "\n")
    (row,) = rows_of(tmp_path, "names.jsonl", "bbq")
    assert row["subset"] == "Race_ethnicity (names)"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"label": 3}, "label"),
        ({"label": "1"}, "label"),
        ({"context_condition": "clear"}, "context_condition"),
        ({"question_polarity": None}, "question_polarity"),
        ({"answer_info": {"ans0": ["a", "b"]}}, "answer_info"),
        ({"answer_info": {**ITEM["answer_info"], "ans1": ["unknown"]}}, "answer_info"),
        ({"additional_metadata": {}}, "stereotyped_groups"),
        ({"ans2": None}, "ans2"),
    ],
)
def test_a_line_that_is_no_item_of_bbq_is_refused_with_its_place(tmp_path, changed, message):
    lines = [ITEM, {**ITEM, **changed}]
    (tmp_path / "bbq.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UsageError, match=rf"bbq\.jsonl:2: this is no item of BBQ.*{message}"):
        rows_of(tmp_path, "bbq.jsonl", "bbq")


# --- CrowS-Pairs -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pairs(shared_data):
    return rows_of(shared_data / "crows_pairs", "crows_pairs_anonymized.csv", "crows_pairs")


def test_crows_pairs_has_the_pairs_categories_and_directions_of_its_paper(pairs):
    assert len(pairs) == len({row["id"] for row in pairs}) == 1508
    assert Counter(row["bias_type"] for row in pairs) == {  # table 1 of the paper
        "race-color": 516,
        "gender": 262,
        "socioeconomic": 172,
        "nationality": 159,
        "religion": 105,
        "age": 87,
        "sexual-orientation": 84,
        "physical-appearance": 63,
        "disability": 60,
    }
    assert Counter(row["direction"] for row in pairs) == {"stereo": 1290, "antistereo": 218}


def test_the_more_stereotypical_sentence_stands_first_whatever_the_direction(pairs):
    poor, rich = pairs[1]["sentences"]
    assert poor.startswith("The poor are")
    assert rich.startswith("The rich are")
    assert pairs[2]["direction"] == "antistereo"
    assert "he would come forward" in pairs[2]["sentences"][0]


HEADER = ",sent_more,sent_less,stereo_antistereo,bias_type\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEADER + "0,a,b,other,age\n", r"pairs\.csv:2: the direction is 'other'"),
        (HEADER + "0,a,,stereo,age\n", r"pairs\.csv:2: .*nothing under 'sent_less'"),
        ("id,sent_more,sent_less\n0,a,b\n", r"pairs\.csv:2: .*nothing under ''"),
    ],
)
def test_a_line_that_is_no_pair_is_refused_with_its_place(tmp_path, content, message):
    (tmp_path / "pairs.csv").write_text(content)
    with pytest.raises(UsageError, match=message):
        rows_of(tmp_path, "pairs.csv", "crows_pairs")


def test_a_plain_csv_file_still_needs_a_name_for_each_column(tmp_path):
    (tmp_path / "pairs.csv").write_text(HEADER + "0,a,b,stereo,age\n")
    with pytest.raises(UsageError, match="a column has no name"):
        rows_of(tmp_path, "pairs.csv", "csv")


# --- Winogender --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stems(shared_data):
    return rows_of(shared_data / "winogender", "all_sentences.tsv", "winogender")


def test_winogender_has_240_stems_of_120_templates_about_60_occupations(stems):
    assert len(stems) == len({row["id"] for row in stems}) == 240
    assert len({row["template"] for row in stems}) == 120
    assert len({row["occupation"] for row in stems}) == 60
    assert Counter(row["answer"] for row in stems) == {0: 120, 1: 120}


def test_the_sentences_of_a_stem_are_those_of_its_template_with_each_pronoun(stems, shared_data):
    # The authors made the sentences from templates.tsv; made again from there, they are these.
    forms = {
        "male": {"$NOM_PRONOUN": "he", "$POSS_PRONOUN": "his", "$ACC_PRONOUN": "him"},
        "female": {"$NOM_PRONOUN": "she", "$POSS_PRONOUN": "her", "$ACC_PRONOUN": "her"},
        "neutral": {"$NOM_PRONOUN": "they", "$POSS_PRONOUN": "their", "$ACC_PRONOUN": "them"},
    }
    lines = (shared_data / "winogender" / "templates.tsv").read_text().splitlines()[1:]
    templates = {}
    for line in lines:
        occupation, participant, answer, sentence = line.split("\t")
        templates[f"{occupation}.{answer}"] = (participant, sentence)
    for row in stems:
        _, sentence = templates[row["template"]]
        used = next(slot for slot in forms["male"] if slot in sentence)
        for gender, pronouns in forms.items():
            assert row[f"{gender}_pronoun"] == pronouns[used]
            assert f" {pronouns[used]}" in row[gender]
        assert row["occupation"] in row["neutral"]
        assert row["participant"] in row["neutral"].lower()


def test_each_stem_is_a_gotcha_for_one_gender_and_half_of_them_are_for_each(stems):
    # Table 2 of the paper: accuracies over gotchas are multiples of 1/120.
    assert Counter(row["gotcha"] for row in stems) == {"male": 120, "female": 120}
    known = {row["id"]: row["gotcha"] for row in stems}
    # Footnote 8: a librarian who is "he" is a gotcha, as more than half of librarians are women.
    assert known["librarian.child.0"] == "male"
    assert known["librarian.child.1"] == "female"
    # 10.7 % of engineers are women (occupations-stats.tsv).
    assert known["engineer.client.0"] == "female"
    assert known["engineer.client.1"] == "male"


def test_choices_name_the_occupation_and_the_other_person_as_the_sentence_does(stems):
    known = {row["id"]: row["choices"] for row in stems}
    assert known["technician.customer.1"] == ["the technician", "the customer"]
    assert known["technician.someone.1"] == ["the technician", "someone"]


@pytest.fixture
def winogender(tmp_path):
    (tmp_path / "occupations-stats.tsv").write_text("occupation\tbls_pct_female\nnurse\t89.4\n")
    sentences = {
        gender: f"nurse.patient.0.{gender}.txt\tThe nurse said {pronoun} was late."
        for gender, pronoun in (("male", "he"), ("female", "she"), ("neutral", "they"))
    }

    def write(**changed):
        lines = ["sentid\tsentence", *({**sentences, **changed}).values()]
        (tmp_path / "all_sentences.tsv").write_text("\n".join(filter(None, lines)) + "\n")
        return tmp_path

    return write


def test_a_quotation_mark_in_a_sentence_is_a_character_like_any_other(winogender):
    said = '"Wait," the nurse said, as {} was late.'
    folder = winogender(
        male="nurse.patient.0.male.txt\t" + said.format("he"),
        female="nurse.patient.0.female.txt\t" + said.format("she"),
        neutral="nurse.patient.0.neutral.txt\t" + said.format("they"),
    )
    (row,) = rows_of(folder, "all_sentences.tsv", "winogender")
    assert row["female"] == '"Wait," the nurse said, as she was late.'
    assert row["female_pronoun"] == "she"


def test_the_statistics_beside_the_sentences_are_part_of_the_digest(winogender):
    folder = winogender()
    before = opened(folder, "all_sentences.tsv", "winogender")
    assert (before.total, len(list(before.rows()))) == (1, 1)
    (folder / "occupations-stats.tsv").write_text("occupation\tbls_pct_female\nnurse\t12.0\n")
    after = opened(folder, "all_sentences.tsv", "winogender")
    assert before.digest != after.digest
    assert [row["gotcha"] for _, row in after.rows()] == ["female"]


def test_without_the_statistics_nothing_is_read_and_the_source_is_told(winogender):
    folder = winogender()
    (folder / "occupations-stats.tsv").unlink()
    with pytest.raises(UsageError, match=r"no file '.*occupations-stats\.tsv': from the authors"):
        opened(folder, "all_sentences.tsv", "winogender", source="from the authors")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"neutral": ""}, "do not differ in a pronoun alone"),
        ({"female": "nurse.patient.0.male.txt\tAgain."}, "is there twice"),
        ({"female": "nurse.patient.0.other.txt\tThe nurse said."}, "no sentence of Winogender"),
        ({"female": "clerk.patient.0.female.txt\tThe clerk."}, "has no occupation 'clerk'"),
        (
            {"female": "nurse.patient.0.female.txt\tThe nurse says she is late."},
            "do not differ in a pronoun alone",
        ),
    ],
)
def test_sentences_that_are_no_stem_are_refused(winogender, changed, message):
    with pytest.raises(UsageError, match=message):
        rows_of(winogender(**changed), "all_sentences.tsv", "winogender")


# --- all of them -------------------------------------------------------------------------------------------------


def test_a_limit_takes_the_first_rows_of_each_format(shared_data, tmp_path):
    for path, format_ in (
        ("bbq/Religion.jsonl", "bbq"),
        ("crows_pairs/crows_pairs_anonymized.csv", "crows_pairs"),
        ("winogender/all_sentences.tsv", "winogender"),
    ):
        source = opened(shared_data, path, format_, limit=5)
        assert source.total == len(list(source.rows())) == 5
        assert [row for _, row in source.rows()] == rows_of(shared_data, path, format_)[:5]


def test_an_absent_file_is_told_with_where_it_can_be_had(tmp_path):
    with pytest.raises(UsageError, match=r"there is no file '.*bbq\.jsonl': ask the authors"):
        opened(tmp_path, "bbq.jsonl", "bbq", source="ask the authors")
    shutil.rmtree(tmp_path)
    with pytest.raises(UsageError, match="ask the authors"):
        opened(tmp_path, "bbq.jsonl", "bbq", source="ask the authors")
