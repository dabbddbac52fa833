"""A run with people's ratings: which gates decide on it, what its scorecard holds, where it is written."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.cli.assemble import load_gates
from evalkit.cli.past_runs import PastRun, utc_today
from evalkit.cli.reporting import write_reports
from evalkit.errors import UsageError
from evalkit.estimating import ROLES
from evalkit.flips import sample_scores
from evalkit.gates.evaluate import evaluate
from evalkit.identity import digest_bytes
from evalkit.loaders.gate_fit import refuse_misfits
from evalkit.reviewing import human_comparisons, human_estimates, human_tables
from evalkit.reviewing.corrected import (
    beside_raw,
    corrected_comparisons,
    corrected_estimates,
)
from evalkit.store.durable import write_bytes
from evalkit.store.reviews import LABELS, copy_run, rated_lines
from evalkit.store.runs import RunFolder

if TYPE_CHECKING:
    from evalkit.records.review import RatedAnswer
    from evalkit.records.scorecard import Scorecard
    from evalkit.records.suite import GateSpec, SuiteSpec
    from evalkit.records.verdict import Verdict

REVIEWED = "-reviewed"
"""Behind the name of a run's folder: the run with people's ratings."""


def beside(past: PastRun, ending: str) -> Path:
    """Return the folder beside a run's, by the name of the run's with an ending."""
    path = past.path.resolve() if past.path.name in ("", "..") else past.path
    return path.parent / f"{path.name}{ending}"


def deciding_gates(past: PastRun, suite: SuiteSpec, given: Sequence[Path]) -> tuple[GateSpec, ...]:
    """Return the gates that decide: those given, else those the suite names, found beside the suite's file.

    The run recorded the command that wrote it; the suite's file is looked for where that command names one.
    """
    paths = list(given)
    if not paths and suite.gates:
        command = past.scorecard.circumstances.command
        folders = [Path(word).parent for word in command if word.endswith((".yaml", ".yml"))]
        held = [[folder / gate for gate in suite.gates] for folder in folders]
        paths = next((found for found in held if all(path.is_file() for path in found)), [])
        if not paths:
            named = ", ".join(suite.gates)
            raise UsageError(
                f"the suite's gates ({named}) are not found from here: name them by --gate"
            )
    gates = load_gates(paths)
    refuse_misfits(suite, gates)
    return gates


def write_rated_run(
    past: PastRun, suite: SuiteSpec, rated: Sequence[RatedAnswer], gates: Sequence[GateSpec]
) -> tuple[Scorecard, Verdict, Path]:
    """Write the run with people's ratings beside it; return its scorecard, its verdict and its folder."""
    measured, content = past.tables(), rated_lines(rated)
    card = _with_ratings(past, suite, rated, digest_bytes(content))
    human = human_tables(rated, suite, measured)
    tables = {role: [*held, *human.get(role, ())] for role, held in measured.items()}
    # Decided first: what ends here leaves an earlier import's folder as it is.
    verdict = evaluate(gates, card, today=utc_today(), scores=partial(sample_scores, tables))
    path = beside(past, REVIEWED)
    with RunFolder.create(path.parent, path.name) as folder:
        (folder.path / LABELS).unlink(missing_ok=True)
        copy_run(past.path, folder.path, past.scorecard)
        write_bytes(folder.path / LABELS, content)
        folder.write_verdict(verdict)
        write_reports(PastRun(folder.path, card), folder.path)
        folder.write_scorecard(card)
    return card, verdict, path


def _with_ratings(
    past: PastRun, suite: SuiteSpec, rated: Sequence[RatedAnswer], labels: str
) -> Scorecard:
    """Return the run's scorecard with what people's ratings give, and sealed again.

    Each task's ratings come last, a judge's score that they correct right behind the raw one.
    """
    place = {task.name: number for number, task in enumerate(suite.tasks)}
    card, measured = past.scorecard, past.tables()
    estimates = beside_raw(card.estimates, corrected_estimates(rated, suite, measured))
    estimates += human_estimates(rated, suite, measured)
    comparisons = beside_raw(card.comparisons, corrected_comparisons(rated, suite, measured))
    comparisons += human_comparisons(rated, suite, measured)
    estimates.sort(key=lambda e: (ROLES.index(e.model), place[e.task]))
    comparisons.sort(key=lambda c: place[c.task])
    changed = {
        "estimates": tuple(estimates),
        "comparisons": tuple(comparisons),
        "labels": labels,
    }
    return card.model_copy(update=changed).sealed()
