"""What each check finds, and what it leaves alone; faults of whole checkpoints are in ``test_fault_matrix``."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from spectral_source import Array, MemoryAdapter, MemorySource, Told, small_model, tuned

from evalkit.records.exchange import Role
from evalkit.records.scorecard import Estimate
from evalkit.records.suite import SpectralTask
from evalkit.records.weights import StructureFault
from evalkit.spectral.merging import MergeCheck
from evalkit.spectral.spectrum import NumpyDecomposition
from evalkit.spectral.weigh import Weighed, weigh

Q0 = "model.layers.0.self_attn.q_proj.weight"
V1 = "model.layers.1.self_attn.v_proj.weight"
UP1 = "model.layers.1.mlp.up_proj.weight"
TABLE = "model.embed_tokens.weight"
BASE = small_model()
TUNED = tuned(BASE)


def weighed(
    source: MemorySource,
    base: MemorySource | None = None,
    adapter: MemoryAdapter | None = None,
    merged: MemorySource | None = None,
    role: Role = "candidate",
    **options: Any,
) -> Weighed:
    return weigh(
        SpectralTask(kind="spectral", name="weights", draws=0, **options),
        role,
        source,
        base,
        adapter,
        level=0.95,
        seed=0,
        decomposition=NumpyDecomposition(),
        progress=Told(),
        merged=merged,
    )


def found(of: Weighed, check: str) -> list[tuple[str | None, str]]:
    return [(f.tensor, f.message) for f in of.findings if f.check == check]


def number(of: Weighed, check: str) -> Estimate | None:
    return next((e for e in of.estimates if e.name == f"weights/{check}"), None)


def against_base(changes: dict[str, Array], **options: Any) -> Weighed:
    return weighed(MemorySource(TUNED | changes), MemorySource(BASE), **options)


def test_a_healthy_fine_tune_is_without_findings() -> None:
    assert weighed(MemorySource(TUNED), MemorySource(BASE), spectra=True).findings == ()


def test_the_number_of_a_check_is_that_of_its_findings() -> None:
    gone = {n: w for n, w in TUNED.items() if n not in (Q0, V1)}
    result = weighed(MemorySource(gone), MemorySource(BASE))
    held = number(result, "integrity.missing")
    assert held is not None and held.value == 2 == len(found(result, "integrity.missing"))
    assert held.interval is not None and held.interval.low == held.interval.high == 2
    assert held.better == "lower" and held.unit == "findings"


# --- zeros -----------------------------------------------------------------------------------------


def test_zeros_that_the_base_has_too_are_in_order() -> None:
    bias = {"model.layers.0.mlp.bias": np.zeros(8, np.float32)}
    table = BASE[TABLE].copy()
    table[0] = 0  # the padding token's row
    base = MemorySource(BASE | bias | {TABLE: table})
    tuned_table = TUNED[TABLE].copy()
    tuned_table[0] = 0
    result = weighed(MemorySource(TUNED | bias | {TABLE: tuned_table}), base)
    assert result.findings == ()


def test_without_a_base_zeros_are_only_out_of_place_in_matrices_and_tables() -> None:
    table = TUNED[TABLE].copy()
    table[:5] = 0
    zeros = {"bias": np.zeros(8, np.float32), TABLE: table, V1: np.zeros_like(TUNED[V1])}
    result = weighed(MemorySource(TUNED | zeros))
    assert found(result, "integrity.zero") == [(V1, "every number is 0")]
    assert found(result, "integrity.dead") == []


def test_a_row_and_a_column_of_zeros_are_counted() -> None:
    w = TUNED[UP1].copy()
    w[3], w[:, 7] = 0, 0
    for result in (against_base({UP1: w}), weighed(MemorySource(TUNED | {UP1: w}))):
        ((tensor, message),) = found(result, "integrity.dead")
        assert tensor == UP1 and message.startswith("1 rows and 1 columns are 0")


@pytest.mark.parametrize(("tokens", "findings"), [(None, 0), (256, 0), (258, 1)])
def test_new_rows_of_zeros_are_a_finding_where_they_stand_for_tokens(
    tokens: int | None, findings: int
) -> None:
    grown = {TABLE: np.concatenate([TUNED[TABLE], np.zeros((4, 64), np.float32)])}
    result = weighed(MemorySource(TUNED | grown, vocabulary=tokens), MemorySource(BASE))
    assert len(found(result, "integrity.dead")) == findings


# --- formats ---------------------------------------------------------------------------------------


def test_numbers_at_the_end_of_a_narrow_format_are_saturated() -> None:
    w = TUNED[V1].copy()
    w[0, :3] = 65504, -65504, 65472
    narrow = MemorySource(TUNED | {V1: w}, dtypes={V1: "F16"})
    ((tensor, message),) = found(weighed(narrow), "integrity.saturated")
    assert tensor == V1 and message == "2 of 4,096 numbers are ±65504, the most that F16 holds"
    assert found(weighed(MemorySource(TUNED | {V1: w})), "integrity.saturated") == []


def test_part_of_the_tensors_in_another_format_is_a_finding_for_each() -> None:
    result = weighed(MemorySource(TUNED, dtypes={V1: "F16"}), MemorySource(BASE))
    assert found(result, "integrity.dtype") == [(V1, "is stored as F16, the base's as F32")]


def test_a_model_converted_as_a_whole_is_in_order_where_its_configuration_says_so() -> None:
    converted = dict.fromkeys(TUNED, "BF16")
    for config, findings in (({"torch_dtype": "bfloat16"}, 0), ({}, 0), ({"dtype": "float32"}, 1)):
        source = MemorySource(TUNED, dtypes=converted, config=config)
        assert len(found(weighed(source, MemorySource(BASE)), "integrity.dtype")) == findings


def test_quantised_tensors_are_no_other_format() -> None:
    source = MemorySource(TUNED, dtypes={V1: "gptq int4", Q0: "F8_E4M3 per row"})
    assert found(weighed(source, MemorySource(BASE)), "integrity.dtype") == []


# --- vocabulary and ties -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vocabulary", "config", "findings"),
    [
        (256, {"vocab_size": 256}, 0),
        (200, {"vocab_size": 256}, 0),  # rows beyond the tokenizer's are padding
        (257, {"vocab_size": 256}, 1),
        (256, {"vocab_size": 300}, 1),
        (None, {"text_config": {"vocab_size": 128}}, 1),
        (260, {}, 1),
    ],
)
def test_the_table_has_as_many_rows_as_there_are_tokens(
    vocabulary: int | None, config: dict[str, Any], findings: int
) -> None:
    result = weighed(MemorySource(TUNED, vocabulary=vocabulary, config=config))
    assert len(found(result, "integrity.vocabulary")) == findings


def test_a_classifier_is_no_table_of_tokens() -> None:
    few = {"score.weight": np.ones((3, 64), np.float32)}
    result = weighed(MemorySource(TUNED | few, vocabulary=256))
    assert found(result, "integrity.vocabulary") == []


def test_copies_that_should_be_tied_and_differ_are_a_finding() -> None:
    head = TUNED[TABLE].copy()
    head[2, 3] += 0.5
    tie = {"lm_head.weight": TABLE}
    result = weighed(MemorySource(TUNED | {"lm_head.weight": head}, tied=tie))
    ((tensor, message),) = found(result, "integrity.tied")
    assert tensor == "lm_head.weight" and "1 of 16,384 numbers differ, by up to 0.5" in message


def test_a_tie_of_the_base_that_came_apart_is_a_finding() -> None:
    head = TUNED[TABLE] + np.float32(0.01)
    base = MemorySource(BASE, tied={"lm_head.weight": TABLE})
    result = weighed(MemorySource(TUNED | {"lm_head.weight": head}), base)
    assert [tensor for tensor, _ in found(result, "integrity.tied")] == ["lm_head.weight"]
    assert found(result, "integrity.extra") == []


def test_a_head_that_the_base_stores_apart_and_that_is_tied_here_is_missing() -> None:
    base = MemorySource(BASE | {"lm_head.weight": BASE[TABLE] + np.float32(1)})
    result = weighed(MemorySource(TUNED, tied={"lm_head.weight": TABLE}), base)
    ((tensor, message),) = found(result, "integrity.missing")
    assert tensor == "lm_head.weight" and "the base stores it apart" in message


# --- names -----------------------------------------------------------------------------------------


def test_tensors_that_one_side_lacks_are_missing_or_extra() -> None:
    here = {n: w for n, w in TUNED.items() if n != Q0} | {
        "adapter.weight": np.ones((2, 2), np.float32)
    }
    result = weighed(MemorySource(here), MemorySource(BASE))
    assert found(result, "integrity.missing") == [(Q0, "the base has it, and it is not there")]
    assert found(result, "integrity.extra") == [
        ("adapter.weight", "the base has none of this name")
    ]


def test_a_tensor_that_cannot_be_read_is_not_called_missing_too() -> None:
    here = {n: w for n, w in TUNED.items() if n != Q0}
    fault = StructureFault("integrity.unreadable", Q0, f"{Q0} is cut off")
    result = weighed(MemorySource(here, faults=[fault]), MemorySource(BASE))
    assert {f.check for f in result.findings} == {"integrity.unreadable"}


# --- training --------------------------------------------------------------------------------------


def test_weights_equal_to_the_bases_in_every_bit_were_never_trained() -> None:
    result = weighed(MemorySource(BASE), MemorySource(BASE))
    ((tensor, message),) = found(result, "drift.unchanged")
    assert tensor is None and "training never arrived" in message
    one = dict(BASE) | {V1: BASE[V1] + np.float32(1e-6)}
    assert found(weighed(MemorySource(one), MemorySource(BASE)), "drift.unchanged") == []


def test_a_baseline_may_be_the_base_itself() -> None:
    result = weighed(MemorySource(BASE), MemorySource(BASE), role="baseline", trained=["*"])
    assert result.findings == ()
    assert (
        number(result, "drift.unchanged") is None and number(result, "integrity.untrained") is None
    )


def test_frozen_tensors_must_be_the_bases_and_trained_ones_must_not() -> None:
    held = dict(TUNED) | {TABLE: BASE[TABLE], V1: BASE[V1]}
    result = weighed(
        MemorySource(held),
        MemorySource(BASE),
        frozen=["*embed*", Q0],
        trained=["*v_proj*", "*norm*"],
    )
    assert [tensor for tensor, _ in found(result, "integrity.frozen")] == [Q0]
    assert [tensor for tensor, _ in found(result, "integrity.untrained")] == [V1]


HEAD = {"score.weight": np.ones((3, 64), np.float32)}


def test_tensors_beside_those_of_the_base_do_not_hide_that_nothing_was_trained() -> None:
    result = weighed(MemorySource(BASE | HEAD), MemorySource(BASE))
    ((_, message),) = found(result, "drift.unchanged")
    assert "of tensors that the base has" in message
    assert "what the base lacks (score.weight)" in message and "declare" in message


def test_a_new_head_on_a_backbone_declared_frozen_is_no_training_that_never_arrived() -> None:
    probe = MemorySource(BASE | HEAD)
    assert found(weighed(probe, MemorySource(BASE), frozen=["model.*"]), "drift.unchanged") == []
    some = weighed(probe, MemorySource(BASE), frozen=["*q_proj*"])
    assert len(found(some, "drift.unchanged")) == 1, "the others were to be trained"
    alone = weighed(MemorySource(BASE), MemorySource(BASE), frozen=["*"])
    assert len(found(alone, "drift.unchanged")) == 1, "then nothing can have been trained"


def test_new_rows_of_a_table_may_be_all_that_was_trained() -> None:
    grown = dict(BASE) | {TABLE: np.vstack([BASE[TABLE], np.ones((2, BASE[TABLE].shape[1]))])}
    grown[TABLE] = grown[TABLE].astype(np.float32)
    ((_, message),) = found(weighed(MemorySource(grown), MemorySource(BASE)), "drift.unchanged")
    assert f"new rows of {TABLE}" in message
    declared = weighed(MemorySource(grown), MemorySource(BASE), frozen=["*"])
    assert found(declared, "drift.unchanged") == []


def test_training_of_one_tensor_alone_has_arrived() -> None:
    part = dict(BASE) | {TABLE: BASE[TABLE] + np.float32(0.001)}
    result = weighed(MemorySource(part), MemorySource(BASE), frozen=["*layers*"])
    assert result.findings == ()


def test_a_pattern_of_tensors_that_the_base_lacks_cannot_be_compared() -> None:
    source = MemorySource(TUNED | {"score.weight": np.ones((3, 64), np.float32)})
    result = weighed(source, MemorySource(BASE), trained=["score*"])
    assert found(result, "integrity.untrained") == [
        ("score.weight", "must have been trained, and could not be compared")
    ]
    assert not found(weighed(source, MemorySource(BASE), trained=["*"]), "integrity.untrained")


def test_a_pattern_that_matches_nothing_is_a_finding() -> None:
    result = weighed(
        MemorySource(TUNED), MemorySource(BASE), frozen=["*vision*"], trained=["q[ab]"]
    )
    assert found(result, "integrity.frozen") == [(None, "no tensor is named *vision*")]
    assert found(result, "integrity.untrained") == [(None, "no tensor is named q[ab]")]


def test_a_frozen_tensor_of_another_shape_does_not_pass() -> None:
    result = against_base({Q0: TUNED[Q0][:32]}, frozen=[Q0])
    assert found(result, "integrity.frozen") == [
        (Q0, "must be the base's, and could not be compared")
    ]


# --- departures ------------------------------------------------------------------------------------


def test_every_weight_scaled_alike_is_no_collapse_and_one_tensor_alone_is() -> None:
    alike = {n: np.float32(1.5) * w for n, w in TUNED.items()}
    assert found(weighed(MemorySource(alike), MemorySource(BASE)), "scale.collapse") == []
    ((tensor, message),) = found(against_base({V1: 3 * TUNED[V1]}), "scale.collapse")
    assert tensor == V1 and "‖W‖² changed by a factor of 9" in message


def test_a_bias_may_turn_and_grow() -> None:
    name = "model.layers.0.self_attn.q_proj.bias"
    base = MemorySource(BASE | {name: np.full(64, 1e-3, np.float32)})
    result = weighed(MemorySource(TUNED | {name: np.full(64, -2e-3, np.float32)}), base)
    assert found(result, "drift.unrelated") == found(result, "scale.collapse") == []


@pytest.mark.parametrize(("size", "findings"), [(0.01, 0), (0.9, 0), (1e6, 1)])
@pytest.mark.parametrize("name", ["model.layers.0.mlp.up_proj.bias", "model.layers.0.mlp.gate"])
def test_zeros_of_the_base_may_grow_and_not_beyond_every_other_tensor(
    name: str, size: float, findings: int
) -> None:
    base = MemorySource(BASE | {name: np.zeros(64, np.float32)})
    result = weighed(MemorySource(TUNED | {name: np.full(64, size, np.float32)}), base)
    assert [tensor for tensor, _ in found(result, "drift.outlier")] == [name] * findings
    of_scale = findings if name.endswith("gate") else 0  # biases have none
    assert [tensor for tensor, _ in found(result, "scale.collapse")] == [name] * of_scale
    assert all(f.value is None for f in result.findings if f.tensor == name)


def test_a_tensor_turned_by_more_than_45_degrees_does_not_resemble_the_bases() -> None:
    rng = np.random.default_rng(5)
    other = rng.standard_normal(BASE[V1].shape).astype(np.float32)
    other *= np.linalg.norm(BASE[V1]) / np.linalg.norm(other)
    for degrees, findings in ((40, 0), (50, 1)):
        angle = np.deg2rad(degrees)
        turned = (np.cos(angle) * BASE[V1] + np.sin(angle) * other).astype(np.float32)
        assert len(found(against_base({V1: turned}), "drift.unrelated")) == findings


def test_three_strong_new_directions_are_intruders() -> None:
    rng = np.random.default_rng(5)
    w = TUNED[V1].astype(np.float64)
    for directions, findings in ((0, 0), (2, 0), (3, 1), (5, 1)):
        u, _ = np.linalg.qr(rng.standard_normal((64, 64)))
        v, _ = np.linalg.qr(rng.standard_normal((64, 64)))
        strong = 3 * np.linalg.norm(w, 2) * u[:, :directions] @ v[:, :directions].T
        result = against_base({V1: (w + strong).astype(np.float32)}, spectra=True)
        assert len(found(result, "drift.spectrum")) == findings, directions


# --- adapters --------------------------------------------------------------------------------------


def low_rank(seed: int = 0, rank: int = 4, size: float = 0.001) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((rank, 64)), size * rng.standard_normal((64, rank))
    return a.astype(np.float32), b.astype(np.float32)


def merged_by(adapter: MemoryAdapter, times: float = 1.0) -> dict[str, Array]:
    held = dict(BASE)
    for name, (a, b) in adapter.pairs.items():
        held[name] = (held[name] + times * adapter.scale * (b @ a)).astype(np.float32)
    return held


def test_an_adapter_in_order_is_without_findings_and_its_updates_are_measured() -> None:
    adapter = MemoryAdapter({Q0: low_rank(), V1: low_rank(1)}, scale=2.0)
    merged = merged_by(adapter)
    result = weighed(MemorySource(merged), MemorySource(BASE), adapter, MemorySource(merged))
    assert result.findings == ()
    measured = next(row.measured for row in result.rows if row.tensor.name == Q0)
    a, b = adapter.pairs[Q0]
    share = np.linalg.norm(2 * b @ a) / np.linalg.norm(BASE[Q0])
    assert measured["update_norm"].value == pytest.approx(share, rel=1e-5)
    assert measured["update_rank"].value == 4
    assert 1 < (measured["update_effective_rank"].value or 0) <= 4
    assert measured["drift"].value == pytest.approx(share, rel=1e-5)


def test_updates_that_say_nothing_or_of_nothing_are_findings() -> None:
    a, b = low_rank()
    adapter = MemoryAdapter(
        {
            Q0: (a, np.zeros_like(b)),
            V1: (np.full_like(a, np.nan), b),
            "model.layers.9.mlp.weight": (a, b),
            UP1: (a, b),  # of another shape
        },
        skipped={"x.lora_Z": "no factor of LoRA"},
    )
    result = weighed(MemorySource(BASE), None, adapter)
    told = dict(found(result, "integrity.adapter"))
    assert "is 0, for B is" in told[Q0] and "NaN" in told[V1]
    assert "does not have" in told["model.layers.9.mlp.weight"]
    assert "64×64, the tensor 128×64" in told[UP1] and "no factor" in told["x.lora_Z"]


def test_an_adapter_of_nothing_is_a_finding() -> None:
    result = weighed(MemorySource(BASE), None, MemoryAdapter({}))
    assert "updates nothing" in found(result, "integrity.adapter")[0][1]


def test_faults_of_the_adapters_files_are_told_once() -> None:
    fault = StructureFault("integrity.unreadable", "score.weight", "score.weight is cut off")
    adapter = MemoryAdapter({Q0: low_rank()}, whole=MemorySource({}, faults=[fault]))
    merged = MemorySource(merged_by(adapter))
    result = weighed(merged, MemorySource(BASE), adapter, merged)
    assert [(f.check, f.tensor, f.message) for f in result.findings] == [
        ("integrity.adapter", "score.weight", "the adapter: score.weight is cut off")
    ]
    on_base = MemorySource(merged_by(adapter), faults=[fault])  # as base + adapter hands it on
    result = weighed(on_base, MemorySource(BASE), adapter)
    assert [f.check for f in result.findings] == ["integrity.unreadable"]


@pytest.mark.parametrize("times", [0.0, 8.0, -1.0, 0.9])
def test_an_update_not_applied_or_wrongly_scaled_is_not_base_plus_adapter(times: float) -> None:
    adapter = MemoryAdapter({Q0: low_rank()})
    expected = MemorySource(merged_by(adapter))
    result = weighed(MemorySource(merged_by(adapter, times)), MemorySource(BASE), adapter, expected)
    assert [tensor for tensor, _ in found(result, "integrity.merge")] == [Q0]


def test_a_tensor_that_the_adapter_leaves_alone_must_be_the_bases() -> None:
    adapter = MemoryAdapter({Q0: low_rank()})
    merged = merged_by(adapter)
    touched = merged | {V1: merged[V1] + np.float32(1e-3)}
    result = weighed(MemorySource(touched), MemorySource(BASE), adapter, MemorySource(merged))
    assert [tensor for tensor, _ in found(result, "integrity.merge")] == [V1]


def test_a_merge_into_a_quantised_tensor_cannot_be_checked_and_does_not_pass() -> None:
    adapter = MemoryAdapter({Q0: low_rank()})
    merged = merged_by(adapter)
    source = MemorySource(merged, dtypes={Q0: "gptq int4"})
    held = number(
        weighed(source, MemorySource(BASE), adapter, MemorySource(merged)), "integrity.merge"
    )
    assert held is not None and held.value == 0 and held.counts.failed == 1


STORED: dict[str, Any] = {"BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32}


def merges(base: NDArray[Any], a: Array, b: Array, stored: str) -> tuple[Array, list[NDArray[Any]]]:
    """Base + B A as it is read here, and as three programs write it: in float64, in float32, by way of the format."""
    kind = STORED[stored]
    exact = base.astype(np.float64) + b.astype(np.float64) @ a.astype(np.float64)
    single = base.astype(np.float32) + b @ a
    product = (b @ a).astype(kind).astype(np.float32)
    by_way = (base.astype(np.float32) + product).astype(kind)
    return single, [exact.astype(kind), single.astype(kind), by_way]


@pytest.mark.parametrize("stored", list(STORED))
@given(seed=st.integers(0, 2**20), rank=st.integers(1, 32), size=st.floats(1e-4, 1.0))
def test_rounding_alone_is_never_taken_for_a_wrong_merge(
    stored: str, seed: int, rank: int, size: float
) -> None:
    """Law: whoever merges, in whatever precision, stays within the bound."""
    rng = np.random.default_rng(seed)
    base = (0.05 * rng.standard_normal((12, 20))).astype(STORED[stored]).astype(np.float32)
    a = rng.standard_normal((rank, 20)).astype(np.float32)
    b = (size * rng.standard_normal((12, rank))).astype(np.float32)
    here, written = merges(base, a, b, stored)
    for held in written:
        check = MergeCheck(stored, (a, b, None), 1.0)
        check.add(0, held.astype(np.float32), base, here)
        assert check.beyond == 0 and check.count == 240


@pytest.mark.parametrize("stored", list(STORED))
def test_one_element_off_by_two_units_in_the_last_place_is_found(stored: str) -> None:
    rng = np.random.default_rng(0)
    base = rng.standard_normal((12, 20)).astype(STORED[stored]).astype(np.float32)
    a, b = np.full((2, 20), 1e-3, np.float32), np.full((12, 2), 1e-3, np.float32)
    here, (held, *_) = merges(base, a, b, stored)
    wrong = held.copy()
    for _ in range(2):
        wrong[4, 5] = np.nextafter(wrong[4, 5], wrong.dtype.type(np.inf))
    check = MergeCheck(stored, (a, b, None), 1.0)
    check.add(0, wrong.astype(np.float32), base, here)
    assert check.beyond == 1 and check.worst > 0


def test_nan_is_beyond_whatever_rounding_explains() -> None:
    check = MergeCheck("F32", None, 1.0)
    held = np.array([[1.0, np.nan]], np.float32)
    check.add(0, held, np.ones((1, 2), np.float32), np.ones((1, 2), np.float32))
    assert check.beyond == 1


@pytest.mark.parametrize("bad", [np.inf, -np.inf])
def test_infinity_is_beyond_whatever_rounding_explains(bad: float) -> None:
    check = MergeCheck("F32", None, 1.0)
    held = np.array([[1.0, bad]], np.float32)
    check.add(0, held, np.ones((1, 2), np.float32), np.ones((1, 2), np.float32))
    assert check.beyond == 1 and check.worst == 0
