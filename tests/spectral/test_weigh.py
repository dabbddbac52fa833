"""The flow: what is read, in what order, in how much memory, and what becomes of everything that goes wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from spectral_source import Array, MemoryAdapter, MemorySource, Told, small_model, tuned

from evalkit.records.scorecard import Estimate
from evalkit.records.suite import SpectralTask
from evalkit.records.weights import StructureFault, Tensor
from evalkit.spectral import measuring
from evalkit.spectral.catalogue import CHECKS, MEASURES
from evalkit.spectral.decomposition import Eigenvalues
from evalkit.spectral.spectrum import NumpyDecomposition
from evalkit.spectral.weigh import Weighed, weigh

Q0 = "model.layers.0.self_attn.q_proj.weight"
UP1 = "model.layers.1.mlp.up_proj.weight"
GAIN = "model.layers.2.input_layernorm.weight"
TABLE = "model.embed_tokens.weight"


def weighed(
    source: MemorySource,
    base: MemorySource | None = None,
    adapter: MemoryAdapter | None = None,
    progress: Told | None = None,
    merged: MemorySource | None = None,
    decomposition: NumpyDecomposition | None = None,
    **options: Any,
) -> Weighed:
    return weigh(
        SpectralTask(kind="spectral", name="weights", **options),
        "candidate",
        source,
        base,
        adapter,
        level=0.95,
        seed=7,
        decomposition=decomposition or NumpyDecomposition(),
        progress=progress or Told(),
        base_digest="abc",
        merged=merged,
    )


def by_name(found: Weighed) -> dict[str, Estimate]:
    return {estimate.name.removeprefix("weights/"): estimate for estimate in found.estimates}


def fired(found: Weighed) -> set[str]:
    return {finding.check for finding in found.findings}


BASE = small_model()
TUNED = tuned(BASE)


def test_every_tensor_is_measured_once_in_the_order_of_the_source() -> None:
    found = weighed(MemorySource(TUNED), MemorySource(BASE))
    assert [row.tensor.name for row in found.rows] == list(TUNED)
    assert found.tally.planned == len(TUNED) and not found.tally.failures
    assert found.findings == () and found.unread == ()


def test_numbers_are_those_of_numpy() -> None:
    found = weighed(MemorySource(TUNED), MemorySource(BASE))
    row = next(row for row in found.rows if row.tensor.name == UP1)
    w, w0 = TUNED[UP1].astype(np.float64), BASE[UP1].astype(np.float64)
    singular, base_singular = (np.linalg.svd(m, compute_uv=False) for m in (w, w0))
    expected = {
        "norm": np.linalg.norm(w),
        "drift": np.linalg.norm(w - w0) / np.linalg.norm(w0),
        "cosine": (w * w0).sum() / np.linalg.norm(w) / np.linalg.norm(w0),
        "changed": 1.0,
        "log_norm": np.log10((w**2).sum()),
        "log_spectral_norm": np.log10(singular[0] ** 2),
        "stable_rank": (w**2).sum() / singular[0] ** 2,
        "stable_rank_ratio": (w**2).sum() / singular[0] ** 2 / (64 / (1 + np.sqrt(0.5)) ** 2),
        "norm_change": np.log10((w**2).sum() / (w0**2).sum()),
        "spectral_change": np.log10(singular[0] ** 2 / base_singular[0] ** 2),
    }
    for measure, number in expected.items():
        assert row.measured[measure].value == pytest.approx(number, rel=1e-5, abs=1e-6), measure


def test_pooled_numbers_are_those_of_all_weights_together() -> None:
    held = by_name(weighed(MemorySource(TUNED), MemorySource(BASE)))
    w = np.concatenate([t.ravel() for t in TUNED.values()]).astype(np.float64)
    w0 = np.concatenate([t.ravel() for t in BASE.values()]).astype(np.float64)
    assert held["norm"].value == pytest.approx(np.linalg.norm(w), rel=1e-6)
    assert held["drift"].value == pytest.approx(
        np.linalg.norm(w - w0) / np.linalg.norm(w0), rel=1e-5
    )
    here = [n for n in TUNED if "layers.2" in n]
    w, w0 = (np.concatenate([m[n].ravel() for n in here]) for m in (TUNED, BASE))
    cosine = float((w * w0).sum() / np.linalg.norm(w) / np.linalg.norm(w0))
    assert held["cosine@depth=2"].value == pytest.approx(cosine, abs=1e-6)


@pytest.mark.parametrize("numbers", [1, 100, 1000])
def test_memory_is_bounded_by_blocks_of_rows_and_changes_no_number(
    numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = weighed(MemorySource(TUNED), MemorySource(BASE))
    monkeypatch.setattr(measuring, "BLOCK_NUMBERS", numbers)
    monkeypatch.setattr(measuring, "HELD_BYTES", 0)
    source, base = MemorySource(TUNED), MemorySource(BASE)
    pieces = weighed(source, base)
    assert max(source.most_read, base.most_read) <= max(numbers, 128)  # a row at least
    assert pieces.findings == whole.findings == ()
    for one, other in zip(pieces.rows, whole.rows, strict=True):
        for measure, number in one.measured.items():
            assert number.value == pytest.approx(other.measured[measure].value, rel=1e-5, abs=1e-6)


def test_progress_names_each_tensor_and_counts_weights_to_the_end() -> None:
    told = Told()
    weighed(MemorySource(TUNED), MemorySource(BASE), progress=told)
    assert told.steps == [f"weighing: {name}" for name in TUNED]
    total = sum(array.size for array in TUNED.values())
    assert told.done[-1] == (total, total) and len(told.done) == len(TUNED)


def test_the_same_weights_give_the_same_record() -> None:
    options: dict[str, Any] = {"spectra": True, "importance": True, "draws": 5, "traps": True}
    few = {name: TUNED[name] for name in (TABLE, Q0, UP1, GAIN)}
    one, two = (weighed(MemorySource(few), MemorySource(BASE), **options) for _ in range(2))
    assert one == two


def test_another_tensor_in_the_model_moves_no_other_tensors_numbers() -> None:
    """Seeds are the tensors' own."""
    few = {name: TUNED[name] for name in (Q0, UP1)}
    alone = weighed(MemorySource(few), spectra=True, draws=5)
    beside = weighed(MemorySource(TUNED), spectra=True, draws=5)
    numbers = {row.tensor.name: row.measured for row in beside.rows}
    for row in alone.rows:
        for measure, number in row.measured.items():
            assert number.value == pytest.approx(numbers[row.tensor.name][measure].value, rel=1e-5)


