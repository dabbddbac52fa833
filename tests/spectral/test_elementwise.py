"""Sums and counts over a tensor's numbers against exact sums, made-up tensors with known answers, and their laws."""

from __future__ import annotations

import math
import tracemalloc
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from evalkit.spectral.elementwise import Elementwise, merged

F32 = np.float32
SPECIAL = [0.0, -0.0, 1.0, -1.0, math.nan, math.inf, -math.inf, 1e-45, 1e-30, 3e38, -3e38, 65504.0]
NUMBERS = st.one_of(st.sampled_from(SPECIAL), st.floats(width=32), st.floats(-2, 2, width=32))
SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=9)


def found(block, base=None, *, rows=None, largest_finite=None):
    """Return the stats of a tensor that comes in blocks of so many rows."""
    block = np.asarray(block, F32)
    base = None if base is None else np.asarray(base, F32)
    held = Elementwise(block.shape[1], largest_finite=largest_finite, with_base=base is not None)
    step = rows or max(1, len(block))
    for start in range(0, len(block), step):
        held.add(block[start : start + step], None if base is None else base[start : start + step])
    return held.stats()


def total(values):
    return math.fsum(float(value) for value in values)


def plainly(block, base):
    """Return the stats by their definitions, number by number, in exact sums of float64 products."""
    finite, base_finite = np.isfinite(block), np.isfinite(base)
    both, wide, wide_base = finite & base_finite, block.astype(float), base.astype(float)
    delta = wide[both] - wide_base[both]
    dead_rows, base_dead_rows = (block == 0).all(axis=1), (base == 0).all(axis=1)
    dead_columns, base_dead_columns = (block == 0).all(axis=0), (base == 0).all(axis=0)
    if not block.size:  # what holds nothing is not dead
        for dead in (dead_rows, base_dead_rows, dead_columns, base_dead_columns):
            dead[:] = False
    return {
        "count": block.size,
        "rows": block.shape[0],
        "columns": block.shape[1],
        "nonfinite": int((~finite).sum()),
        "zeros": int((block == 0).sum()),
        "saturated": int((finite & (np.abs(block) >= 65504)).sum()),
        "max_abs": float(np.abs(block[finite]).max(initial=0)),
        "sum_squares": total(wide[finite] ** 2),
        "dead_rows": int(dead_rows.sum()),
        "dead_columns": int(dead_columns.sum()),
        "base_nonfinite": int((~base_finite).sum()),
        "base_sum_squares": total(wide_base[base_finite] ** 2),
        "dot": total(wide[both] * wide_base[both]),
        "delta_sum_squares": total(delta**2),
        "changed": sum(
            not (a == b or (math.isnan(a) and math.isnan(b)))
            for a, b in zip(block.ravel().tolist(), base.ravel().tolist(), strict=True)
        ),
        "base_dead_rows": int(base_dead_rows.sum()),
        "new_dead_rows": int((dead_rows & ~base_dead_rows).sum()),
        "new_dead_columns": int((dead_columns & ~base_dead_columns).sum()),
    }


@st.composite
def pairs(draw):
    shape = draw(SHAPES)
    block = draw(hnp.arrays(F32, shape, elements=NUMBERS))
    base = draw(st.one_of(st.just(block.copy()), hnp.arrays(F32, shape, elements=NUMBERS)))
    if block.size and draw(st.booleans()):
        base = base.copy()
        base.flat[draw(st.integers(0, block.size - 1))] = draw(NUMBERS)
    return block, base


@given(pairs(), st.integers(1, 10))
def test_every_count_and_sum_is_what_its_definition_says_whatever_the_numbers_and_blocks(
    pair, rows
):
    block, base = pair
    stats = asdict(found(block, base, rows=rows, largest_finite=65504.0))
    known = plainly(block, base)
    scale = known["sum_squares"] + known["base_sum_squares"]
    for name, value in known.items():
        if name == "dot":  # as exact as the norms are large, not as it is itself
            assert stats[name] == pytest.approx(value, rel=1e-6, abs=1e-6 * scale), name
        elif isinstance(value, int):
            assert stats[name] == value, name
        else:
            assert stats[name] == pytest.approx(value, rel=1e-6), name


