"""Two runs side by side, as one record: who they are, what differs in what stands behind them, numbers and flips."""

from __future__ import annotations

from typing import Any, Final, Literal

from evalkit.flips import FlipLedger
from evalkit.identity import canonical_json
from evalkit.records.exchange import Role
from evalkit.records.scorecard import Comparison, Estimate, Record, Scorecard

FORMAT: Final = 1
"""Version of the record; grows when a reader of the old one would misread the new one."""
SHOWN_DIGITS: Final = 12
"""Of a digest; enough to tell two apart."""


class Side(Record):
    """One model as one run measured it."""

    run: str
    """The run's folder."""
    role: Role
    """What the model was in that run."""
    model: str
    """The model as the user named it; empty where the run does not tell."""
    scorecard: str
    """Digest of the run's scorecard."""
    finished: str
    """UTC, ISO 8601."""


class Differing(Record):
    """One thing behind the numbers that is not the same."""

    what: str
    """What it is: ``suite``, ``model``, ``engine dtype`` …"""
    baseline: str
    """What the baseline has."""
    candidate: str
    """What the candidate has."""


class ComparedRuns(Record):
    """Everything that ``evalkit compare`` shows, and more slices than a terminal has room for."""

    format: Literal[1] = FORMAT
    """Version of this format."""
    baseline: Side
    """What is compared with."""
    candidate: Side
    """What is compared."""
    differs: tuple[Differing, ...]
    """What is not the same behind the numbers; empty when all is."""
    estimates: tuple[Estimate, ...]
    """Of both models, under the roles they have here."""
    comparisons: tuple[Comparison, ...]
    """Candidate minus baseline on the same samples."""
    ledgers: tuple[FlipLedger, ...]
    """Which samples changed sides."""


def side(run: str, role: Role, scorecard: Scorecard) -> Side:
    """Return who one side of the comparison is."""
    facts = scorecard.circumstances
    return Side(
        run=run,
        role=role,
        model=facts.names.get(role, ""),
        scorecard=scorecard.digest,
        finished=facts.finished,
    )


def differences(
    baseline: Scorecard, baseline_role: Role, candidate: Scorecard, candidate_role: Role
) -> tuple[Differing, ...]:
    """Return what is not the same behind the numbers of two models, in the order in which it explains them."""
    theirs, ours = _behind(baseline, baseline_role), _behind(candidate, candidate_role)
    return tuple(
        Differing(what=what, baseline=theirs.get(what, ""), candidate=ours.get(what, ""))
        for what in theirs | ours
        if theirs.get(what) != ours.get(what)
    )


def _behind(scorecard: Scorecard, role: Role) -> dict[str, str]:
    """Return all that stands behind one model's numbers, as text by name."""
    held = scorecard.provenance
    facts = {
        "suite": f"{held.suite} version {held.suite_version}, {held.suite_digest[:SHOWN_DIGITS]}",
        "seed": str(held.seed),
    }
    facts |= {f"data of {task}": name[:SHOWN_DIGITS] for task, name in held.datasets.items()}
    model = held.models.get(role)
    if model is not None:
        facts["model"] = model.digest[:SHOWN_DIGITS] + ("" if model.pinned else ", not pinned")
        facts |= {f"engine {key}": _text(value) for key, value in model.engine.items()}
        facts |= {f"file {name}": held[:SHOWN_DIGITS] for name, held in model.files.items()}
    facts |= {f"version of {name}": version for name, version in held.versions.items()}
    hardware = scorecard.circumstances.hardware
    return facts | {f"hardware {key}": _text(value) for key, value in hardware.items()}


def _text(value: Any) -> str:  # noqa: ANN401 - any JSON value
    return value if isinstance(value, str) else canonical_json(value).decode()
