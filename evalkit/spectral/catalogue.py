"""Every measure of weights and every check of them: its name, unit, direction, and how tensors are summed up.

Estimates are named ``task/measure[.summary]``: without a slice the summary is over the whole model. Of measures that
are ``per_tensor``, ``@module=…`` and ``@depth=…`` are the summary over these tensors, and ``measure@tensor=…`` is one
tensor's own number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from evalkit.records.scorecard import Better

MODULE: Final = "module"
"""The field of slices whose value is what tensors do in the model."""
DEPTH: Final = "depth"
"""The field whose value is the number of their block."""
TENSOR: Final = "tensor"
"""The field whose value is one tensor's name."""
INTEGRITY: Final = "integrity"
"""The family of checks that find faults, whatever the way of training: ``integrity.nonfinite`` …"""

Needs = Literal["weights", "base", "spectra", "spectra+base", "importance", "adapter"]
"""What must be at hand for a measure."""
Summary = Literal["pooled", "max", "min", "median", "mean", "sum"]
"""How tensors are summed up; ``pooled`` is the measure's own definition over all numbers together."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One measure of weights."""

    name: str
    """``drift``, ``alpha`` …"""
    unit: str
    """``fraction``, ``log10`` …"""
    better: Better
    """Which direction is better; for scales, the calmer one."""
    needs: Needs
    """What it takes."""
    summaries: tuple[Summary, ...]
    """How tensors are summed up, the chief one first; ``pooled`` must come first."""
    per_tensor: bool
    """Whether the scorecard holds it by module, by depth and for each tensor; else ``weights.jsonl`` alone does."""
    meaning: str
    """What it is, in a phrase."""
    advisory: bool = False
    """Whether published evidence does not carry a decision on it alone."""

    @property
    def names(self) -> tuple[str, ...]:
        """The summaries as a scorecard names them: the first is the measure's own name, the others ``name.summary``."""
        return self.name, *(f"{self.name}.{summary}" for summary in self.summaries[1:])


@dataclass(frozen=True, slots=True)
class Check:
    """One check of weights; ``task/name`` is how many findings it made."""

    name: str
    """``integrity.nonfinite`` …"""
    needs: Needs | Literal["tokens", "changes", "frozen", "trained", "merge"]
    """What it takes: a rule on a check that could not be made is missing, never passed."""
    meaning: str
    """What it looks for, in a phrase."""
    advisory: bool = False
    """Whether it is a hint and not a fault."""

    @property
    def names(self) -> tuple[str, ...]:
        """The only name that a scorecard has for it."""
        return (self.name,)