@given(pairs(), st.integers(1, 10))
def test_without_a_base_a_tensor_has_the_same_numbers_and_none_that_need_one(pair, rows):
    block, base = pair
    alone, beside = asdict(found(block, rows=rows)), asdict(found(block, base, rows=rows))
    needing = {name for name, value in alone.items() if value is None}
    assert needing == {
        "base_nonfinite", "base_sum_squares", "dot", "delta_sum_squares", "changed",
        "base_dead_rows", "new_dead_rows", "new_dead_columns",
    }  # fmt: skip
    assert all(alone[name] == beside[name] for name in alone.keys() - needing)
    assert found(block).drift is found(block).cosine is found(block).changed_share is None


# -- how exact ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "bound"), [("normal", 2e-7), ("heavy", 2e-7), ("one value", 1e-6), ("growing", 1e-6)]
)
def test_sums_of_squares_are_exact_to_the_documented_bound(name, bound):
    draw = np.random.default_rng(0)
    shape = (40, 5_003)  # runs of 1,024 and a rest
    block = {
        "normal": draw.standard_normal(shape),
        "heavy": draw.standard_t(2, shape),
        "one value": np.full(shape, 0.1),  # each addition rounds the same way
        "growing": np.linspace(1e-6, 1e6, shape[0] * shape[1]).reshape(shape),
    }[name].astype(F32)
    exact = total(block.astype(float).ravel() ** 2)
    assert abs(found(block).sum_squares / exact - 1) < bound


@pytest.mark.parametrize("moved", [1e-1, 1e-3, 1e-5])
def test_the_distance_of_the_cosine_from_1_is_known_to_five_digits_where_hardly_anything_moved(
    moved,
):
    draw = np.random.default_rng(1)
    base = draw.standard_normal((300, 1_500)).astype(F32)
    block = (base + moved * draw.standard_normal(base.shape)).astype(F32)
    stats = found(block, base)
    a, b = block.astype(np.longdouble), base.astype(np.longdouble)
    apart = ((a / np.sqrt((a**2).sum()) - b / np.sqrt((b**2).sum())) ** 2).sum() / 2
    assert 1 - stats.cosine == pytest.approx(float(apart), rel=1e-5, abs=1e-15)
    assert stats.drift == pytest.approx(moved, rel=0.01)


@pytest.mark.parametrize("scale", [1e-12, 1e-4, 0.1, 10, 1e4, 1e12])
def test_cosine_stays_exact_where_the_base_is_of_another_scale(scale):
    draw = np.random.default_rng(2)
    block = draw.standard_normal((64, 900)).astype(F32)
    base = ((block + draw.standard_normal(block.shape)) * scale).astype(F32)
    a, b = block.astype(float), base.astype(float)
    known = (a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b)
    assert found(block, base).cosine == pytest.approx(known, abs=1e-6)


@pytest.mark.parametrize("exponent", [-130, -100, -60, 60, 100, 115])
def test_scaling_by_a_power_of_two_scales_norms_by_it_even_where_squares_leave_float32(exponent):
    draw = np.random.default_rng(3)
    block = np.round(draw.standard_normal((20, 300)) * 64).astype(F32)
    base = np.round(draw.standard_normal(block.shape) * 64).astype(F32)
    plain = found(block, base)
    scaled = found(np.ldexp(block, exponent), np.ldexp(base, exponent))
    assert scaled.norm == pytest.approx(math.ldexp(plain.norm, exponent), rel=1e-7)
    assert scaled.max_abs == math.ldexp(plain.max_abs, exponent)
    assert scaled.drift == pytest.approx(plain.drift, rel=1e-7)
    assert scaled.cosine == pytest.approx(plain.cosine, abs=1e-7)
    assert (scaled.changed, scaled.zeros) == (plain.changed, plain.zeros)