def test_everything_in_the_catalogue_is_produced() -> None:
    """Every measure and every check has its estimate where all that they need is at hand."""
    width = BASE[Q0].shape[0]
    rng = np.random.default_rng(3)
    low_rank = {
        Q0: tuple(rng.standard_normal(s).astype(np.float32) for s in ((4, width), (width, 4)))
    }
    options: dict[str, Any] = {"frozen": ["*norm*"], "trained": ["*q_proj*"], "traps": True}
    found = weighed(
        MemorySource(TUNED, config={"vocab_size": 256}),
        MemorySource(BASE),
        MemoryAdapter(low_rank),
        merged=MemorySource(TUNED),
        spectra=True,
        importance=True,
        draws=5,
        **options,
    )
    held = by_name(found)
    for check in CHECKS:
        assert held[check.name].value is not None, check.name
    for measure in MEASURES:
        for place, summary in enumerate(measure.summaries):
            name = f"{measure.name}.{summary}" if place else measure.name
            assert held[name].value is not None, name
        for field in ("tensor=", "module=", "depth="):
            shown = any(name.startswith(f"{measure.name}@{field}") for name in held)
            assert shown == measure.per_tensor, measure.name
    known = {c.name for c in CHECKS} | {m.name for m in MEASURES}
    rows = {measure for row in found.rows for measure in row.measured}
    assert rows <= known


def test_without_a_base_nothing_is_said_about_a_base() -> None:
    held = by_name(weighed(MemorySource(TUNED)))
    needs = {measure.name for measure in MEASURES if measure.needs != "weights"}
    needs |= {check.name for check in CHECKS if check.needs not in ("weights", "tokens")}
    assert not {name.partition("@")[0] for name in held} & needs
    assert "integrity.vocabulary" not in held  # neither tokenizer nor vocab_size
    assert held["integrity.nonfinite"].value == 0


