"""Tensors' numbers as estimates: which summaries, over what, with which interval and counts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spectral_source import described

from evalkit.records.scorecard import Estimate
from evalkit.records.suite import SpectralTask
from evalkit.records.weights import Fitted
from evalkit.spectral.catalogue import CHECKS, MEASURES
from evalkit.spectral.checks import LOOKS, Checked
from evalkit.spectral.elementwise import Elementwise
from evalkit.spectral.estimates import PICKED, POOLED, measure_estimates
from evalkit.spectral.evidence import Found
from evalkit.spectral.measuring import Measurement
from evalkit.spectral.pairing import Pair
from evalkit.spectral.terms import Terms

TERMS = Terms(
    task=SpectralTask(kind="spectral", name="weights"),
    role="candidate",
    level=0.95,
    has=frozenset({"weights", "base", "spectra"}),
    base="abc",
    decomposition="numpy",
    lost=0,
)


def measurement(block: int, module: str = "q_proj", **measured: Fitted) -> Measurement:
    tensor = described(f"model.layers.{block}.self_attn.{module}.weight", (64, 64))
    return Measurement(Pair(tensor), measured=measured)


def fit(value: float, low: float, high: float) -> Fitted:
    return Fitted(value, low, high, method="bootstrap")


def estimates(*measurements: Measurement, terms: Terms = TERMS) -> dict[str, Estimate]:
    found = measure_estimates(terms, measurements)
    return {estimate.name.removeprefix("weights/"): estimate for estimate in found}


def test_every_check_of_the_catalogue_has_what_looks_for_it() -> None:
    assert [check.name for check in CHECKS] == list(LOOKS)


def test_every_pooled_measure_has_a_definition() -> None:
    pooled = {m.name for m in MEASURES if "pooled" in m.summaries}
    assert pooled == {*POOLED, "flow_slope", "flow_roughness"}
    assert all(m.summaries.index("pooled") == 0 for m in MEASURES if "pooled" in m.summaries)


def test_names_are_told_apart_by_the_catalogue() -> None:
    names = [m.name for m in MEASURES] + [c.name for c in CHECKS]
    assert len(set(names)) == len(names)
    assert all("." in c.name for c in CHECKS) and not any("." in m.name for m in MEASURES)


def test_what_is_computed_is_a_point() -> None:
    held = estimates(measurement(0, max_abs=Fitted(2.0)), measurement(1, max_abs=Fitted(3.0)))
    interval = held["max_abs"].interval
    assert held["max_abs"].value == 3.0 and interval is not None
    assert interval.low == interval.high == 3.0 and interval.method == "exact"
    assert held["max_abs"].kind == "census" and held["max_abs"].counts.planned == 2


def test_a_summary_of_fits_reaches_from_that_of_the_lower_ends_to_that_of_the_upper_ends() -> None:
    held = estimates(
        measurement(0, alpha=fit(3.0, 2.5, 3.5)),
        measurement(1, alpha=fit(4.0, 3.8, 4.1)),
        measurement(2, alpha=fit(8.0, 5.0, 9.0)),
    )
    for name, value, low, high in (
        ("alpha", 5.0, (2.5 + 3.8 + 5) / 3, (3.5 + 4.1 + 9) / 3),
        ("alpha.median", 4.0, 3.8, 4.1),
        ("alpha.min", 3.0, 2.5, 3.5),
        ("alpha.max", 8.0, 5.0, 9.0),
    ):
        interval = held[name].interval
        assert held[name].value == pytest.approx(value) and interval is not None
        assert (interval.low, interval.high) == pytest.approx((low, high)), name
        assert interval.level == 0.95
    assert PICKED in held["alpha.max"].warnings and PICKED not in held["alpha.median"].warnings


@given(
    st.lists(st.tuples(st.floats(1, 10), st.floats(0, 3), st.floats(0, 3)), min_size=1, max_size=8),
    st.integers(0, 2**20),
)
def test_the_interval_of_a_summary_holds_it_for_all_numbers_within_the_fits_ends(
    fits: list[tuple[float, float, float]], seed: int
) -> None:
    """Law: mean, median, least and greatest are monotone, so no dependence of the fits' errors matters."""
    held = estimates(
        *(measurement(i, alpha=fit(v, v - b, v + a)) for i, (v, b, a) in enumerate(fits))
    )
    drawn = [
        np.random.default_rng(seed + i).uniform(v - b, v + a) for i, (v, b, a) in enumerate(fits)
    ]
    for name, make in (
        ("alpha", np.mean), ("alpha.median", np.median), ("alpha.min", np.min), ("alpha.max", np.max),
    ):  # fmt: skip
        interval = held[name].interval
        assert interval is not None
        assert interval.low - 1e-9 <= make(drawn) <= interval.high + 1e-9