@given(pairs(), st.randoms(use_true_random=False))
def test_the_order_of_rows_and_columns_does_not_matter(pair, random):
    block, base = pair
    rows, columns = list(range(block.shape[0])), list(range(block.shape[1]))
    random.shuffle(rows)
    random.shuffle(columns)
    shuffled = found(block[rows][:, columns], base[rows][:, columns])
    straight = found(block, base)
    for name, value in asdict(straight).items():
        scale = 1e-6 * (straight.sum_squares + straight.base_sum_squares)
        assert asdict(shuffled)[name] == pytest.approx(
            value, rel=1e-6, abs=scale if name == "dot" else 0
        )


# -- known answers ------------------------------------------------------------------------------------


def test_a_tensor_three_times_its_base_drifts_by_2_at_cosine_1():
    base = np.random.default_rng(4).standard_normal((50, 70)).astype(F32)
    stats = found(3 * base, base)
    assert stats.drift == pytest.approx(2, rel=1e-6)
    assert stats.cosine == pytest.approx(1, abs=1e-7)
    assert stats.changed_share == 1


def test_a_tensor_equal_to_its_base_has_not_moved_at_all():
    base = np.random.default_rng(5).standard_normal((50, 70)).astype(F32)
    stats = found(base, base)
    assert (stats.drift, stats.cosine, stats.changed, stats.delta_sum_squares) == (0, 1, 0, 0)


def test_a_zeroed_tensor_drifts_by_1_at_cosine_0_and_all_its_rows_and_columns_are_newly_dead():
    base = np.random.default_rng(6).standard_normal((50, 70)).astype(F32)
    stats = found(np.zeros((50, 70)), base, rows=7)
    assert (stats.drift, stats.cosine, stats.zero_share) == (1, 0, 1)
    assert (stats.dead_rows, stats.dead_columns) == (50, 70)
    assert (stats.new_dead_rows, stats.new_dead_columns) == (50, 70)


def test_from_a_base_of_zeros_there_is_no_relative_drift_unless_nothing_moved():
    zeros = np.zeros((3, 3))
    assert found(np.ones((3, 3)), zeros).drift is None
    assert found(np.ones((3, 3)), zeros).cosine == 0
    assert (found(zeros, zeros).drift, found(zeros, zeros).cosine) == (0, 1)


def test_one_nan_is_counted_and_the_rest_keeps_its_numbers():
    base = np.random.default_rng(7).standard_normal((600, 700)).astype(F32)
    block = (base * F32(1.01)).astype(F32)
    whole, broken = found(block, base), block.copy()
    broken[5, 3], broken[6, 4] = math.nan, math.inf
    stats = found(broken, base)
    assert stats.nonfinite == 2
    assert stats.base_nonfinite == 0
    left = block.astype(float) ** 2
    assert stats.sum_squares == pytest.approx(
        total(left.ravel()) - left[5, 3] - left[6, 4], rel=1e-7
    )
    assert stats.drift == pytest.approx(whole.drift, rel=1e-5)
    assert stats.cosine == pytest.approx(whole.cosine, abs=1e-5)
    assert stats.changed == whole.changed


def test_nan_in_both_is_no_change_and_neither_is_the_sign_of_a_zero_but_the_least_difference_is():
    tiny = np.float32(1e-45)  # the smallest float32 there is
    stats = found([[math.nan, 0.0, 1.0, tiny]], [[math.nan, -0.0, 1.0, 0.0]])
    assert stats.changed == 1
    assert stats.delta_sum_squares == pytest.approx(float(tiny) ** 2)


