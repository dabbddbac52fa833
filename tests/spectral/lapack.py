"""Decompositions by LAPACK in float64, with nothing of evalkit in them: the truth that others are held against."""

from __future__ import annotations

import numpy as np


class Lapack:
    """A ``spectrum.Decomposition`` that does no more than call ``numpy.linalg.svd``."""

    name = "lapack"

    def eigenvalues(self, W_RC):
        """Return eigenvalues of WᵀW, ascending."""
        return np.linalg.svd(W_RC.astype(np.float64), compute_uv=False)[::-1] ** 2

    def eigenvalues_of_many(self, matrices):
        """Return the same of each."""
        return [self.eigenvalues(W_RC) for W_RC in matrices]

    def svd(self, W_RC, k=None):
        """Return the first k triplets."""
        U_RK, singular_K, Vt_KC = np.linalg.svd(W_RC.astype(np.float64), full_matrices=False)
        return U_RK[:, :k], singular_K[:k], Vt_KC.T[:, :k]


def orthonormal(rng, rows, columns):
    """Return random orthonormal columns."""
    return np.linalg.qr(rng.standard_normal((rows, columns)))[0]


def with_singular_values(rng, rows, columns, singular_K):
    """Return a float32 matrix with these singular values and random vectors."""
    k = len(singular_K)
    U_RK, V_CK = orthonormal(rng, rows, k), orthonormal(rng, columns, k)
    return ((U_RK * singular_K) @ V_CK.T).astype(np.float32)
