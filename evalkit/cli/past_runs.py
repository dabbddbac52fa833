"""Past runs as evidence: found by folder, scorecard or alias, with the tables of statistics that they measured.

``alias:NAME`` is an alias and ``./NAME`` a path. A bare name may be an alias, a folder here or a folder under OUT;
where it could be two different things it is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from evalkit.errors import Problem, UsageError
from evalkit.estimating import full_name
from evalkit.gates.conditions import Scores
from evalkit.gates.evaluate import evaluate
from evalkit.identity import short
from evalkit.loaders.gate_fit import refuse_misfits
from evalkit.loaders.suite_metrics import build_metric
from evalkit.metrics.base import Metric
from evalkit.records.exchange import Role
from evalkit.records.review import RatedAnswer
from evalkit.records.scorecard import Scorecard
from evalkit.records.suite import GateSpec, SampledTask, SpectralTask, SuiteSpec
from evalkit.records.verdict import Verdict
from evalkit.registry import load_plugins, nearest
from evalkit.reviewing import human_tables
from evalkit.scoring import MetricTable
from evalkit.signing.evidence import contradictions
from evalkit.store.aliases import aliases
from evalkit.store.reviews import read_rated
from evalkit.store.runs import (
    SAMPLES,
    SUITE,
    VERDICT,
    is_run,
    read_lent_baseline,
    read_plots,
    read_scorecard,
    read_suite,
    read_verdict,
)
from evalkit.store.tables import (
    MeasuredTask,
    read_judgements,
    read_rows,
    read_weights,
    rebuild_tables,
)

ALIAS: Final = "alias:"
"""Before a name that can only be an alias."""


class PastRun:
    """A finished run. What lies in its folder is read when it is asked for."""

    def __init__(
        self,
        path: Path,
        scorecard: Scorecard,
        tables: Mapping[Role, list[MetricTable]] | None = None,
    ) -> None:
        """Use ``open_run``; of a run that ends now the ``tables`` are known, and need not be rebuilt."""
        self.path = path
        """The run's folder."""
        self.scorecard = scorecard
        """Its scorecard."""
        self._known = tables

    @cached_property
    def suite(self) -> SuiteSpec | None:
        """What was measured; None for a run that did not keep it. Raises UsageError where it was changed."""
        there = (self.path / SUITE).exists()
        return read_suite(self.path, self.scorecard) if there else None

    @cached_property
    def verdict(self) -> Verdict | None:
        """What the gates answered; None where there is no answer. Raises UsageError where it is another run's."""
        if not (self.path / VERDICT).exists():
            return None
        verdict = read_verdict(self.path)
        if verdict.scorecard != self.scorecard.digest:
            message = "the verdict is about another scorecard than the one beside it"
            raise UsageError([Problem(str(self.path / VERDICT), None, "scorecard", message)])
        if (
            whys := list(contradictions(verdict, self.scorecard))
            if verdict.status == "pass"
            else []
        ):
            message = (
                f"it says pass, but {'; '.join(whys)}: it was changed by hand; "
                f"'evalkit gate {self.path} GATES --write' decides again"
            )
            raise UsageError([Problem(str(self.path / VERDICT), None, "status", message)])
        return verdict

    def decided(self, verdict: Verdict) -> PastRun:
        """Return the same run with another verdict than the one in its folder."""
        other = PastRun(self.path, self.scorecard, self._known)
        other.verdict = verdict
        return other

    @property
    def has_samples(self) -> bool:
        """Whether the folder holds all that the tables are rebuilt from."""
        return bool(self.scorecard.samples) and all(
            (self.path / name).exists() for name in (SAMPLES, SUITE)
        )

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of ``samples.jsonl``, model by model in the order in which they were scored.

        Raises UsageError, before the first row, where the samples are absent or were changed after the run.
        """
        self._need_samples()
        return read_rows(self.path, self.scorecard.samples)

    def weights_rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of ``weights.jsonl``; none where no task read weights.

        Raises UsageError, before the first row, where they are absent or were changed after the run.
        """
        digest = self.scorecard.weights
        return read_weights(self.path, digest) if digest else iter(())

    def judgement_rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of ``judgements.jsonl``; none where nothing was judged.

        Raises UsageError, before the first row, where they are absent or were changed after the run.
        """
        digest = self.scorecard.judgements
        return read_judgements(self.path, digest) if digest else iter(())

    def rated(self) -> Sequence[RatedAnswer]:
        """Return every drawn answer with people's ratings; none where nobody rated any.

        Raises UsageError where they are absent or were changed after the import.
        """
        return read_rated(self.path, self.scorecard)

    def plots(self) -> dict[str, dict[str, Any]]:
        """Return the plots of weights in the run's folder by name, as Vega-Lite; none where nothing was drawn."""
        return read_plots(self.path)

    def tables(self) -> Mapping[Role, list[MetricTable]]:
        """Return the very tables that the run measured; read once.

        Raises UsageError where samples or suite are absent or were changed after the run.
        """
        return self._tables

    @cached_property
    def _tables(self) -> Mapping[Role, list[MetricTable]]:
        if self._known is not None:
            return self._known
        self._need_samples()
        return rebuild_tables(self.rows(), list(self._measured_tasks()), self.judgement_rows())

    def all_tables(self) -> Mapping[Role, list[MetricTable]]:
        """Return the tables with those of people's ratings, which stand behind the others of each model.

        Raises UsageError as ``tables`` does, and where the labels are absent or were changed after the run.
        """
        return self._all_tables

    @cached_property
    def _all_tables(self) -> Mapping[Role, list[MetricTable]]:
        measured = self.tables()
        rated = self.rated()
        human = human_tables(rated, self.suite, measured) if rated and self.suite else {}
        return {role: [*held, *human.get(role, ())] for role, held in measured.items()}

    def scores(self, name: str) -> Scores | None:
        """Return every planned sample's scores under ``task/metric[.measure][@field=value]``.

        None where the folder does not hold the run's samples, and for what a sample alone has no score of. Raises
        UsageError where samples or suite were changed after the run.
        """
        from evalkit.flips import sample_scores

        return sample_scores(self.all_tables(), name) if self.has_samples else None

    def _need_samples(self) -> None:
        if not self.has_samples:
            what = f"{SAMPLES} and {SUITE} are needed to compute from this run's samples"
            message = f"{what}; run the suite again: what was answered is not asked again"
            raise UsageError([Problem(str(self.path), None, "", message)])

    def _measured_tasks(self) -> Iterator[MeasuredTask]:
        assert self.suite is not None, "a run with samples has its suite"
        lent = read_lent_baseline(self.path, self.scorecard)
        suites = {"candidate": self.suite, "baseline": lent[1] if lent else self.suite}
        signatures = {(e.model, e.task, e.metric): e.signature for e in self.scorecard.estimates}
        for tally in self.scorecard.tasks:
            suite = suites[tally.model]
            spec = next(task for task in suite.tasks if task.name == tally.task)
            if isinstance(spec, SpectralTask):  # it has no samples
                continue
            metrics = tuple(m for m in self._metrics(spec, suite.plugins) if not m.judges)
            judged = self._judged(tally.model, tally.task)
            names = {
                m.name: full_name(m.name, m.measures[0].name)
                for m in (*metrics, *judged)
                if m.measures
            }
            yield MeasuredTask(
                role=tally.model,
                spec=spec,
                metrics=metrics,
                dataset=tally.dataset,
                signatures={
                    metric: signatures[tally.model, tally.task, name]
                    for metric, name in names.items()
                },
                anytime=tally.early is not None,
                judged=judged,
            )

    def _judged(self, role: Role, task: str) -> tuple[Metric, ...]:
        """Return the metrics that rest on what judges said in this run, of a lent baseline's rows too."""
        from evalkit.second_pass import judged_metrics

        assert self.suite is not None, "a run with samples has its suite"
        spec = next((each for each in self.suite.sampled if each.name == task), None)
        if not self.scorecard.judgements or spec is None:
            return ()
        metrics = self._metrics(spec, self.suite.plugins)
        return judged_metrics(metrics, self.suite.judges, role)

    def _metrics(self, task: SampledTask, plugins: Sequence[str]) -> tuple[Metric, ...]:
        try:
            load_plugins(plugins)
            return tuple(build_metric(metric, task) for metric in task.metrics)
        except (UsageError, KeyError, ValueError) as error:
            message = (
                f"the metrics of task {task.name!r} cannot be built again ({error}); the plug-ins and the evalkit "
                "of the run must be importable"
            )
            raise UsageError([Problem(str(self.path / SUITE), None, "", message)]) from error