# fmt: off
MEASURES: Final[tuple[Measured, ...]] = (
    # tier 0: one pass
    Measured("norm", "norm", "lower", "weights", ("pooled",), False,
             "Frobenius norm ‖W‖"),
    Measured("max_abs", "weight", "lower", "weights", ("max",), False,
             "largest absolute weight"),
    Measured("zeros", "fraction", "lower", "weights", ("pooled",), False,
             "share of weights that are 0"),
    Measured("log_norm", "log10", "lower", "weights", ("mean",), True,
             "log10 ‖W‖² (WeightWatcher's log_norm)"),
    Measured("log_spectral_norm", "log10", "lower", "weights", ("mean",), True,
             "log10 of the largest eigenvalue of WᵀW (WeightWatcher's log_spectral_norm)"),
    Measured("stable_rank", "rank", "higher", "weights", ("mean",), False,
             "‖W‖² over the largest eigenvalue"),
    Measured("stable_rank_ratio", "ratio", "lower", "weights", ("max", "median"), True,
             "stable rank over that of noise of the shape (Marchenko–Pastur); near 1 is untrained"),
    # against the base model
    Measured("drift", "fraction", "lower", "base", ("pooled", "max", "median"), True,
             "‖W − W₀‖ over ‖W₀‖: how far training moved the weights"),
    Measured("cosine", "cosine", "higher", "base", ("pooled", "min"), True,
             "cosine of W and W₀"),
    Measured("changed", "fraction", "lower", "base", ("pooled",), True,
             "share of weights that differ from the base's"),
    Measured("norm_change", "log10", "lower", "base", ("median", "min", "max"), True,
             "log10 of ‖W‖² over ‖W₀‖²"),
    Measured("spectral_change", "log10", "lower", "base", ("median", "min", "max"), True,
             "log10 of the largest eigenvalue over the base's"),
    # a LoRA adapter's own numbers
    Measured("update_norm", "fraction", "lower", "adapter", ("max", "median"), True,
             "‖scale · B A‖ over ‖W₀‖"),
    Measured("update_rank", "rank", "higher", "adapter", ("max",), True,
             "rank that the adapter declares"),
    Measured("update_effective_rank", "rank", "higher", "adapter", ("median", "max"), True,
             "exp of the entropy of the update's singular values"),
    Measured("update_top_share", "fraction", "lower", "adapter", ("max",), False,
             "share of ‖ΔW‖² in its first direction"),
    # tier 1: spectra
    Measured("alpha", "exponent", "lower", "spectra", ("mean", "median", "min", "max"), True,
             "power-law exponent of the eigenvalues' tail (Clauset's rule)", True),
    Measured("alpha_tail", "eigenvalues", "higher", "spectra", ("median",), False,
             "eigenvalues in alpha's tail", True),
    Measured("alpha_distance", "distance", "lower", "spectra", ("median",), False,
             "Kolmogorov–Smirnov distance of tail and fit", True),
    Measured("alpha_gof", "p-value", "higher", "spectra", ("median",), False,
             "goodness of fit of a power law (semi-parametric bootstrap)", True),
    Measured("alpha_null", "percentile", "lower", "spectra", ("median",), True,
             "where alpha lies among those of noise of the shape, 0–100", True),
    Measured("alpha_over_lognormal", "log-likelihood", "higher", "spectra", ("median",), False,
             "Vuong's ratio against a lognormal tail, whose limit a power law is: at most 0", True),
    Measured("alpha_over_exponential", "log-likelihood", "higher", "spectra", ("median",), False,
             "Vuong's ratio against an exponential tail", True),
    Measured("hill", "exponent", "lower", "spectra", ("mean", "median"), True,
             "alpha of the upper half of the eigenvalues: for comparing two models", True),
    Measured("alpha_weighted", "log10", "lower", "spectra", ("mean",), True,
             "alpha · log10 of the largest eigenvalue (alpha-hat)", True),
    Measured("log_alpha_norm", "log10", "lower", "spectra", ("mean",), False,
             "log10 Σ λ^alpha", True),
    Measured("effective_rank", "rank", "higher", "spectra", ("mean",), False,
             "exp of the entropy of the singular values' shares (Roy and Vetterli's)", True),
    Measured("entropy", "entropy", "higher", "spectra", ("mean",), False,
             "entropy of the eigenvalues' shares over log of the shorter side (compatible: over log rank)", True),
    Measured("matrix_rank", "rank", "higher", "spectra", ("mean",), False,
             "numerical rank", True),
    Measured("noise_edge", "eigenvalue", "lower", "spectra", ("mean",), False,
             "upper Marchenko–Pastur edge of noise with the bulk's variance", True),
    Measured("noise_ratio", "ratio", "lower", "spectra", ("mean",), False,
             "that edge over the largest eigenvalue", True),
    Measured("spikes", "eigenvalues", "higher", "spectra", ("mean",), False,
             "eigenvalues beyond the 99.9 % Tracy–Widom limit above the edge", True),
    Measured("traps", "eigenvalues", "lower", "spectra", ("sum", "max"), True,
             "eigenvalues beyond the 99.9 % Tracy–Widom limit of noise after entries are shuffled", True),
    Measured("det_tail", "eigenvalues", "higher", "spectra", ("mean",), False,
             "smallest tail with a product below 1, eigenvalues scaled to a mean of 1 (detX)", True),
    # spectra against the base model
    Measured("intruders", "directions", "lower", "spectra+base", ("max", "mean", "sum"), True,
             "of the 10 first left singular vectors, those unlike every one of the base's"),
    Measured("rotation", "degrees", "lower", "spectra+base", ("max", "median"), True,
             "largest principal angle of the 10 first directions and the base's", True),
    Measured("delta_effective_rank", "rank", "higher", "spectra+base", ("median", "max"), True,
             "exp of the entropy of the singular values of W − W₀", True),
    Measured("delta_stable_rank", "rank", "higher", "spectra+base", ("median", "max"), False,
             "stable rank of W − W₀", True),
    Measured("delta_top_share", "fraction", "lower", "spectra+base", ("max",), False,
             "share of ‖W − W₀‖² in its first direction", True),
    Measured("flow_slope", "alpha per block", "lower", "spectra", ("pooled",), False,
             "correlation flow: slope of alpha over depth (Theil–Sen)", True),
    Measured("flow_roughness", "exponent", "lower", "spectra", ("pooled",), False,
             "correlation flow: median step of alpha from block to block", True),
    # FROG
    Measured("importance", "fraction", "higher", "importance", ("max",), True,
             "share of the matrices' norms (FROG; an unvalidated heuristic)", True),
)

CHECKS: Final[tuple[Check, ...]] = (
    Check("integrity.unreadable", "weights", "files cut off, shards missing, tensors promised and absent"),
    Check("integrity.nonfinite", "weights", "NaN or infinity"),
    Check("integrity.zero", "weights", "a tensor of zeros alone that the base does not have so"),
    Check("integrity.dead", "weights", "rows or columns of zeros that the base does not have"),
    Check("integrity.saturated", "weights", "weights at the end of a narrow format's range"),
    Check("integrity.vocabulary", "tokens",
          "embedding rows other than the configuration's tokens, or fewer than the tokenizer's"),
    Check("integrity.tied", "weights", "tied embeddings whose two copies differ"),
    Check("integrity.missing", "base", "tensors of the base that are not there"),
    Check("integrity.extra", "base", "tensors that the base does not have"),
    Check("integrity.shape", "base", "another shape than the base's"),
    Check("integrity.dtype", "base", "another number format than that of the base's tensors, in part of them"),
    Check("integrity.frozen", "frozen", "tensors that training must not have touched and did"),
    Check("integrity.untrained", "trained", "tensors that training must have changed and did not"),
    Check("integrity.adapter", "adapter",
          "updates of zeros (B = 0), NaN, or for tensors that the base does not have"),
    Check("integrity.merge", "merge", "weights that are not base + adapter"),
    Check("scale.collapse", "base", "norms that moved while the other tensors' did not"),
    Check("drift.unrelated", "base", "tensors that do not resemble the base's any more (cosine below 1/√2)"),
    Check("drift.outlier", "base", "tensors that moved far more than the others"),
    Check("drift.unchanged", "changes", "weights equal to the base's in every bit: training never arrived"),
    Check("drift.spectrum", "spectra+base",
          "intruder dimensions: 3 or more of a matrix's 10 leading directions are unlike all of the base's", True),
    Check("shape.over_trained", "spectra", "alpha below 2 beyond doubt, in a dense matrix with tail enough", True),
    Check("shape.under_trained", "spectra", "alpha above 6 beyond doubt, in a dense matrix with tail enough", True),
    Check("shape.noise", "weights", "a matrix whose stable rank is that of noise", True),
)
# fmt: on
