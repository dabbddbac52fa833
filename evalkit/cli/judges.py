"""The judges of a run: what answers for each, its card, what makes it doubtful; and the second pass that asks them."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.cli.earlier_baseline import EarlierBaseline
from evalkit.cli.models import backend_name, open_model
from evalkit.errors import UsageError
from evalkit.identity import digest, short
from evalkit.judging.pins import flags, pins
from evalkit.loaders.checkpoints import DigestFile, find_checkpoint
from evalkit.loaders.judges import LoadedJudge
from evalkit.ports import Backend
from evalkit.records.exchange import Model, Need, Role
from evalkit.records.judging import JudgeCard, JudgeRecord
from evalkit.records.suite import JudgeSpec
from evalkit.registry import nearest
from evalkit.store.documents import checked, read_json

if TYPE_CHECKING:
    from evalkit.cli.assemble import Assembly
    from evalkit.ports import AnswerStore, Executor, Progress
    from evalkit.second_pass import Answered, Judged, JudgeParts
    from evalkit.store.runs import RunFolder

CARD_ENDING = "-card.json"
"""Behind a judge's name: its card, beside the file that declares it."""


@dataclass(frozen=True)
class OpenedJudge:
    """A judge with what answers for it, opened for nothing yet."""

    spec: JudgeSpec
    """What it is asked, under the name that metrics give it."""
    backend: Backend
    """What answers."""
    card: JudgeCard | None = None
    """Its card; None where there is none for exactly this judge."""
    why_no_card: str = ""
    """What was found in place of a card."""

    @property
    def pins(self) -> str:
        """Digest of all that can change a verdict."""
        return pins(self.spec, self.backend.model)


def open_judges(
    parts: Assembly,
    given: Sequence[str],
    cards: Sequence[Path],
    digest_file: DigestFile,
    *,
    has_baseline: bool,
) -> list[OpenedJudge]:
    """Return the judges that the suite's metrics need, in the suite's order.

    ``given`` are ``NAME=MODEL`` of the command line, ``cards`` its card files. Raises UsageError where a judge cannot
    be had, a card fits none, or pairs are to be judged without a baseline.
    """
    suite = parts.suite
    models = _given_models(given, suite.judges)
    asked = {
        judge: f"{task.spec.name}/{metric.name}"
        for task in parts.tasks
        for metric in task.metrics
        for judge in metric.judges
    }
    opened = []
    held = {file: _card(file) for file in cards}
    for name, spec in suite.judges.items():
        if name not in asked:
            continue
        if spec.form == "pairwise" and not has_baseline:
            raise UsageError(
                f"{asked[name]}: judge {name!r} compares the candidate's answers with the baseline's, and the run has "
                "no baseline: name one with --baseline or under 'models:' in the suite"
            )
        loaded = parts.loaded.judges[name]
        backend = judge_backend(spec, models.get(name), loaded.folder, digest_file)
        card, why = _card_of(spec, backend.model, _beside(name, loaded, parts.loaded.folder), held)
        opened.append(OpenedJudge(spec, backend, card, why))
    used = [judge.card for judge in opened]
    for file, card in held.items():
        if card not in used:
            raise UsageError(
                f"{file}: this card fits no judge of this run: it was made for another model, prompt, rubric or "
                "decoding; 'evalkit judge validate' makes one"
            )
    return opened


def _given_models(given: Sequence[str], judges: Mapping[str, JudgeSpec]) -> dict[str, str]:
    models = {}
    for pair in given:
        name, sign, model = pair.partition("=")
        if not sign or not model:
            raise UsageError(f"--judge {pair!r} is not of the form NAME=MODEL")
        if name not in judges:
            close = nearest(name, judges)
            hint = f"; did you mean {close!r}?" if close else ""
            known = ", ".join(judges) or "none"
            raise UsageError(f"--judge: the suite has no judge {name!r}{hint} (judges: {known})")
        models[name] = model
    return models


def judge_backend(
    spec: JudgeSpec, named: str | None, folder: Path, digest_file: DigestFile
) -> Backend:
    """Return what answers for a judge, not yet opened; ``named`` is its model on the command line.

    That is seen from the current folder, what the judge's file names from ``folder``. Raises UsageError, with the
    judge's name, where there is no such model, or where it cannot do what the judge needs.
    """
    model = named or spec.model
    if backend_name(spec.backend, model) == "replay":
        raise UsageError(
            f"judge {spec.judge!r}: {model!r} holds recorded answers, which cannot judge answers they do not know"
        )
    find = partial(find_checkpoint, folder=Path.cwd() if named else folder, digest_file=digest_file)
    try:
        stated = dict(spec.model_args)
        if (
            named and Path(model).is_dir()
        ):  # a revision says what a server serves; a folder's bytes are seen
            stated.pop("revision", None)
        backend = open_model(spec.backend, model, stated, find)
    except UsageError as error:
        if error.problems:
            told = [
                dataclasses.replace(p, file=f"judge {spec.judge}", key=f"model_args.{p.key}")
                if p.file == "--model-arg"
                else p
                for p in error.problems
            ]
            raise UsageError(told) from error
        raise UsageError(f"judge {spec.judge!r}: {error}") from error
    need: Need = "chat" if spec.chat else "text"
    if spec.read == "probabilities":
        need = "logprobs"
    if need not in backend.provides:
        raise UsageError(
            f"judge {spec.judge!r} needs {need} from its model, and the backend {type(backend).__name__} for {model!r} "
            f"gives {', '.join(sorted(backend.provides))}"
        )
    return backend


