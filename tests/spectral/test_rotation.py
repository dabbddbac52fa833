"""Intruder dimensions and rotation: peft's code, and matrices turned by known angles, give the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lapack import Lapack, orthonormal, with_singular_values

from evalkit.spectral.decomposition import NumpyDecomposition
from evalkit.spectral.rotation import delta_measures, intruders, rotation_degrees, turned

LAPACK = Lapack()


def intruders_by_the_paper(W_RC, W0_RC, k, threshold):
    """Algorithm 1 of arXiv 2410.21228, one vector at a time."""
    U0_RM = np.linalg.svd(W0_RC.astype(np.float64), full_matrices=False)[0]
    U_RM = np.linalg.svd(W_RC.astype(np.float64), full_matrices=False)[0]
    count = 0
    for j in range(min(k, U_RM.shape[1])):
        cosines = [abs(float(np.dot(U0_RM[:, i], U_RM[:, j]))) for i in range(U0_RM.shape[1])]
        if all(cosine < threshold for cosine in cosines):
            count += 1
    return count


def tuned_pair(seed, rows=64, columns=48, strength=1.0):
    """A base with falling singular values, and the same with a strong update of rank 4."""
    rng = np.random.default_rng(seed)
    W0_RC = with_singular_values(rng, rows, columns, np.geomspace(4, 0.1, min(rows, columns)))
    update_RC = with_singular_values(rng, rows, columns, np.array([6.0, 4.0, 3.0, 1.0]))
    return (W0_RC + np.float32(strength) * update_RC), W0_RC


@given(
    st.integers(0, 2**32),
    st.sampled_from([(64, 48), (48, 64), (30, 30), (80, 12)]),
    st.floats(0, 2),
)
@settings(max_examples=40)
def test_intruders_are_those_of_the_paper(seed, shape, strength):
    W_RC, W0_RC = tuned_pair(seed, *shape, strength)
    expected = intruders_by_the_paper(W_RC, W0_RC, 10, 0.5)
    assert turned(W_RC, W0_RC, LAPACK)["intruders"].value == expected


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_intruders_are_those_that_peft_counts(dtype):
    import torch
    from peft import LoraConfig, get_peft_model
    from peft.tuners.lora.intruders import reduce_intruder_dimension

    model = torch.nn.Sequential(
        torch.nn.Linear(96, 128, bias=False), torch.nn.Linear(128, 64, bias=False)
    )
    model = model.to(getattr(torch, dtype))
    torch.manual_seed(5)
    peft_model = get_peft_model(model, LoraConfig(r=8, lora_alpha=32, target_modules=["0", "1"]))
    found, lines = [], []
    for layer in peft_model.base_model.model:
        W0_RC = torch.randn_like(layer.base_layer.weight)
        layer.base_layer.weight.data = W0_RC
        layer.lora_A["default"].weight.data.normal_()
        layer.lora_B["default"].weight.data.normal_(std=0.3)
        W_RC = W0_RC + layer.get_delta_weight("default")
        found.append(turned(W_RC.float().detach().numpy(), W0_RC.float().numpy(), LAPACK))
    reduce_intruder_dimension(peft_model, logging_sink=lines.append)
    counted = [
        0 if "No" in line else int(line.rpartition(" ")[2]) for line in lines if "ntruders" in line
    ]
    assert [f["intruders"].value for f in found] == counted
    assert sum(counted) > 0


def test_without_a_likeness_in_the_base_every_direction_is_an_intruder():
    rng = np.random.default_rng(1)
    Q_RR = orthonormal(rng, 64, 64)
    assert intruders(Q_RR[:, :5], Q_RR[:, 20:]) == 5
    assert intruders(Q_RR[:, :5], Q_RR[:, :20]) == 0
    assert intruders(Q_RR[:, :5], Q_RR[:, :0]) == 5


def test_a_planted_direction_is_found_and_its_strength_decides():
    """A random direction outweighs the base's from the tenth singular value on, and is like none of 256."""
    rng = np.random.default_rng(2)
    W0_RC = with_singular_values(rng, 256, 256, np.linspace(10, 1, 256))
    u_R, v_C = orthonormal(rng, 256, 1), orthonormal(rng, 256, 1)
    strong = turned(W0_RC + np.float32(40) * (u_R @ v_C.T).astype(np.float32), W0_RC, LAPACK)
    weak = turned(W0_RC + np.float32(0.1) * (u_R @ v_C.T).astype(np.float32), W0_RC, LAPACK)
    assert strong["intruders"].value == 1
    assert weak["intruders"].value == 0
    assert strong["delta_top_share"].value == pytest.approx(1, abs=1e-6)
    assert strong["delta_effective_rank"].value == pytest.approx(1, abs=0.01)