def test_a_fit_without_ends_leaves_its_summary_without_an_interval() -> None:
    held = estimates(
        measurement(0, alpha=fit(3.0, 2.5, 3.5)), measurement(1, alpha=Fitted(4.0, method="mle"))
    )
    assert held["alpha"].value == 3.5 and held["alpha"].interval is None
    assert "a fit behind it has no interval" in held["alpha"].warnings


def test_a_tensor_without_a_number_is_counted_with_its_reason() -> None:
    none = Fitted(None, status="degenerate", note="the tensor is 0")
    held = estimates(measurement(0, max_abs=Fitted(2.0)), measurement(1, max_abs=none))
    counts = held["max_abs"].counts
    assert (counts.planned, counts.scored, counts.unscored, counts.failed) == (2, 1, 1, 0)
    assert held["max_abs"].warnings == ("1 without a number: the tensor is 0",)


def test_where_no_tensor_has_a_number_there_is_no_value_and_no_interval() -> None:
    none = Fitted(None, status="failed", note="it is not finite")
    held = estimates(measurement(0, alpha=none), measurement(1, alpha=none))
    assert held["alpha"].value is None and held["alpha"].interval is None
    assert held["alpha"].counts.unscored == 2


def test_a_matrix_too_small_for_a_power_law_is_none_of_alphas_business() -> None:
    router = Measurement(
        Pair(described("model.layers.0.mlp.router.weight", (8, 64))),
        measured={"alpha": Fitted(None, status="insufficient", note="8 eigenvalues")},
    )
    held = estimates(measurement(0, alpha=fit(3, 2, 4)), router)
    assert held["alpha"].counts.planned == held["alpha"].counts.scored == 1


def test_what_was_not_read_counts_where_tensors_of_its_form_have_numbers() -> None:
    unread = dataclasses.replace(measurement(1), unread="it is cut off")
    held = estimates(measurement(0, max_abs=Fitted(2.0), alpha=fit(3, 2, 4)), unread)
    assert held["max_abs"].counts.failed == held["alpha"].counts.failed == 1
    assert held["max_abs"].warnings == ("1 without a number: it is cut off",)


def test_the_only_tensor_of_its_form_counts_where_it_was_not_read() -> None:
    gain = Measurement(Pair(described("model.norm.weight", (64,))), unread="it is cut off")
    held = estimates(measurement(0, max_abs=Fitted(2.0), alpha=fit(3, 2, 4)), gain)
    assert held["max_abs"].counts.failed == 1 and held["alpha"].counts.failed == 0


def test_where_nothing_was_read_every_measure_says_so() -> None:
    held = estimates(dataclasses.replace(measurement(0), unread="it is cut off"))
    for name in ("max_abs", "alpha", "drift", "flow_slope"):
        assert held[name].value is None and held[name].counts.failed == 1, name
    assert "traps" not in held, "which the suite did not ask for"


def expert(number: int, **measured: Fitted) -> Measurement:
    name = f"model.layers.0.mlp.experts.{number}.up_proj.weight"
    return Measurement(Pair(described(name, (64, 64))), measured=measured)


