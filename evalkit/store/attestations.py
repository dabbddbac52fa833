"""Attestations in a run's folder, and the state of that folder which they are about.

::

    OUT/<name>/attestations/<key id>.dsse.json     one approval: a DSSE envelope; signing again with a key replaces it
                            <digest>.sigstore.json one approval: a Sigstore bundle, named by identity and issuer

A file that is signed is read once: its digest and what it says are those of the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from evalkit.errors import RunError, UsageError
from evalkit.records.declared import Declared
from evalkit.records.scorecard import Scorecard
from evalkit.records.verdict import Verdict
from evalkit.signing import Held, RunState
from evalkit.store.documents import checked
from evalkit.store.durable import make_folder, write_bytes
from evalkit.store.reviews import LABELS
from evalkit.store.runs import (
    ATTESTATIONS,
    BASELINE,
    JUDGEMENTS,
    SAMPLES,
    SCORECARD,
    SUITE,
    VERDICT,
    WEIGHTS,
)

ENVELOPE: Final = ".dsse.json"
BUNDLE: Final = ".sigstore.json"
SIGNED: Final = (
    SCORECARD,
    VERDICT,
    SUITE,
    SAMPLES,
    WEIGHTS,
    JUDGEMENTS,
    LABELS,
    BASELINE + SCORECARD,
    BASELINE + SUITE,
)
"""What of a run's folder is signed where it is there; reports are drawn from it, and are not."""

AnyRecord = TypeVar("AnyRecord", bound=Declared)


def read_state(folder: Path) -> RunState:
    """Return what lies in a run's folder now, whatever state it is in. Raises RunError where a file cannot be read."""
    files: dict[str, str] = {}
    damaged: dict[str, str] = {}
    for name in SIGNED:
        if name not in (SCORECARD, VERDICT) and (sha256 := _sha256(folder / name)) is not None:
            files[name] = sha256
    scorecard = _read(folder / SCORECARD, Scorecard, files, damaged)
    verdict = _read(folder / VERDICT, Verdict, files, damaged)
    if SCORECARD not in files:
        damaged[SCORECARD] = (
            "there is no such file: the run is not finished, or somebody removed it"
        )
    recorded = _recorded(scorecard) if scorecard else {}
    return RunState(files, recorded, scorecard, verdict, damaged)


@dataclass(frozen=True)
class Attestations:
    """What lies in a run's ``attestations/``, each kind by name."""

    envelopes: tuple[Held, ...] = ()
    """DSSE envelopes, signed with keys."""
    bundles: tuple[Held, ...] = ()
    """Sigstore bundles, signed by identities."""
    others: tuple[str, ...] = ()
    """The names of what is neither."""


def read_attestations(folder: Path) -> Attestations:
    """Return the attestations in a run's folder. Raises RunError where one cannot be read."""
    place = folder / ATTESTATIONS
    if not place.is_dir():
        return Attestations()
    try:
        paths = sorted(path for path in place.iterdir() if not path.name.startswith("."))
        envelopes, bundles = (
            tuple(Held(p.name, p.read_bytes()) for p in paths if p.name.endswith(suffix))
            for suffix in (ENVELOPE, BUNDLE)
        )
    except OSError as error:
        raise _unreadable(Path(error.filename or place), error) from error
    others = tuple(p.name for p in paths if not p.name.endswith((ENVELOPE, BUNDLE)))
    return Attestations(envelopes, bundles, others)


def write_attestation(folder: Path, signer: str, content: bytes, suffix: str = ENVELOPE) -> Path:
    """Write an approval into a run's folder, durably; return its file. Raises RunError."""
    file = folder / ATTESTATIONS / f"{signer}{suffix}"
    make_folder(file.parent)
    write_bytes(file, content)
    return file


def _recorded(scorecard: Scorecard) -> Mapping[str, str]:
    held = {
        SAMPLES: scorecard.samples,
        WEIGHTS: scorecard.weights,
        JUDGEMENTS: scorecard.judgements,
        LABELS: scorecard.labels,
    }
    return {name: sha256 for name, sha256 in held.items() if sha256}


def _read(
    file: Path, record: type[AnyRecord], files: dict[str, str], damaged: dict[str, str]
) -> AnyRecord | None:
    """Return the record in a file; its digest goes into ``files``, what is wrong with it into ``damaged``."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(file, error) from error
    files[file.name] = hashlib.sha256(content).hexdigest()
    try:
        held: Any = json.loads(content, parse_constant=_refuse)
        return checked(file, held, record)
    except UsageError as error:
        problem = error.problems[0]
        more = f" (and {len(error.problems) - 1} more)" if len(error.problems) > 1 else ""
        where = f"{problem.key}: " if problem.key else ""
        damaged[file.name] = f"{where}{problem.message}{more}"
    except (ValueError, RecursionError) as error:
        damaged[file.name] = f"not JSON: {error}"
    return None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _sha256(file: Path) -> str | None:
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: OSError) -> RunError:
    return RunError(f"{file} cannot be read: {error.strerror}", "check its permissions")