@given(st.integers(0, 2**32), st.lists(st.floats(0, 90), min_size=1, max_size=10))
def test_a_subspace_turned_by_known_angles_is_turned_by_the_largest(seed, degrees):
    """Each basis vector is turned towards a direction of its own outside the subspace, in a basis of any mixture."""
    rng = np.random.default_rng(seed)
    k = len(degrees)
    Q_RR = orthonormal(rng, 32, 32)
    angles_K = np.deg2rad(degrees)
    base_RK = Q_RR[:, :k]
    tuned_RK = base_RK * np.cos(angles_K) + Q_RR[:, k : 2 * k] * np.sin(angles_K)
    mixed_RK = tuned_RK @ orthonormal(rng, k, k)
    found = rotation_degrees(mixed_RK, base_RK)
    assert found == pytest.approx(max(degrees), abs=1e-5)
    assert found == pytest.approx(rotation_degrees(base_RK, mixed_RK), abs=1e-5)


@given(st.integers(0, 2**32))
@settings(max_examples=20)
def test_turning_both_matrices_alike_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    W_RC, W0_RC = tuned_pair(seed)
    left_RR, right_CC = orthonormal(rng, 64, 64), orthonormal(rng, 48, 48)
    before = turned(W_RC, W0_RC, LAPACK)
    after = turned(*((left_RR @ W @ right_CC).astype(np.float32) for W in (W_RC, W0_RC)), LAPACK)
    for name, found in before.items():
        assert after[name].value == pytest.approx(found.value, rel=1e-3, abs=0.01), name


def test_permuted_rows_turn_what_no_eigenvalue_sees():
    rng = np.random.default_rng(3)
    W0_RC = with_singular_values(rng, 128, 128, np.geomspace(9, 0.1, 128))
    W_RC = W0_RC[rng.permutation(128)]
    np.testing.assert_allclose(LAPACK.eigenvalues(W_RC), LAPACK.eigenvalues(W0_RC), atol=1e-9)
    found = turned(W_RC, W0_RC, LAPACK)
    assert found["intruders"].value == 10
    assert found["rotation"].value > 80


def test_equal_matrices_have_no_intruder_no_rotation_and_no_update():
    W_RC, _ = tuned_pair(4)
    found = turned(W_RC, W_RC.copy(), None)  # nothing is decomposed
    assert (found["intruders"].value, found["rotation"].value) == (0.0, 0.0)
    for name in ("delta_effective_rank", "delta_stable_rank", "delta_top_share"):
        assert (found[name].value, found[name].status) == (None, "degenerate")


def test_a_scaled_matrix_is_not_turned():
    W_RC, _ = tuned_pair(5)
    found = turned(np.float32(3) * W_RC, W_RC, LAPACK)
    assert found["intruders"].value == 0
    assert found["rotation"].value == pytest.approx(0, abs=1e-3)


def test_nan_and_infinity_give_no_number_and_no_crash():
    W_RC, W0_RC = tuned_pair(6)
    for broken in (np.nan, np.inf):
        spoilt_RC = W_RC.copy()
        spoilt_RC[3, 4] = broken
        for pair in ((spoilt_RC, W0_RC), (W0_RC, spoilt_RC), (spoilt_RC, spoilt_RC)):
            found = turned(*pair, LAPACK)
            assert {measure.value for measure in found.values()} == {None}


