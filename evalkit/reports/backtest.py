"""What gates would have decided on past runs, beside what was decided then: as a table, in words, as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from evalkit.records.suite import GateSpec
from evalkit.records.verdict import Verdict, VerdictStatus
from evalkit.reports.terminal import STYLES


@dataclass(frozen=True, slots=True)
class Backtested:
    """One past run, decided again."""

    run: str
    """Its folder."""
    started: str
    """UTC, ISO 8601."""
    before: Verdict | None
    """What was decided then; None where nothing was."""
    now: Verdict
    """What the gates decide."""

    @property
    def changed(self) -> bool:
        """Whether there was a verdict, and it was another one."""
        return self.before is not None and self.before.status != self.now.status

    def rules(self, *counted: str) -> list[str]:
        """Return the blocking rules with an outcome that counts as one of ``counted``, each once, in their order."""
        blocking = (o for o in self.now.outcomes if o.severity == "block")
        return list(dict.fromkeys(o.rule for o in blocking if o.counts_as in counted))


@dataclass(frozen=True, slots=True)
class Unread:
    """A past run that could not be decided on."""

    run: str
    """Its folder."""
    reason: str
    """Why."""


@dataclass(frozen=True, slots=True)
class Backtest:
    """Gates over past runs."""

    gates: Sequence[GateSpec]
    """What decides."""
    runs: Sequence[Backtested]
    """Oldest first."""
    unread: Sequence[Unread] = ()
    """Those that could not be read."""

    def idle_rules(self) -> dict[str, list[str]]:
        """Return what no run showed of a rule → ``gate/rule`` of each such rule, over the runs that were decided.

        ``never measured``: no run has the estimate, or the baseline it is compared with. ``never failed`` and ``never
        passed``: it was measured, and nothing it matched ever counted so.
        """
        counted: dict[str, set[str]] = {
            f"{gate.gate}/{rule.id}": set() for gate in self.gates for rule in gate.rules
        }
        for run in self.runs:
            for outcome in run.now.outcomes:
                seen = "missing" if outcome.status == "missing" else outcome.counts_as
                counted[f"{outcome.gate}/{outcome.rule}"].add(seen)
        matched = {rule: seen for rule, seen in counted.items() if seen - {"missing"}}
        return {
            "never measured": [rule for rule in counted if rule not in matched],
            "never failed": [rule for rule, seen in matched.items() if "fail" not in seen],
            "never passed": [rule for rule, seen in matched.items() if "pass" not in seen],
        }

    def summary(self) -> str:
        """Return in a sentence how often the gates answered what, and how many verdicts they change."""
        answers = Counter(run.now.status for run in self.runs)
        told = ", ".join(f"{answers[s]} {s}" for s in STATUSES if answers[s] or s != "incomplete")
        judged = [run for run in self.runs if run.before is not None]
        changed = sum(run.changed for run in judged)
        unread = f"; {len(self.unread)} could not be read" if self.unread else ""
        return (
            f"{_count(len(self.runs), 'run')}: {told}; {changed:,} of {len(judged):,} earlier verdicts "
            f"would change{unread}"
        )

    def document(self) -> dict[str, Any]:
        """Return everything as JSON."""
        return {
            "format": 1,
            "gates": {gate.gate: len(gate.rules) for gate in self.gates},
            "summary": self.summary(),
            "runs": [_run_document(run) for run in self.runs],
            "unread": [{"run": unread.run, "reason": unread.reason} for unread in self.unread],
            "rules": self.idle_rules(),
        }


STATUSES: Sequence[VerdictStatus] = ("pass", "fail", "inconclusive", "incomplete")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _run_document(run: Backtested) -> Mapping[str, Any]:
    return {
        "run": run.run,
        "started": run.started,
        "status": run.now.status,
        "exit_code": run.now.exit_code,
        "reason": run.now.reason,
        "before": None if run.before is None else run.before.status,
        "changed": run.changed,
        "failed": run.rules("fail"),
        "undecided": run.rules("inconclusive", "missing"),
        "waived": run.rules("waived"),
    }


def backtest_drawing(backtest: Backtest) -> RenderableType:
    """Return the table of runs, what could not be read, what the rules never showed, and the summary last."""
    return Group(_table(backtest.runs), *_notes(backtest), "", Text(backtest.summary(), "bold"))


def _table(runs: Sequence[Backtested]) -> Table:
    table = Table(
        title="Backtest",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for column in ("started (UTC)", "then", "these gates"):
        table.add_column(column, no_wrap=True)
    table.add_column(
        "run, rules", overflow="fold"
    )  # one below the other: a rule's name needs the room
    for run in runs:
        then = _status(run.before) if run.before else Text("–", "dim")
        mark = Text(" ← new" if run.changed else "", "bold")
        rules = _rules(run)
        table.add_row(
            Text(run.started[:16].replace("T", " ")),
            then,
            Text.assemble(_status(run.now), mark),
            Text.assemble(run.run, "\n" if rules else "", (rules, "dim")),
        )
    return table


def _status(verdict: Verdict) -> Text:
    return Text(verdict.status, STYLES[verdict.status])


def _rules(run: Backtested) -> str:
    told = {
        "failed": run.rules("fail"),
        "undecided": run.rules("inconclusive", "missing"),
        "waived": run.rules("waived"),
    }
    return "; ".join(f"{word}: {', '.join(rules)}" for word, rules in told.items() if rules)


def _notes(backtest: Backtest) -> Iterator[Text]:
    for unread in backtest.unread:
        yield Text.assemble(("not read: ", "yellow"), f"{unread.run}: {unread.reason}")
    if not backtest.runs:
        return
    for finding, rules in backtest.idle_rules().items():
        if rules:
            yield Text.assemble((f"{finding} on these runs: ", "yellow"), ", ".join(rules))
