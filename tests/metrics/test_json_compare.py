"""Comparing JSON documents leaf by leaf: laws that hold for any two documents."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from evalkit.metrics.json_compare import compare, count_leaves
from evalkit.metrics.json_places import Equality, build_place

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([0.5, 1.0, "a", "A", " a", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "0", "id", "/", "~"]), inner)
    ),
    max_leaves=12,
)
ANY_EQUALITY = st.builds(
    Equality,
    ignore_case=st.booleans(),
    strip=st.booleans(),
    tolerance=st.sampled_from([0.0, 0.5]),
    arrays=st.sampled_from(["index", "key", "assign"]),
)


def shuffled(value, rng):
    if isinstance(value, dict):
        names = list(value)
        rng.shuffle(names)
        return {name: shuffled(value[name], rng) for name in names}
    return [shuffled(v, rng) for v in value] if isinstance(value, list) else value


@given(JSON, ANY_EQUALITY, st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_matter(document, equality, rng):
    tally = compare(document, shuffled(document, rng), build_place(equality))
    assert tally.exact
    assert tally.describe() == ""


@given(JSON, JSON, ANY_EQUALITY)
def test_counts_are_those_of_the_two_documents_and_swapping_them_swaps_precision_and_recall(
    gold, other, equality
):
    place = build_place(equality)
    forward = compare(gold, other, place)
    assert (forward.gold, forward.predicted) == (count_leaves(gold), count_leaves(other))
    assert forward.right <= forward.aligned <= min(forward.gold, forward.predicted)
    assert forward.exact == (forward.describe() == "")
    if (
        equality.arrays != "key"
    ):  # there, the first of several predicted elements with one key is taken
        backward = compare(other, gold, place)
        assert (forward.right, forward.aligned) == (backward.right, backward.aligned)


def _pointers(value, pointer=""):
    """The definition in other words: JSON Pointer → leaf, with [] around indices to keep them apart from names."""
    if isinstance(value, dict) and value:
        return {p: v for n in value for p, v in _pointers(value[n], f"{pointer}/{n!r}").items()}
    if isinstance(value, list) and value:
        return {
            p: v
            for i, inner in enumerate(value)
            for p, v in _pointers(inner, f"{pointer}/[{i}]").items()
        }
    return {pointer: value}


@given(JSON, JSON)
def test_the_counts_equal_those_of_flattening_both_documents_to_pointers(gold, other):
    flat_gold, flat_other = _pointers(gold), _pointers(other)
    both = flat_gold.keys() & flat_other.keys()

    def kind(leaf):
        return (
            "number" if isinstance(leaf, int | float) and not isinstance(leaf, bool) else type(leaf)
        )

    right = [
        p
        for p in both
        if kind(flat_gold[p]) == kind(flat_other[p]) and flat_gold[p] == flat_other[p]
    ]
    tally = compare(gold, other, build_place(Equality()))
    assert (tally.right, tally.aligned) == (len(right), len(both))
    assert tally.gold + tally.predicted - tally.aligned == len(flat_gold.keys() | flat_other.keys())


@given(JSON, JSON)
def test_free_pairing_finds_an_equal_element_wherever_it_stands(gold, other):
    tally = compare([gold], [other, gold], build_place(Equality(arrays="assign")))
    assert tally.right == tally.gold


@given(
    st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(0, 2)), max_size=5), st.randoms()
)
def test_free_order_means_that_shuffling_elements_changes_nothing(rows, rng):
    answer = rows[:]
    rng.shuffle(answer)
    assert compare(rows, answer, build_place(Equality(arrays="assign"))).exact
