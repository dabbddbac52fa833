"""What lies in a run's folder at one moment, and why it may not be signed or believed.

Each reason is an Objection of one kind, so that a machine can tell them apart and a person reads one sentence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final, Literal

from evalkit.gates.waivers import covers, is_expired, named
from evalkit.identity import short
from evalkit.records.scorecard import Scorecard
from evalkit.records.verdict import EXIT_CODES, Outcome, Verdict

ObjectionKind = Literal[
    "no_attestation",  # there is nothing that anybody signed
    "malformed",  # a file that is no DSSE envelope
    "wrong_signature",  # a trusted key is said to have signed this, and did not
    "key_mismatch",  # a signature or statement names another key than the one that signed
    "untrusted",  # none of the trusted keys signed it
    "wrong_payload_type",  # what is signed is no in-toto statement
    "wrong_statement",  # … or not one of a sign-off
    "wrong_claim",  # the statement says of the run what the run does not say
    "file_changed",
    "file_missing",
    "file_added",
    "model_changed",
    "model_missing",
    "model_added",
    "model_unread",  # the model's folder cannot be read as a checkpoint
    "model_unseen",  # the run never saw the model's bytes
    "altered",  # the run's files do not fit one another
    "verdict",  # the verdict is not pass
    "waiver_expired",
    "too_old",
    "from_the_future",
    "threshold",  # too few approvals count
]
MODEL: Final = "model/"
"""Before the names of the candidate's files among the subjects of a statement."""


@dataclass(frozen=True, slots=True)
class Objection:
    """One reason not to believe a sign-off, or not to give it."""

    kind: ObjectionKind
    """For machines."""
    message: str
    """For people, in one sentence; names in it are untrusted."""
    attestation: str = ""
    """The file it is about; empty where it is about the run."""


@dataclass(frozen=True)
class RunState:
    """A run's folder at one moment: the digests of its files, and what the very same bytes say."""

    files: Mapping[str, str]
    """Name → SHA-256 of each file that is there and is signed."""
    recorded: Mapping[str, str]
    """Name → SHA-256 of each file that the scorecard vouches for."""
    scorecard: Scorecard | None
    """None where it is absent or no scorecard."""
    verdict: Verdict | None
    """None where it is absent or no verdict."""
    damaged: Mapping[str, str]
    """Scorecard's or verdict's file → why it is not what it should be."""

    @property
    def model_files(self) -> Mapping[str, str]:
        """The candidate's files as the run saw them; none where it did not."""
        models = self.scorecard.provenance.models if self.scorecard else {}
        return models["candidate"].files if "candidate" in models else {}


def signed_files(run: RunState) -> dict[str, str]:
    """Return name → SHA-256 of all that a sign-off is about, the candidate's files under ``model/``."""
    return {**run.files, **{f"{MODEL}{name}": sha for name, sha in run.model_files.items()}}


def waivers_in_force(verdict: Verdict) -> list[Outcome]:
    """Return the outcomes that a waiver keeps from counting."""
    return [each for each in verdict.outcomes if each.counts_as == "waived"]


def run_objections(run: RunState, today: date) -> list[Objection]:
    """Return all that speaks against a run itself, whoever signed it; none for one that passed and is whole."""
    return [*_altered(run), *_undecided(run), *_unseen(run), *_expired(run, today)]


def _altered(run: RunState) -> Iterator[Objection]:
    for file, why in run.damaged.items():
        yield Objection("altered", f"{file}: {why}")
    card = run.scorecard
    if card is None:
        return
    if card.digest != card.computed_digest():
        yield Objection("altered", "the scorecard was changed after it was written")
    for name, sha256 in sorted(run.recorded.items()):
        if name not in run.files:
            yield Objection("altered", f"{name} is missing: the scorecard was computed from it")
        elif run.files[name] != sha256:
            yield Objection("altered", f"{name} was changed: it is not the scorecard's")
    if run.verdict is not None and run.verdict.scorecard != card.digest:
        decided, here = short(run.verdict.scorecard), short(card.digest)
        yield Objection(
            "altered", f"the verdict is about another scorecard ({decided}, here is {here})"
        )


def _undecided(run: RunState) -> Iterator[Objection]:
    verdict = run.verdict
    if verdict is None:
        if not run.damaged:
            yield Objection("verdict", "no gate has decided on this run")
        return
    if verdict.status != "pass":
        yield Objection("verdict", f"the verdict is {verdict.status}, not pass: {verdict.reason}")
        return
    for why in contradictions(verdict, run.scorecard):
        yield Objection("verdict", f"the verdict says pass, but {why}: it was changed by hand")


def contradictions(verdict: Verdict, card: Scorecard | None) -> Iterator[str]:
    """Yield what in a verdict or its scorecard cannot stand beside its pass, as the gates decide."""
    if verdict.exit_code != EXIT_CODES["pass"]:
        yield f"its exit code is {verdict.exit_code}"
    if not verdict.gates:
        yield "no gate is named in it"
    elif not verdict.outcomes:
        yield "it has no outcomes"
    elif unnamed := {each.gate for each in verdict.outcomes} - {*verdict.gates}:
        yield f"it has outcomes of gates that it does not name ({', '.join(sorted(unnamed))})"
    against = [
        f"{each.rule} on {each.estimate}"
        for each in verdict.outcomes
        if each.severity == "block" and not _lets_pass(each)
    ]
    if against:
        yield f"{', '.join(against)} did not"
    if card is not None and (short := [task.task for task in card.tasks if not task.complete]):
        yield f"the run is incomplete ({', '.join(dict.fromkeys(short))})"


def _lets_pass(outcome: Outcome) -> bool:
    """Tell whether an outcome may count as it says: what failed passes by Holm's adjustment or a waiver of its own."""
    if outcome.counts_as == "waived":
        return outcome.waiver is None or covers(outcome.waiver, outcome)
    if outcome.counts_as != "pass" or outcome.status in ("missing", "incomparable"):
        return False
    return outcome.status != "fail" or outcome.p_adjusted is not None


def _unseen(run: RunState) -> Iterator[Objection]:
    if run.scorecard is None:
        return
    candidate = run.scorecard.provenance.models.get("candidate")
    if candidate and candidate.engine.get("adapter") and not _has_adapter(candidate.files):
        message = (
            "the run tells the adapter by its digest alone, so its files cannot be signed: merge it into the "
            "checkpoint, or name the adapter's folder as the candidate"
        )
        yield Objection("model_unseen", message)
    if not run.model_files:
        message = (
            "the run did not see the candidate's files (somebody else's server answered), so nothing ties it to any "
            "weights: run the suite on the checkpoint itself, as with --backend vllm, or import the run again with "
            "--model DIR"
        )
        yield Objection("model_unseen", message)


def _has_adapter(files: Mapping[str, str]) -> bool:
    """Tell whether a model's files are an adapter's too: put on a model, or named as the model itself."""
    return any(name.startswith(("adapter/", "adapter_")) for name in files)


def _expired(run: RunState, today: date) -> Iterator[Objection]:
    for outcome in waivers_in_force(run.verdict) if run.verdict else ():
        waiver = outcome.waiver
        if waiver is None:
            message = (
                f"{outcome.rule} on {outcome.estimate} counts as waived, but no waiver is named"
            )
            yield Objection("altered", message)
        elif is_expired(waiver.expires, today):
            whose = f"{named(waiver)} on {outcome.estimate}"
            message = f"{whose} ({waiver.owner}) expired on {waiver.expires}; today is {today}"
            yield Objection("waiver_expired", message)
