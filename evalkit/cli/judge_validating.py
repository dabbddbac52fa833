"""The work of ``evalkit judge validate``: the judge and its labels found, everything asked, the card written."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any, Final

import click

from evalkit.calibrating import repetition_digest
from evalkit.cli.circumstances import utc_now
from evalkit.cli.judges import CARD_ENDING, judge_backend
from evalkit.cli.options import check_writable, parsed_arguments
from evalkit.cli.running import loop_factory
from evalkit.collecting import Collector
from evalkit.errors import RunError, UsageError
from evalkit.executors.local import LocalExecutor
from evalkit.identity import digest
from evalkit.judging.asking import Asker, Question
from evalkit.judging.canaries import canaries
from evalkit.judging.cards import JudgedCanary, card_figures, card_warnings
from evalkit.judging.labels import bait
from evalkit.judging.measured import JudgedItem
from evalkit.judging.pins import pins
from evalkit.judging.reading import NO_ANSWER
from evalkit.loaders.file_digests import FileDigests
from evalkit.loaders.judge_labels import Labels, load_labels
from evalkit.loaders.judges import LoadedJudge, load_judge
from evalkit.loaders.suites import load_suite
from evalkit.loaders.yaml_source import read_yaml
from evalkit.planning import PlannedSample
from evalkit.ports import AnswerStore, Backend, Executor
from evalkit.records.exchange import Completion, Failure, Model
from evalkit.records.judging import JudgeCard, Judgement
from evalkit.records.suite import JudgeSpec
from evalkit.registry import nearest
from evalkit.store.answers import SqliteAnswers
from evalkit.store.calibrations import kept_salt
from evalkit.store.documents import document
from evalkit.store.durable import make_folder, write_bytes

STORE: Final = Path("reports/answers.sqlite")
"""The answer store of runs."""
MOST_UNANSWERED: Final = 0.05
"""A greater share of questions that the judge's backend did not answer, and no card is written."""


def find_judge(named: str) -> LoadedJudge:
    """Return the judge of a file, or of a suite as ``SUITE.yaml#NAME``. Raises UsageError."""
    path, sign, name = named.rpartition("#")
    if not sign or Path(named).is_file():
        path, name = named, ""
    if not Path(path).is_file():
        raise UsageError(f"there is no judge file {path!r}{_beside(Path(path))}")
    if not name:
        written = read_yaml(Path(path)).value
        if "judge" not in written and {"suite", "judges"} & written.keys():
            held = written.get("judges")
            names = ", ".join(map(str, held)) if isinstance(held, dict) and held else "none"
            raise UsageError(
                f"{path} is a suite: name one of its judges as {path}#NAME (it declares {names})"
            )
        return load_judge(Path(path))
    judges = load_suite(Path(path)).judges
    if name not in judges:
        close = nearest(name, judges)
        hint = f"did you mean {close!r}?" if close else f"it has {', '.join(judges) or 'none'}"
        raise UsageError(f"{path} declares no judge {name!r}; {hint}")
    return judges[name]


def _beside(path: Path) -> str:
    """Return the nearest name among the files that lie where a file was looked for, as a hint; empty without one."""
    held = path.parent
    try:
        names = [each.name for each in held.iterdir() if each.is_file()] if held.is_dir() else []
    except OSError:  # a folder nobody may read
        names = []
    close = nearest(path.name, names)
    return f"; did you mean {str(path.with_name(close))!r}?" if close else ""