def test_a_tensor_that_cannot_be_read_is_a_finding_and_is_counted_and_the_rest_is_measured() -> (
    None
):
    found = weighed(
        MemorySource(TUNED, broken=frozenset({Q0})), MemorySource(BASE), spectra=True, draws=0
    )
    held = by_name(found)
    assert fired(found) == {"integrity.unreadable"}
    assert Q0 not in {row.tensor.name for row in found.rows} and len(found.rows) == len(TUNED) - 1
    assert [(u.tensor, u.reason) for u in found.unread] == [(Q0, f"{Q0} cannot be read")]
    assert held["drift"].counts.failed == 1 and held["alpha"].counts.failed == 1
    assert held[f"drift@tensor={Q0}"].value is None
    assert held["integrity.nonfinite"].counts.failed == 1
    assert found.tally.failures == {"unreadable": 1}


def test_a_base_that_cannot_be_read_is_told_and_leaves_the_tensors_own_numbers() -> None:
    found = weighed(MemorySource(TUNED), MemorySource(BASE, broken=frozenset({Q0})))
    row = next(row for row in found.rows if row.tensor.name == Q0)
    assert "norm" in row.measured and row.measured["drift"].value is None
    assert fired(found) == set()
    assert [(u.tensor, u.reason) for u in found.unread] == [
        (Q0, f"the base's: {Q0} cannot be read")
    ]
    held = by_name(found)
    assert held["drift"].counts.unscored + held["drift"].counts.failed == 1
    assert held["drift.outlier"].counts.failed == 1


def test_what_the_base_may_have_lost_is_neither_extra_nor_compared() -> None:
    fault = StructureFault("integrity.unreadable", None, "model-2.safetensors is missing")
    base = MemorySource({n: w for n, w in BASE.items() if n != Q0}, faults=[fault])
    found = weighed(MemorySource(TUNED), base)
    held = by_name(found)
    assert fired(found) == set()
    assert held["drift"].counts.unscored == 1 and held["drift.unrelated"].counts.failed == 1
    told = {unread.tensor: unread.reason for unread in found.unread}
    assert "model-2.safetensors is missing" in told[Q0]


def test_files_that_are_missing_count_against_every_number_of_the_whole_model() -> None:
    fault = StructureFault("integrity.unreadable", None, "model-2.safetensors is missing")
    held = by_name(weighed(MemorySource(TUNED, faults=[fault]), MemorySource(BASE)))
    assert held["integrity.unreadable"].value == 1
    assert held["norm"].counts.failed == held["integrity.zero"].counts.failed == 1
    assert held["log_norm@depth=0"].counts.failed == 0


@pytest.mark.parametrize(
    ("reason", "missed"), [("no weight: a buffer", 0), ("an unknown packing", 1)]
)
def test_what_is_skipped_counts_where_it_is_a_weight(reason: str, missed: int) -> None:
    found = weighed(MemorySource(TUNED, skipped={"x.qweight": reason}))
    assert by_name(found)["integrity.nonfinite"].counts.failed == missed
    assert [(u.tensor, u.reason) for u in found.unread] == [("x.qweight", reason)]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_tensor_with_nan_is_a_finding_and_has_no_norms_and_no_spectrum(bad: float) -> None:
    weights = {**TUNED, Q0: TUNED[Q0].copy()}
    weights[Q0][3, 5] = bad
    found = weighed(
        MemorySource(weights), MemorySource(BASE), spectra=True, importance=True, draws=0
    )
    assert fired(found) == {"integrity.nonfinite"}
    (finding,) = found.findings
    assert finding.tensor == Q0 and "1 of 4,096 numbers" in finding.message
    measured = next(row.measured for row in found.rows if row.tensor.name == Q0)
    for measure in ("norm", "drift", "cosine", "stable_rank", "alpha", "intruders", "importance"):
        assert measured[measure].value is None and "NaN" in measured[measure].note
    held = by_name(found)
    assert held["drift"].counts.unscored == held["stable_rank"].counts.unscored == 1
    assert held["drift"].value is not None
    assert "1 without a number: it holds NaN or infinity" in held["alpha"].warnings


def test_nan_in_the_base_leaves_the_tensors_own_numbers() -> None:
    base = {**BASE, Q0: np.full_like(BASE[Q0], np.nan)}
    found = weighed(MemorySource(TUNED), MemorySource(base), spectra=True, draws=0)
    measured = next(row.measured for row in found.rows if row.tensor.name == Q0)
    assert measured["norm"].value is not None and measured["hill"].value is not None
    assert measured["drift"].value is None and measured["intruders"].value is None
    assert fired(found) <= {"shape.noise", "shape.under_trained"}


