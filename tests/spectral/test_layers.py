"""What is seen across tensors: scipy gives slopes and intervals, the study behind the thresholds gives the cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import theilslopes

from evalkit.records.weights import Fitted, Tensor
from evalkit.spectral.layers import (
    alpha_by_depth,
    beyond,
    correlation_flow,
    drift_outliers,
    is_dense_block,
    scale_collapse,
)

HEALTHY = {f"encoder.{block}.{name}": 0.0003 * block for block in range(6) for name in "qkvoud"}
"""log10 ratios of a healthy fine-tune in the study: none above 0.002."""


def test_a_healthy_fine_tune_has_no_collapse():
    assert scale_collapse(HEALTHY) == {}


@pytest.mark.parametrize("change", [0.14, -0.14, 0.95, 1.81, -math.inf])
def test_every_single_fault_of_the_study_is_a_collapse(change):
    """Swapped q and k 0.14, q × 3 0.95, re-initialised 1.81, zeroed −∞."""
    found = scale_collapse(HEALTHY | {"encoder.3.u": change})
    assert list(found) == ["encoder.3.u"]
    assert found["encoder.3.u"] == pytest.approx(change, abs=0.002)


def test_scaling_one_kind_of_tensor_collapses_each_of_them_and_no_other():
    queries = {name: math.log10(9) for name in HEALTHY if name.endswith("q")}
    assert set(scale_collapse(HEALTHY | queries)) == set(queries)


def test_scaling_every_tensor_is_no_collapse():
    assert scale_collapse({name: change + 2.0 for name, change in HEALTHY.items()}) == {}


def test_a_wide_spread_of_changes_has_no_outlier_where_one_of_narrow_spread_has():
    changes = dict(zip("abcdefg", [-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3], strict=True))
    assert scale_collapse(changes | {"h": 0.6}) == {}  # median 0.05, MAD 0.2
    assert set(scale_collapse({n: c / 10 for n, c in changes.items()} | {"h": 0.6})) == {"h"}


@given(st.lists(st.floats(-3, 3), min_size=4, max_size=40), st.floats(-2, 2))
def test_collapse_does_not_see_what_happened_to_all_alike(changes, shift):
    names = [str(place) for place in range(len(changes))]
    before = scale_collapse(dict(zip(names, changes, strict=True)))
    after = scale_collapse({n: c + shift for n, c in zip(names, changes, strict=True)})
    deviations = np.abs(np.array(changes) - np.median(changes))
    allowed = max(0.1, 5 * np.median(deviations))
    clear = {n for n, d in zip(names, deviations, strict=True) if abs(d - allowed) > 1e-9}
    assert (
        set(before) & clear
        == set(after) & clear
        == {n for n, d in zip(names, deviations, strict=True) if d > allowed} & clear
    )


def test_too_few_changes_say_nothing_and_nan_is_left_out():
    assert scale_collapse({"a": 0.0, "b": 0.0, "c": 9.0}) == {}
    assert scale_collapse({"a": 0.0, "b": 0.0, "c": -math.inf, "d": -math.inf}) == {}
    assert scale_collapse({}) == {}
    assert set(scale_collapse(HEALTHY | {"x": math.nan, "y": 1.0})) == {"y"}


def of_kind(module, drifts):
    return {f"{module}{place}": drift for place, drift in enumerate(drifts)}


def modules(*kinds):
    return {name: name.rstrip("0123456789") for kind in kinds for name in kind}


def test_a_tensor_that_moved_far_more_than_its_kind_is_an_outlier():
    up, norm = of_kind("up", [0.03] * 5 + [1.05]), of_kind("norm", [0.4] * 6)
    assert drift_outliers(up | norm, modules(up, norm)) == {"up5": pytest.approx(1.02)}


def test_kinds_that_drift_differently_do_not_make_each_other_outliers():
    up, bias = of_kind("up", [0.01] * 9), of_kind("bias", [0.5] * 6)
    assert drift_outliers(up | bias, modules(up, bias)) == {}


def test_training_few_tensors_gently_or_all_alike_finds_no_outlier():
    """LoRA on q and v of all blocks; the last block alone; the head alone."""
    frozen = of_kind("k", [0.0] * 24)
    queries, values = of_kind("q", [0.12, 0.13, 0.12, 0.14] * 6), of_kind("v", [0.15] * 24)
    assert drift_outliers(frozen | queries | values, modules(frozen, queries, values)) == {}
    last = {
        kind: of_kind(kind, [0.0] * 5 + [0.2 + step / 50]) for step, kind in enumerate("qkvoud")
    }
    together = {name: drift for kind in last.values() for name, drift in kind.items()}
    assert drift_outliers(together, modules(together)) == {}
    head = {"head0": 0.09}
    assert drift_outliers(frozen | head, modules(frozen, head)) == {}


def test_one_tensor_that_moved_far_while_all_others_stood_still_is_an_outlier():
    frozen, swapped = of_kind("k", [0.0] * 24), {"q0": 1.33, "v0": 1.33}
    assert set(drift_outliers(frozen | swapped, modules(frozen, swapped))) == {"q0", "v0"}


def test_a_drift_from_a_base_of_zeros_is_an_outlier_and_nobodys_yardstick():
    bias = of_kind("bias", [0.01] * 5 + [math.inf, math.nan])
    assert drift_outliers(bias, modules(bias)) == {"bias5": math.inf}
    assert drift_outliers({"a": math.inf}, {"a": "bias"}) == {}


@given(st.dictionaries(st.integers(0, 40), st.floats(1, 30), min_size=3, max_size=20))
def test_slope_and_interval_are_scipys(alphas):
    slope, _ = correlation_flow(alphas, level=0.9)
    depths = sorted(alphas)
    expected = theilslopes([alphas[depth] for depth in depths], depths, alpha=0.9)
    assert slope.value == pytest.approx(expected.slope, rel=1e-9, abs=1e-12)
    assert slope.method == "theil-sen"
    if len(set(alphas.values())) == len(alphas):  # scipy narrows the interval for equal alphas
        assert slope.low == pytest.approx(expected.low_slope, rel=1e-9, abs=1e-12)
        assert slope.high == pytest.approx(expected.high_slope, rel=1e-9, abs=1e-12)


def test_a_straight_course_has_its_slope_and_one_wild_block_moves_it_hardly():
    straight = {depth: 3.0 + 0.25 * depth for depth in range(12)}
    slope, roughness = correlation_flow(straight)
    assert (slope.value, slope.low, slope.high) == (0.25, 0.25, 0.25)
    assert roughness.value == 0.25
    slope, roughness = correlation_flow(straight | {6: 90.0})
    assert slope.value == pytest.approx(0.25, abs=0.02)
    assert roughness.value == pytest.approx(0.25)


def test_a_flat_course_is_smooth_and_a_jagged_one_rough():
    assert correlation_flow(dict.fromkeys(range(8), 4.0))[1].value == 0.0
    jagged = {depth: 4.0 + 3.0 * (depth % 2) for depth in range(8)}
    assert correlation_flow(jagged)[1].value == 3.0


def test_two_blocks_have_no_course():
    for found in correlation_flow({0: 3.0, 1: 5.0}):
        assert (found.value, found.status) == (None, "insufficient")
        assert "2 depths" in found.note


def test_blocks_without_an_alpha_are_left_out_of_the_course():
    assert alpha_by_depth([(2, 4.0), (1, None), (None, 12.0)]) == {2: 4.0}


@pytest.mark.parametrize(
    ("layer", "alpha", "low", "high", "tail", "line", "side", "sure"),
    [
        ("position table", 1.55, 1.49, 1.62, 284, 2.0, "below", True),
        ("L4 value", 8.44, 3.48, 13.41, 9, 6.0, "above", False),
        ("L5 key", 6.64, 3.82, 9.46, 16, 6.0, "above", False),
        ("pooler", 12.35, 6.68, 18.03, 16, 6.0, "above", False),  # beyond, but of 16
        ("pooler, longer tail", 12.35, 6.68, 18.03, 20, 6.0, "above", True),
        ("at the line", 6.0, 6.0, 6.0, 99, 6.0, "above", False),
        ("at the line", 2.0, 2.0, 2.0, 99, 2.0, "below", False),
        ("other side", 1.5, 1.4, 1.6, 99, 6.0, "above", False),
    ],
)
def test_an_alpha_is_beyond_a_line_when_all_of_its_interval_is_and_its_tail_suffices(
    layer, alpha, low, high, tail, line, side, sure
):
    """Layers of all-MiniLM-L6-v2 that WeightWatcher flags, with two of its standard errors to each side."""
    assert beyond(Fitted(alpha, low, high), tail, line, side) is sure


def test_an_alpha_without_value_interval_or_tail_is_beyond_nothing():
    assert not beyond(Fitted(None, status="failed"), 99, 2.0, "below")
    assert not beyond(Fitted(1.0), 99, 2.0, "below")
    assert not beyond(Fitted(1.0, 0.9, 1.1), None, 2.0, "below")


def tensor(form, depth):
    return Tensor("w", "w", (64, 64), "F32", "other", form, depth)


def test_only_dense_matrices_of_blocks_are_warned_about():
    assert is_dense_block(tensor("matrix", 0))
    assert not is_dense_block(tensor("matrix", None))  # a pooler
    for form in ("embedding", "head", "conv", "vector", "scalar"):
        assert not is_dense_block(tensor(form, 0))