def _beside(name: str, loaded: LoadedJudge, folder: Path) -> Iterator[Path]:
    """Yield the cards that lie beside a judge's file or the suite's."""
    places = ((loaded.folder, loaded.spec.judge), (loaded.folder, name), (folder, name))
    for file in dict.fromkeys(place / f"{called}{CARD_ENDING}" for place, called in places):
        if file.is_file():
            yield file


def _card(file: Path) -> JudgeCard:
    try:
        return checked(file, read_json(file), JudgeCard)
    except UsageError as error:
        wanted = "a card, as 'evalkit judge validate' writes it"
        told = [dataclasses.replace(p, allowed=p.allowed or wanted) for p in error.problems]
        raise UsageError(told) from error


def _card_of(
    spec: JudgeSpec, model: Model, beside: Iterator[Path], held: Mapping[Path, JudgeCard]
) -> tuple[JudgeCard | None, str]:
    """Return a judge's card, else why what lies beside it is none."""
    wanted = pins(spec, model)
    for card in held.values():
        if card.pins == wanted:
            return card, ""
    others = []
    for file in beside:
        card = _card(file)
        if card.pins == wanted:
            return card, ""
        others.append(file.name)
    if not others:
        return None, ""
    return None, f"{', '.join(others)} was made for another model, prompt, rubric or decoding"


def role_of(judge: str) -> str:
    """Return the name under which a scorecard holds a judge's model."""
    return f"judge {judge}"


@dataclass(frozen=True)
class Bench:
    """The judges of a run, and the models that they judge."""

    judges: Sequence[OpenedJudge]
    """The judges, opened for nothing yet; empty where no metric needs one."""
    models: Mapping[Role, Model]
    """The models under judgement, an earlier run's too."""
    against: str
    """The identity that the baseline's answers are kept under; empty without a baseline."""

    def doubts(self, judge: OpenedJudge) -> tuple[str, ...]:
        """Return what makes a judge doubtful for these models."""
        models = {str(role): model for role, model in self.models.items()}
        configs = {role: _config(model) for role, model in models.items()}
        own = judge.backend.model
        return flags(own, models, {**configs, "judge": _config(own)})

    def parts(self, salt: str) -> Iterator[JudgeParts]:
        """Yield the judges as they are asked; ``salt`` keeps replies of models without pins to this run."""
        from evalkit.second_pass import JudgeParts

        for judge in self.judges:
            model = judge.backend.model
            if not model.pinned:
                model = dataclasses.replace(model, digest=digest([model.digest, salt]))
            card = judge.card
            if card is not None and not model.pinned:  # whatever the card says of itself
                card = card.model_copy(update={"pinned": False})
            signature = short(pins(judge.spec, model))
            if judge.spec.form == "pairwise":
                signature += f",against:{short(self.against)}"
            record = JudgeRecord(
                judge=judge.spec.judge,
                form=judge.spec.form,
                pins=judge.pins,
                model=model.digest,
                card=card,
                why_no_card=judge.why_no_card,
                flags=self.doubts(judge),
            )
            yield JudgeParts(judge.spec, judge.backend, model, signature, record)


def bench(
    judges: Sequence[OpenedJudge],
    backends: Mapping[Role, Backend],
    models: Mapping[Role, Model],
    earlier: EarlierBaseline | None,
) -> Bench:
    """Return the judges with the models of a run, of which the baseline may be an earlier run's.

    ``models`` are the identities that answers are kept under.
    """
    seen = {role: backend.model for role, backend in backends.items()}
    if earlier is None:
        against = models["baseline"].digest if "baseline" in models else ""
        return Bench(judges, seen, against)
    record = earlier.model
    place = earlier.run.scorecard.circumstances.locations.get("candidate", "")
    lent = Model(
        earlier.name, place, record.digest, record.pinned, dict(record.files), dict(record.engine)
    )
    return Bench(judges, {**seen, "baseline": lent}, record.digest)


def _config(model: Model) -> Mapping[str, Any]:
    """Return a checkpoint's ``config.json``; empty where it cannot be seen, as behind a server."""
    file = Path(model.location) / "config.json"
    try:
        held = read_json(file) if model.location and file.is_file() else {}
    except (UsageError, OSError):  # a name too long for the file system, or no JSON: told elsewhere
        return {}
    return held if isinstance(held, dict) else {}


def answered(
    parts: Assembly, roles: Sequence[Role], earlier: EarlierBaseline | None
) -> list[Answered]:
    """Return every task and model that judges are asked about, task by task."""
    from evalkit.second_pass import Answered, judged_metrics

    found = []
    for task in parts.tasks:
        for role in roles:
            metrics = judged_metrics(task.metrics, parts.suite.judges, role)
            if metrics:
                source = task.source.digest
                found.append(Answered(role, task.spec, metrics, source, task.signature))
        if earlier:
            metrics = judged_metrics(task.metrics, parts.suite.judges, "baseline")
            lent = earlier.measured(task.spec.name) if metrics else None
            if lent is not None:
                found.append(dataclasses.replace(lent, metrics=metrics))
    return found


def second_pass(
    seats: Bench,
    what: Sequence[Answered],
    folder: RunFolder,
    store: AnswerStore,
    executor: Callable[[str], Executor],
    progress: Callable[[str], Progress],
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None,
) -> Judged:
    """Ask the judges, write ``judgements.jsonl``, and return what they said as statistics."""
    from evalkit.second_pass import judge
    from evalkit.store.judgements import SampleFile
    from evalkit.store.runs import SAMPLES

    rows = SampleFile(folder.path / SAMPLES)
    with (
        folder.write_judgements() as write_row,
        asyncio.Runner(loop_factory=loop_factory) as runner,
    ):
        parts = list(seats.parts(folder.salt))
        return runner.run(judge(what, parts, rows, executor, store, write_row, progress))
