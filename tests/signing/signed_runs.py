"""Small runs that passed, their models and their keys, for the tests of signing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from evalkit.records.scorecard import Circumstances, ModelRecord, Provenance, Scorecard
from evalkit.records.suite import WaiverSpec
from evalkit.records.verdict import Outcome, Verdict
from evalkit.signing import (
    PAYLOAD_TYPE,
    Envelope,
    Signature,
    SigningKey,
    new_key,
    sign_off,
    written_envelope,
)
from evalkit.store.attestations import read_state, write_attestation

MARA, BO, EVE = (new_key(bytes([n]) * 32) for n in (1, 2, 3))
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
MODEL_FILES = {"config.json": b"{}", "model.safetensors": b"weights", "tokenizer.json": b"[]"}
RUN_FILES = {
    "samples.jsonl": b'{"id":1}\n',
    "weights.jsonl": b'{"tensor":"a"}\n',
    "judgements.jsonl": b'{"judge":"j"}\n',
    "labels.jsonl": b'{"label":1}\n',
    "suite.json": b'{"suite":"orders"}',
}


@dataclass(frozen=True)
class Signed:
    """A run's folder and its model's."""

    run: Path
    model: Path


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def scorecard(**changes: Any) -> Scorecard:
    """A scorecard that vouches for RUN_FILES and MODEL_FILES."""
    files = {name: sha256(content) for name, content in MODEL_FILES.items()}
    candidate = ModelRecord(digest="c" * 64, pinned=True, files=files, engine={"backend": "vllm"})
    baseline = ModelRecord(digest="b" * 64, pinned=False, files={}, engine={"backend": "openai"})
    provenance = Provenance(
        suite="orders",
        suite_version=3,
        suite_digest="5" * 64,
        models={"candidate": candidate, "baseline": baseline},
        datasets={"extract": "d" * 64},
        seed=0,
        versions={"evalkit": "0.1.0"},
    )
    held = {
        "provenance": provenance,
        "estimates": (),
        "comparisons": (),
        "tasks": (),
        "samples": sha256(RUN_FILES["samples.jsonl"]),
        "weights": sha256(RUN_FILES["weights.jsonl"]),
        "judgements": sha256(RUN_FILES["judgements.jsonl"]),
        "labels": sha256(RUN_FILES["labels.jsonl"]),
        "circumstances": Circumstances(
            started="2026-11-20T08:00:00+00:00",
            finished="2026-11-20T08:01:00+00:00",
            command=("evalkit", "run", "suite.yaml"),
            git_commit=None,
            hardware={},
            host={},
            asked=1,
            reused=0,
            seconds=60.0,
        ),
    }
    return Scorecard(**{**held, **changes}).sealed()


def outcome(**changes: Any) -> Outcome:
    held = {
        "gate": "release",
        "rule": "level",
        "estimate": "extract/exact_match",
        "status": "pass",
        "counts_as": "pass",
        "severity": "block",
        "observed": 0.9,
        "interval": None,
        "required": "≥ 0.8",
        "reason": "extract/exact_match is 0.9, above 0.8",
    }
    return Outcome(**{**held, **changes})


def waived(expires: date) -> Outcome:
    waiver = WaiverSpec(rule="fair", owner="mara", reason="a known gap", expires=expires)
    return outcome(rule="fair", status="fail", counts_as="waived", waiver=waiver)


def verdict(card: Scorecard, outcomes: Sequence[Outcome] = (), **changes: Any) -> Verdict:
    held = {
        "status": "pass",
        "exit_code": 0,
        "scorecard": card.digest,
        "gates": {"release": "9" * 64},
        "reason": "1 of 1 blocking outcomes passed",
        "outcomes": tuple(outcomes) or (outcome(),),
    }
    return Verdict(**{**held, **changes})


def write_run(place: Path, card: Scorecard | None = None, decided: Verdict | None = None) -> Signed:
    """Write a run and its model."""
    run, model = place / "run", place / "model"
    run.mkdir(parents=True)
    model.mkdir()
    card = card or scorecard()
    decided = decided or verdict(card)
    (run / "scorecard.json").write_text(json.dumps(card.model_dump(mode="json")))
    (run / "verdict.json").write_text(json.dumps(decided.model_dump(mode="json")))
    for name, content in RUN_FILES.items():
        (run / name).write_bytes(content)
    for name, content in MODEL_FILES.items():
        (model / name).write_bytes(content)
    return Signed(run, model)


def statement(run: Path, key: SigningKey = MARA, **changes: Any) -> bytes:
    held = {"approver": "Mara Lind", "note": "", "signed": NOW, "evalkit": "0.1.0"}
    return sign_off(read_state(run), key=key.public.id, **{**held, **changes})


def sealed(payload: bytes, *keys: SigningKey, payload_type: str = PAYLOAD_TYPE) -> Envelope:
    signed = Envelope(payload, payload_type, ()).signed_bytes
    made = tuple(Signature(key.public.id, key.sign(signed)) for key in keys)
    return Envelope(payload, payload_type, made)


def sign(run: Path, key: SigningKey = MARA, **changes: Any) -> Path:
    """Sign a run as ``evalkit sign`` does, at a time of the test's own; return the attestation."""
    envelope = sealed(statement(run, key, **changes), key)
    return write_attestation(run, key.public.id, written_envelope(envelope))