def test_the_worst_expert_is_the_farthest_from_0_where_either_side_is_bad() -> None:
    held = estimates(*(expert(i, norm_change=Fitted(x)) for i, x in enumerate((0.1, -3.0, 0.2))))
    (worst,) = (e for name, e in held.items() if name.startswith("norm_change@tensor="))
    assert worst.value == -3.0


def test_the_interval_of_the_worst_expert_spans_the_experts() -> None:
    ends = ((3.0, 1.0, 3.5), (3.2, 3.1, 3.3), (2.0, 1.5, 9.0))
    held = estimates(*(expert(i, alpha=fit(*each)) for i, each in enumerate(ends)))
    (worst,) = (e for name, e in held.items() if name.startswith("alpha@tensor="))
    assert worst.value == 3.2 and worst.interval is not None
    assert (worst.interval.low, worst.interval.high) == (1.0, 9.0)


def test_lost_files_count_over_the_whole_model_alone() -> None:
    held = estimates(measurement(0, hill=Fitted(2.0)), terms=dataclasses.replace(TERMS, lost=3))
    assert held["hill"].counts.failed == 3 and held["hill@depth=0"].counts.failed == 0


def test_modules_and_depths_are_slices_and_tensors_where_the_catalogue_says_so() -> None:
    held = estimates(
        measurement(0, alpha=fit(3, 2, 4)),
        measurement(1, "k_proj", alpha=fit(5, 4, 6), alpha_tail=Fitted(30.0)),
    )
    assert held["alpha@module=query"].value == 3 and held["alpha@depth=1"].value == 5
    assert held["alpha.max@depth=1"].value == 5
    assert held["alpha@tensor=model.layers.1.self_attn.k_proj.weight"].value == 5
    assert "alpha_tail" in held and not any(name.startswith("alpha_tail@") for name in held)


def test_correlation_flow_is_taken_over_depth() -> None:
    alphas = [3.0, 3.5, 4.0, 4.5]
    held = estimates(*(measurement(i, alpha=fit(a, a - 1, a + 1)) for i, a in enumerate(alphas)))
    assert held["flow_slope"].value == pytest.approx(0.5)
    assert held["flow_roughness"].value == pytest.approx(0.5)
    assert held["flow_slope"].counts.planned == 4


def test_measures_that_lack_what_they_need_have_no_estimate() -> None:
    bare = dataclasses.replace(TERMS, has=frozenset({"weights"}))
    held = estimates(measurement(0, alpha=fit(3, 2, 4), max_abs=Fitted(1.0)), terms=bare)
    assert "max_abs" in held and "alpha" not in held


def test_pooled_numbers_are_of_all_weights_together_and_not_means() -> None:
    def held(block: int, count: int, delta: float) -> Measurement:
        stats = Elementwise(count, with_base=True)
        base = np.ones((1, count), np.float32)
        stats.add(base + np.float32(delta), base)
        drift = Fitted(delta)
        made = measurement(block, drift=drift, norm=Fitted(1.0))
        return dataclasses.replace(made, own=stats.stats(), against=stats.stats())

    found = estimates(held(0, 300, 0.5), held(1, 100, 0.1))
    assert found["drift"].value == pytest.approx(np.sqrt((300 * 0.25 + 100 * 0.01) / 400), rel=1e-5)
    assert found["drift.max"].value == 0.5
    assert found["norm"].value == pytest.approx(np.sqrt(300 * 1.5**2 + 100 * 1.1**2), rel=1e-5)


def test_the_number_of_findings_counts_what_could_not_be_looked_at() -> None:
    check = next(c for c in CHECKS if c.name == "drift.outlier")
    made = TERMS.of_check(Checked(check, (Found("a", "moved"), Found("b", "moved")), 38, 3))
    assert made.name == "weights/drift.outlier" and made.value == 2
    assert (made.counts.planned, made.counts.failed, made.counts.scored) == (38, 3, 35)
    assert "base:abc" in made.signature