def open_run(name: str | Path, out: Path) -> PastRun:
    """Return the run that is meant by a folder, a ``scorecard.json``, a folder's name under ``out`` or an alias.

    Raises UsageError where there is none, where the name could be two of them, or where the run is not finished or was
    changed; also where an alias's run is no longer the one that was promoted.
    """
    found = find_run(str(name), out)
    if found is None:
        close = nearest_run(name, out)
        hint = f"; did you mean {close!r}?" if close else ""
        if Path(name).is_dir():
            raise UsageError(
                f"{str(name)!r} is a folder, but no run's: no run was begun in it{hint}"
            )
        raise UsageError(f"no run {str(name)!r}, here, under {out} or as an alias{hint}")
    return found


def nearest_run(name: str | Path, out: Path) -> str:
    """Return the alias, or the run's folder under ``out``, with the name nearest to this one; empty for none."""
    known = [*aliases(out), *(path.name for path in runs_under(out))]
    return nearest(Path(name).name, known)


def open_baseline(name: str, out: Path, beside: Path) -> PastRun | None:
    """Return the run that a baseline's name means, as ``open_run`` does; None where it means a model.

    A URL, a ``.jsonl`` file and a folder that is no run mean models. Paths are relative to ``beside`` or to the current
    folder. Raises UsageError as ``open_run`` does, and where a name is an alias and a model's folder.
    """
    if name.startswith(("http://", "https://")) or name.endswith(".jsonl"):
        return None
    return find_run(name, out, beside=beside, models=True)