def test_a_grown_vocabulary_is_compared_on_the_rows_that_both_have() -> None:
    more = np.ones((3, BASE[TABLE].shape[1]), np.float32)
    grown = {**TUNED, TABLE: np.concatenate([TUNED[TABLE], more])}
    found = weighed(MemorySource(grown), MemorySource(BASE))
    (finding,) = found.findings
    assert finding.check == "integrity.shape" and "first 256 rows" in finding.message
    here, there = (
        next(row.measured for row in each.rows if row.tensor.name == TABLE)
        for each in (found, weighed(MemorySource(TUNED), MemorySource(BASE)))
    )
    assert here["drift"].value == pytest.approx(there["drift"].value, rel=1e-6)
    assert here["norm"].value != there["norm"].value


def test_another_shape_is_a_finding_and_is_measured_alone() -> None:
    narrow = {**TUNED, Q0: TUNED[Q0][:, :32]}
    found = weighed(MemorySource(narrow), MemorySource(BASE), spectra=True, draws=0)
    assert fired(found) == {"integrity.shape"}
    assert "64×32, the base's 64×64; nothing of it is compared" in found.findings[0].message
    measured = next(row.measured for row in found.rows if row.tensor.name == Q0)
    assert measured["norm"].value is not None and measured["drift"].value is None
    assert by_name(found)["drift"].counts.unscored == 1


def test_a_tied_copy_is_compared_and_counts_once() -> None:
    copy = {**TUNED, "lm_head.weight": TUNED[TABLE].copy()}
    tie = {"lm_head.weight": TABLE}
    base = MemorySource(BASE, tied=tie)
    once = by_name(weighed(MemorySource(TUNED, tied=tie), base))
    found = weighed(MemorySource(copy, tied=tie), base)
    assert found.findings == ()
    assert by_name(found)["norm"] == once["norm"] and by_name(found)["drift"] == once["drift"]
    assert by_name(found)["integrity.tied"].counts.planned == 1


def test_experts_share_one_estimate_and_keep_their_rows() -> None:
    experts = {
        f"model.layers.0.mlp.experts.{n}.up_proj.weight": (n + 1) * BASE[UP1] for n in range(3)
    }
    base = dict.fromkeys(experts, BASE[UP1])
    found = weighed(MemorySource(experts), MemorySource(base))
    shared = "model.layers.0.mlp.experts.*.up_proj.weight"
    per_tensor = {name: e for name, e in by_name(found).items() if name.startswith("drift@tensor=")}
    assert list(per_tensor) == [f"drift@tensor={shared}"]
    assert per_tensor[f"drift@tensor={shared}"].value == pytest.approx(2.0)  # the worst of them
    assert per_tensor[f"drift@tensor={shared}"].counts.planned == 3
    assert len(found.rows) == 3


def test_empty_and_odd_shapes_are_weighed_too() -> None:
    odd: dict[str, Array] = {
        "scale": np.array(2.0, np.float32),
        "conv.weight": np.random.default_rng(0).standard_normal((8, 4, 3)).astype(np.float32),
        "one.weight": np.ones((1, 1), np.float32),
        "bias": np.zeros(5, np.float32),
    }
    found = weighed(MemorySource(odd), MemorySource(odd), spectra=True, draws=3, importance=True)
    assert fired(found) == {"drift.unchanged"}
    assert len(found.rows) == 4
    held = by_name(found)
    assert held["drift"].value == 0 and held["cosine"].value == pytest.approx(1.0)


def test_signatures_hold_what_could_change_a_number_and_no_more() -> None:
    few = {name: TUNED[name] for name in (TABLE, Q0, UP1, GAIN)}
    base = MemorySource({name: BASE[name] for name in few})
    against = by_name(weighed(MemorySource(few), base, spectra=True, draws=2))
    alone = by_name(weighed(MemorySource(few), spectra=True, draws=2))
    more = by_name(weighed(MemorySource(few), base, spectra=True, draws=3))
    for name in ("norm", "alpha", "integrity.nonfinite", "shape.under_trained"):
        assert against[name].signature == alone[name].signature, "these do not rest on the base"
    for name in ("drift", "intruders", "integrity.zero", "drift.outlier"):
        assert "base:abc" in against[name].signature
    assert against["drift"].signature == more["drift"].signature
    assert against["alpha"].signature != more["alpha"].signature
    assert "by:numpy" in against["alpha"].signature and "by:" not in against["norm"].signature


