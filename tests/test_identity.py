"""Digests, seeds and signatures."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.identity import canonical_json, derived_seed, digest, signature

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_canonical_json_reads_back_as_the_same_value(value):
    assert json.loads(canonical_json(value).decode("utf-8", "surrogatepass")) == value


@given(st.dictionaries(st.text(), st.integers(), min_size=2, max_size=6))
def test_the_order_of_keys_is_no_part_of_a_digest(mapping):
    reversed_mapping = dict(reversed(mapping.items()))
    assert digest(mapping) == digest(reversed_mapping)


def test_a_digest_is_the_sha256_of_the_canonical_text():
    assert digest({"b": 1, "a": "é"}) == hashlib.sha256('{"a":"é","b":1}'.encode()).hexdigest()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"x": [float("-inf")]}])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json(value)


def test_seeds_depend_on_every_part_and_their_borders():
    seeds = {
        derived_seed(*parts)
        for parts in [("a", "b"), ("ab",), ("a", "b", 0), ("a", "b", 1), ("b", "a")]
    }
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_signature_sorts_its_keys_and_writes_truth_as_words():
    assert signature("m", b=True, a=None, c=0.5) == "m|a:none|b:yes|c:0.5"