class Validating:
    """One validation: its parts in the order in which they are needed."""

    def __init__(self, named: str, flags: Mapping[str, Any], display: Any) -> None:  # noqa: ANN401
        self.flags, self.display = flags, display
        self.judge = find_judge(named)
        self.spec: JudgeSpec = self.judge.spec
        self.out: Path = flags["out"] or self.judge.folder / f"{self.spec.judge}{CARD_ENDING}"
        self.store: Path = flags["store"] or STORE
        self.asked = self.reused = 0

    def go(self) -> JudgeCard:
        """Ask, measure and write; return the card. Raises UsageError, RunError."""
        check_writable(self.out, "--out")
        pass_at = self._pass_at()
        labels = load_labels(self.flags["labels"], self.spec)
        make_folder(self.store.parent)
        backend = self._open()
        held = pins(self.spec, backend.model)
        with ExitStack() as stack:
            answers = stack.enter_context(SqliteAnswers(self.store))
            salt = ""
            if not backend.model.pinned:
                identity = digest(["judge validate", held, labels.digest])
                salt = stack.enter_context(kept_salt(self.store.parent, identity))
            judged, canaries = self._ask(backend, labels, answers, salt)
            card = self._card(held, backend.model, labels, judged, canaries, pass_at)
            write_bytes(self.out, document(card.model_dump(mode="json")))
        return card

    def _pass_at(self) -> int | None:
        given, (low, high) = self.flags["pass_at"], self.spec.scale
        if given is None:
            return None
        if self.spec.form == "pairwise":
            raise click.UsageError(f"--pass-at: {self.spec.judge} is pairwise and gives no scores")
        if not low < given <= high:
            raise click.UsageError(f"--pass-at {given}: a score from {low + 1} to {high}")
        return int(given)

    def _open(self) -> Backend:
        """Return what answers for the judge, not yet opened."""
        given, named = self.flags["backend"], self.flags["model"]
        more = parsed_arguments(self.flags["model_arg"])
        changed = {"model_args": self.spec.model_args | more}
        if given != "auto":
            changed["backend"] = given
        digest_file = FileDigests(self.store.parent / "file-digests.sqlite")
        asked = self.spec.model_copy(update=changed)
        return judge_backend(asked, named, self.judge.folder, digest_file)

    def _ask(
        self, backend: Backend, labels: Labels, answers: AnswerStore, salt: str
    ) -> tuple[list[JudgedItem], list[JudgedCanary]]:
        """Ask every item as often as is wanted, and once the canaries."""
        items = [item.question for item in labels.items]
        baited = list(
            canaries(bait(self.spec, labels.items), self.spec.scale[1], self.flags["canaries"])
        )
        worthless = [question for _, question in baited]
        executor = LocalExecutor(self.flags["request_timeout"], self.display.task(self.spec.judge))
        passes: list[list[Judgement]] = []

        async def ask_all() -> None:
            try:
                for number in range(self.flags["repeat"]):
                    shown = chain(items, worthless) if number == 0 else iter(items)
                    total = len(items) + (len(worthless) if number == 0 else 0)
                    one = _Pass(self, backend.model, number, salt, total)
                    await one.run(shown, answers, executor, backend)
                    passes.append(one.judgements)
            finally:
                await backend.close()

        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(ask_all())
        judged = [
            JudgedItem(item, tuple(each[n] for each in passes))
            for n, item in enumerate(labels.items)
        ]
        kinds = zip(baited, passes[0][len(items) :], strict=True)
        return judged, [JudgedCanary(kind, judgement) for (kind, _), judgement in kinds]

    def _card(
        self,
        held: str,
        model: Model,
        labels: Labels,
        judged: Sequence[JudgedItem],
        canaries: Sequence[JudgedCanary],
        pass_at: int | None,
    ) -> JudgeCard:
        level, seed = self.flags["confidence"], self.flags["seed"]
        figures = card_figures(self.spec, judged, canaries, level=level, seed=seed, pass_at=pass_at)
        random = self.flags["random_labels"]
        return JudgeCard(
            judge=self.spec.judge,
            pins=held,
            pinned=model.pinned,
            labels=labels.digest,
            made=utc_now(),
            pass_at=pass_at if self.spec.form == "pointwise" else None,
            figures=figures,
            warnings=card_warnings(self.spec, judged, figures, random=random),
        )


class _Pass:
    """All questions asked once; answers are kept under an identity of the pass alone."""

    def __init__(
        self,
        of: Validating,
        model: Model,
        number: int,
        salt: str,
        total: int,
    ) -> None:
        if number or salt:
            # The same question to the same judge is in the store already, so that a second pass would be its echo.
            identity = repetition_digest(model.digest, number, salt)
            model = dataclasses.replace(model, digest=identity)
        self.asker = Asker(of.spec, model, repeat=number)
        self.judgements: list[Judgement] = []
        self._of, self._total = of, total
        self._failures: list[Failure] = []
        self._view = of.display.task(f"{of.spec.judge} {number + 1}/{of.flags['repeat']}", "items")

    async def run(
        self,
        questions: Iterable[Question],
        answers: AnswerStore,
        executor: Executor,
        backend: Backend,
    ) -> None:
        """Ask; raises RunError where the judge's backend is gone, or leaves too much unanswered."""
        collector = Collector(map(self.asker.plan, questions), answers, self._finish)
        try:
            await collector.run(executor, backend)
        finally:
            self._of.asked += collector.asked
            self._of.reused += collector.reused
        unanswered = sum(judgement.reason == NO_ANSWER for judgement in self.judgements)
        if unanswered > MOST_UNANSWERED * self._total:
            first = self._failures[0] if self._failures else None
            said = first.message if first else "nothing"
            message = f"the judge did not answer {unanswered:,} of {self._total:,} questions; the first time: {said}"
            if first and first.kind == "context_length":
                raise RunError(
                    message,
                    "take a model with a longer window, or shorten items and prompt; the canaries are among the "
                    "longest, and --canaries 0 leaves them out; what was answered is kept",
                )
            raise RunError(message, "the same command asks these again; what was answered is kept")

    def _finish(self, planned: PlannedSample, outcomes: Sequence[Completion | Failure]) -> bool:
        self._failures += [each for each in outcomes if isinstance(each, Failure)][:1]
        self.judgements.append(self.asker.judgement(planned, outcomes))
        self._view.advance(len(self.judgements), self._total, len(self._failures))
        return False