@pytest.mark.parametrize("name", [TABLE, Q0, GAIN])
@pytest.mark.parametrize("kind", ["nan", "zero", "drop", "huge", "tiny", "constant", "broken"])
def test_nothing_that_weights_can_be_ends_in_a_crash(name: str, kind: str) -> None:
    """Whatever is put into a tensor, every record is legal and every tensor is accounted for."""
    weights = {each: TUNED[each] for each in (TABLE, Q0, UP1, GAIN)}
    changed = {
        "nan": np.full_like(weights[name], np.nan),
        "zero": np.zeros_like(weights[name]),
        "huge": weights[name] * np.float32(1e37),
        "tiny": weights[name] * np.float32(1e-40),
        "constant": np.full_like(weights[name], -0.3),
    }
    weights[name] = changed.get(kind, weights[name])
    if kind == "drop":
        del weights[name]
    source = MemorySource(weights, broken=frozenset({name} if kind == "broken" else ()))
    base = MemorySource({each: BASE[each] for each in (TABLE, Q0, UP1, GAIN)})
    found = weighed(source, base, spectra=True, importance=True, draws=2, traps=True)
    assert len(found.rows) + len(found.unread) == len(weights)
    assert fired(found)
    for estimate in found.estimates:
        assert estimate.kind == "census" and estimate.counts.planned >= estimate.counts.scored


def test_norms_are_summed_up_over_the_same_tensors_with_and_without_spectra() -> None:
    """The largest eigenvalue is then the spectrum's, and Lanczos's is within a millionth of it: 4·10⁻⁷ in log10."""
    plain = by_name(weighed(MemorySource(TUNED), MemorySource(BASE)))
    more = by_name(weighed(MemorySource(TUNED), MemorySource(BASE), spectra=True, draws=0))
    for name, estimate in plain.items():
        assert estimate.counts == more[name].counts
        assert more[name].value == pytest.approx(estimate.value, rel=1e-6, abs=5e-7), name


def test_where_the_spectrum_tells_the_largest_eigenvalue_less_exactly_it_is_not_taken_from_it() -> (
    None
):
    class Coarse(NumpyDecomposition):
        """One whose eigenvalues are off by a thousandth, and that says so."""

        def resolution(self, size: int) -> float:
            return 1e-3

        def eigenvalues_of_many(self, matrices: Sequence[Array]) -> list[Eigenvalues]:
            return [1.001 * lambda_M for lambda_M in super().eigenvalues_of_many(matrices)]

    few = {name: TUNED[name] for name in (TABLE, Q0, UP1)}
    plain = by_name(weighed(MemorySource(few), MemorySource(BASE)))
    options: dict[str, Any] = {"spectra": True, "draws": 0}
    coarse = by_name(
        weighed(MemorySource(few), MemorySource(BASE), decomposition=Coarse(), **options)
    )
    assert {name: coarse[name].value for name in plain} == {n: e.value for n, e in plain.items()}


def test_a_base_that_is_lost_before_its_spectrum_leaves_the_largest_eigenvalue() -> None:
    class ReadOnce(MemorySource):
        """One whose tensors can be read once."""

        def read(self, tensor: Tensor, start: int = 0, stop: int | None = None) -> Array:
            rows = super().read(tensor, start, stop)
            self.broken |= {tensor.name}
            return rows

    base = {Q0: np.full_like(BASE[Q0], np.nan)}  # so it is not held
    found = weighed(MemorySource({Q0: TUNED[Q0]}), ReadOnce(base), spectra=True, draws=0)
    (row,) = found.rows
    assert row.measured["alpha"].note == f"{Q0} cannot be read"
    largest = np.linalg.norm(TUNED[Q0].astype(float), 2) ** 2
    assert row.measured["log_spectral_norm"].value == pytest.approx(np.log10(largest), abs=5e-7)


def test_matrices_that_wait_for_their_spectra_keep_their_numbers() -> None:
    """All of them are read into the same memory, one after another."""
    together = weighed(MemorySource(TUNED), spectra=True, draws=0)
    for row in together.rows:
        only = {row.tensor.name: TUNED[row.tensor.name]}
        (alone,) = weighed(MemorySource(only), spectra=True, draws=0).rows
        for measure, number in alone.measured.items():
            assert row.measured[measure].status == number.status, measure
            if number.value is not None:
                same = pytest.approx(number.value, rel=1e-9, abs=1e-12)
                assert row.measured[measure].value == same, (row.tensor.name, measure)