def find_run(
    name: str, out: Path, *, beside: Path | None = None, models: bool = False
) -> PastRun | None:
    """Return the run a name means, None where it means none; ``models``: a folder may be a model as well."""
    if name.startswith(ALIAS):
        return _promoted(name.removeprefix(ALIAS), out)
    paths = (folder / Path(name).expanduser() for folder in (beside or Path(), Path()))
    here = next((path for path in paths if _is_there(path, models)), None)
    bare = Path(name).name == name
    meanings: dict[str, Path] = {}
    if here is not None:
        meanings[f"./{name}"] = here
    if bare and _is_there(out / name):
        meanings[str(out / name)] = out / name
    if bare and (promotion := aliases(out).get(name)) is not None:
        meanings[f"{ALIAS}{name}"] = out / promotion.run
    if len({path.resolve() for path in meanings.values()}) > 1:
        raise UsageError(f"{name!r} may be several things; write one of: {', '.join(meanings)}")
    if f"{ALIAS}{name}" in meanings:
        return _promoted(name, out)
    path = next(iter(meanings.values()), None)
    if path is None or not _is_there(path):
        return None
    return PastRun(path if path.is_dir() else path.parent, read_scorecard(path))


def _is_there(path: Path, models: bool = False) -> bool:
    """Tell whether a path is a run: its folder, also of an unfinished one, or a scorecard's file."""
    try:
        if path.is_dir():
            return models or is_run(path)
        return path.suffix == ".json" and path.is_file()
    except OSError:  # a name too long for the file system, a folder nobody may read
        return False


def _promoted(alias: str, out: Path) -> PastRun:
    known = aliases(out)
    if alias not in known:
        close = nearest(alias, known)
        hint = f"; did you mean {close!r}?" if close else ""
        names = ", ".join(known) or "none"
        raise UsageError(f"no alias {alias!r} under {out}{hint} (aliases: {names})")
    promotion = known[alias]
    path = out / promotion.run
    if not is_run(path):
        raise UsageError(
            f"alias {alias!r} names the run {path}, which is not there any more; put it back, or promote another run "
            f"as {alias}"
        )
    run = PastRun(path, read_scorecard(path))
    if run.scorecard.digest != promotion.scorecard:
        raise UsageError(
            f"alias {alias!r}: the run in {path} is not the one promoted at {promotion.time} (scorecard "
            f"{short(promotion.scorecard)}, now {short(run.scorecard.digest)}); promote a run again"
        )
    return run


def utc_today() -> date:
    """Return the day by which waivers are judged."""
    return datetime.now(UTC).date()


def decide_again(gates: Sequence[GateSpec], run: PastRun) -> Verdict:
    """Return what gates answer on a past run today. Samples are read where a condition asks for them.

    Raises UsageError where a rule does not fit what it matches.
    """
    if run.suite is not None:
        refuse_misfits(run.suite, gates)
    scores = run.scores if run.has_samples else None
    return evaluate(gates, run.scorecard, today=utc_today(), scores=scores)


def runs_under(folder: Path) -> list[Path]:
    """Return the folders in ``folder`` in which a run was begun, finished or not, sorted by name."""
    return sorted(
        path.parent for path in {*folder.glob("*/run.json"), *folder.glob("*/scorecard.json")}
    )