def test_zeros_have_no_directions():
    W_RC, W0_RC = tuned_pair(7)
    zeroed = turned(np.zeros_like(W0_RC), W0_RC, LAPACK)
    assert (zeroed["intruders"].status, zeroed["rotation"].status) == ("degenerate", "degenerate")
    assert zeroed["delta_stable_rank"].value > 1
    from_zero = turned(W_RC, np.zeros_like(W0_RC), LAPACK)
    assert (from_zero["intruders"].value, from_zero["rotation"].status) == (10, "degenerate")


def test_directions_of_a_low_rank_matrix_beyond_its_rank_are_not_looked_at():
    rng = np.random.default_rng(8)
    W0_RC = with_singular_values(rng, 64, 64, np.linspace(5, 1, 64))
    W_RC = with_singular_values(rng, 64, 64, np.array([3.0, 2.0, 1.0]))
    found = turned(W_RC, W0_RC, LAPACK)
    assert found["intruders"].value == intruders_by_the_paper(W_RC, W0_RC, 3, 0.5)
    assert "3 directions instead of 10" in found["intruders"].note
    assert "3 directions instead of 10" in found["rotation"].note


def test_a_matrix_with_fewer_rows_than_directions_has_no_rotation():
    W_RC, W0_RC = tuned_pair(9, rows=8, columns=64)
    found = turned(W_RC, W0_RC, LAPACK)
    assert (found["rotation"].value, found["rotation"].status) == (None, "insufficient")
    assert found["intruders"].value is not None


def test_a_change_of_order_at_the_cut_is_said():
    """Singular values 10 and 11 change places: the leading span turns by 90° though nothing new came."""
    diagonal = np.array([20.0, 19, 18, 17, 16, 15, 14, 13, 12, 5.01, 5.0, 1, 1, 1, 1, 1])
    W0_RC = np.diag(diagonal).astype(np.float32)
    swapped = diagonal.copy()
    swapped[[9, 10]] = swapped[[10, 9]]
    found = turned(np.diag(swapped).astype(np.float32), W0_RC, LAPACK)
    assert found["rotation"].value == pytest.approx(90)
    assert "change of order" in found["rotation"].note
    assert found["intruders"].value == 0
    clear = diagonal.copy()
    clear[9:11] = 9.0, 1.0
    nudged = np.diag(clear).astype(np.float32)
    nudged[0, 1] = 0.01
    assert not turned(nudged, np.diag(clear).astype(np.float32), LAPACK)["rotation"].note


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="shapes differ"):
        turned(np.ones((3, 4), np.float32), np.ones((4, 4), np.float32), LAPACK)


def test_the_updates_measures_are_worked_out_by_hand():
    found = delta_measures(np.array([4.0, 3.0]))
    assert found["delta_stable_rank"].value == pytest.approx(25 / 16)
    assert found["delta_top_share"].value == pytest.approx(16 / 25)
    assert found["delta_effective_rank"].value == pytest.approx(1.9796, abs=1e-4)


@pytest.mark.parametrize(
    "decomposition",
    [NumpyDecomposition(), NumpyDecomposition("float64"), NumpyDecomposition(exact=True)],
    ids=lambda decomposition: decomposition.name,
)
@pytest.mark.parametrize(
    "shape", [(64, 48), (48, 64), pytest.param((1200, 1100), marks=pytest.mark.slow)]
)
def test_every_decomposition_tells_the_same(decomposition, shape):
    """The last shape is wide enough for float32."""
    W_RC, W0_RC = tuned_pair(11, *shape)
    expected = turned(W_RC, W0_RC, LAPACK)
    for name, found in turned(W_RC, W0_RC, decomposition).items():
        assert found.value == pytest.approx(expected[name].value, rel=1e-2, abs=0.05), name