def test_dead_rows_and_columns_are_told_from_those_the_base_had_across_blocks():
    block = np.ones((1_000, 12))
    base = block.copy()
    base[[3, 500]] = 0
    base[:, 7] = 0
    block[[3, 501, 999]] = 0  # row 3 was dead before
    block[:, [7, 8]] = 0  # column 7 was
    for rows in (1, 10, 999, 1_000):
        stats = found(block, base, rows=rows)
        assert (stats.dead_rows, stats.base_dead_rows, stats.new_dead_rows) == (3, 2, 2)
        assert (stats.dead_columns, stats.new_dead_columns) == (2, 1)
    block[:10] = 1  # alive in the first rows alone is alive
    stats = found(block, base, rows=10)
    assert (stats.dead_rows, stats.dead_columns, stats.new_dead_columns) == (2, 0, 0)


def test_a_row_of_numbers_whose_squares_vanish_in_float32_is_alive():
    stats = found([[1e-30, 1e-30], [0, 0], [1, 1]])
    assert stats.dead_rows == 1
    assert stats.sum_squares == pytest.approx(2 + 2e-60)


def test_saturation_counts_numbers_at_the_end_of_the_stored_range():
    halves = np.array([[65504, -65504, 65472, 0, math.inf]], np.float16)
    assert found(halves, largest_finite=65504.0).saturated == 2
    assert found(halves).saturated == 0
    assert found(halves).max_abs == 65504


def test_wide_rows_and_many_sub_blocks_give_the_sums_of_the_whole():
    draw = np.random.default_rng(8)
    for shape in ((3, 300_000), (70_000, 5), (1, 700_001)):
        block = draw.standard_normal(shape).astype(F32)
        base = draw.standard_normal(shape).astype(F32)
        stats = found(block, base)
        wide, wide_base = block.astype(float), base.astype(float)
        assert stats.sum_squares == pytest.approx((wide**2).sum(), rel=2e-7)
        assert stats.delta_sum_squares == pytest.approx(((wide - wide_base) ** 2).sum(), rel=2e-7)
        assert stats.dot == pytest.approx((wide * wide_base).sum(), abs=2e-7 * block.size)
        assert (stats.count, stats.changed) == (block.size, int((block != base).sum()))


def test_merged_stats_are_those_of_all_numbers_together_in_any_order():
    draw = np.random.default_rng(9)
    blocks = [draw.standard_normal((rows, 33)).astype(F32) for rows in (1, 20, 400)]
    bases = [(block + 0.1 * draw.standard_normal(block.shape)).astype(F32) for block in blocks]
    parts = [found(block, base) for block, base in zip(blocks, bases, strict=True)]
    whole = found(np.concatenate(blocks), np.concatenate(bases))
    together = merged(parts)
    assert together == merged(reversed(parts))
    assert together.count == whole.count
    assert together.max_abs == whole.max_abs
    for name in ("norm", "drift", "cosine", "changed_share", "base_norm"):
        assert getattr(together, name) == pytest.approx(getattr(whole, name), rel=1e-9), name


def test_nothing_merged_is_an_empty_tensor_without_a_base():
    assert merged([]) == Elementwise(0).stats()
    assert (merged([]).norm, merged([]).zero_share, merged([]).drift) == (0, 0, None)


def test_stats_with_and_without_a_base_do_not_merge():
    with pytest.raises(AssertionError, match="all parts have a base"):
        merged([found([[1.0]]), found([[1.0]], [[1.0]])])


def test_blocks_that_do_not_fit_the_tensor_are_refused():
    with pytest.raises(AssertionError, match="columns"):
        Elementwise(3).add(np.zeros((1, 2), F32))
    with pytest.raises(AssertionError, match="base"):
        Elementwise(3, with_base=True).add(np.zeros((1, 3), F32))
    with pytest.raises(AssertionError, match="same rows"):
        Elementwise(3, with_base=True).add(np.zeros((1, 3), F32), np.zeros((2, 3), F32))


def test_memory_beyond_the_block_is_that_of_a_sub_block():
    block = np.ones((4_096, 2_048), F32)  # 32 MiB
    base = block * F32(1.5)
    tracemalloc.start()
    found(block, base)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20