def test_a_weight_that_is_skipped_is_a_finding_and_a_buffer_is_not() -> None:
    skipped = {"x.weight": "it holds no numbers", "y": "no weight: a buffer"}
    found = weighed(MemorySource(TUNED, skipped=skipped), MemorySource(BASE))
    assert [(f.check, f.tensor) for f in found.findings] == [("integrity.unreadable", "x.weight")]


@pytest.mark.parametrize(
    ("config", "holes"),
    [
        ({"num_hidden_layers": 4}, 1),
        ({"num_hidden_layers": 6}, 3),
        ({"text_config": {"num_hidden_layers": 5}, "num_hidden_layers": 2}, 2),
        ({"num_hidden_layers": 10**9}, 1),
        ({"num_hidden_layers": 2}, 0),
        ({"num_hidden_layers": 6, "is_encoder_decoder": True}, 0),
        ({"num_hidden_layers": 6, "num_hidden_groups": 1}, 0),
        ({"num_hidden_layers": {"language": 6}}, 0),
        ({}, 0),
    ],
)
def test_blocks_that_the_configuration_counts_and_that_are_not_there(
    config: dict[str, Any], holes: int
) -> None:
    here = {name: w for name, w in TUNED.items() if "layers.2." not in name}
    found = by_name(weighed(MemorySource(here, config=config)))
    assert found["integrity.unreadable"].value == holes
    table = by_name(weighed(MemorySource({TABLE: TUNED[TABLE]}, config=config)))
    assert table["integrity.unreadable"].value == 0, "no blocks at all: another kind of model"


def test_what_the_base_has_lost_keeps_the_checks_against_it_from_passing() -> None:
    fault = StructureFault("integrity.unreadable", None, "model-2.safetensors is missing")
    held = by_name(weighed(MemorySource(TUNED), MemorySource(BASE, faults=[fault])))
    for check in ("missing", "extra", "shape", "dtype"):
        assert held[f"integrity.{check}"].counts.failed == 1, check
    whole = by_name(weighed(MemorySource(TUNED), MemorySource(BASE)))
    assert whole["integrity.missing"].counts.failed == 0


def test_checks_of_spectra_and_noise_count_matrices_without_a_number() -> None:
    weights = {**TUNED, Q0: np.full_like(TUNED[Q0], np.nan)}
    held = by_name(weighed(MemorySource(weights), MemorySource(BASE), spectra=True, draws=0))
    whole = by_name(weighed(MemorySource(TUNED), MemorySource(BASE), spectra=True, draws=0))
    for check in ("shape.over_trained", "shape.under_trained", "shape.noise", "drift.spectrum"):
        assert held[check].counts.failed == 1 and whole[check].counts.failed == 0, check


def test_intruders_are_not_looked_for_where_the_base_holds_nan() -> None:
    base = {**BASE, Q0: np.full_like(BASE[Q0], np.nan)}
    held = by_name(weighed(MemorySource(TUNED), MemorySource(base), spectra=True, draws=0))
    assert held["drift.spectrum"].counts.failed == 1
    assert held["shape.over_trained"].counts.failed == 0


def test_a_bias_that_is_0_in_the_base_is_part_of_the_pooled_distance() -> None:
    bias = "model.layers.0.self_attn.q_proj.bias"
    zero, moved = {bias: np.zeros(64, np.float32)}, {bias: np.full(64, 0.01, np.float32)}
    held = by_name(weighed(MemorySource(TUNED | moved), MemorySource(BASE | zero)))
    delta = sum(float(((TUNED[n] - BASE[n]).astype(np.float64) ** 2).sum()) for n in BASE) + 0.0064
    base = sum(float((w.astype(np.float64) ** 2).sum()) for w in BASE.values())
    assert held["drift"].value == pytest.approx(np.sqrt(delta / base), rel=1e-5)
    for measure in ("drift", "cosine", "changed"):
        assert held[measure].counts.unscored == 0 and not held[measure].warnings, measure
    assert held["drift.max"].counts.unscored == 1
    assert held[f"drift@tensor={bias}"].value is None
