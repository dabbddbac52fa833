"""What is signed is an in-toto statement that names every file and says what was approved."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from signed_runs import (
    MARA,
    MODEL_FILES,
    NOW,
    RUN_FILES,
    scorecard,
    sha256,
    statement,
    waived,
    write_run,
)
from signed_runs import verdict as verdict_on

from evalkit.signing import PREDICATE_TYPE, WrongStatement, parse_statement
from evalkit.signing.statement import STATEMENT_TYPE


@pytest.fixture
def run(tmp_path):
    card = scorecard()
    return write_run(tmp_path, card, verdict_on(card, [waived(date(2026, 12, 31))])).run


def test_a_statement_says_what_was_approved(run):
    """A golden: whoever verifies without evalkit relies on each of these names."""
    held = json.loads(statement(run, note="release 14"))
    card, decided = (json.loads((run / f"{n}.json").read_text()) for n in ("scorecard", "verdict"))
    subjects = {
        **{n: sha256((run / n).read_bytes()) for n in ("scorecard.json", "verdict.json")},
        **{name: sha256(content) for name, content in RUN_FILES.items()},
        **{f"model/{name}": sha256(content) for name, content in MODEL_FILES.items()},
    }
    assert held == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": n, "digest": {"sha256": subjects[n]}} for n in sorted(subjects)],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "approver": "Mara Lind",
            "note": "release 14",
            "key": MARA.public.id,
            "signed": "2026-11-21T12:00:00Z",
            "evalkitVersion": "0.1.0",
            "run": {
                "scorecard": card["digest"],
                "verdict": {"status": "pass", "exitCode": 0, "reason": decided["reason"]},
                "gates": {"release": "9" * 64},
                "suite": {"name": "orders", "version": 3, "digest": "5" * 64},
                "models": {
                    "baseline": {"digest": "b" * 64, "pinned": False},
                    "candidate": {"digest": "c" * 64, "pinned": True},
                },
                "baselineRun": "",
                "datasets": {"extract": "d" * 64},
                "waivers": [
                    {
                        "gate": "release",
                        "rule": "fair",
                        "estimate": "extract/exact_match",
                        "owner": "mara",
                        "expires": "2026-12-31",
                        "reason": "a known gap",
                    }
                ],
            },
        },
    }


def test_the_same_approval_gives_the_same_bytes(run):
    assert statement(run) == statement(run)
    assert statement(run).isascii()


def test_the_predicates_type_is_a_registered_urn_with_a_version():
    """RFC 9562, section 4 (a random UUID); in-toto's TypeURI SHOULD include a version number."""
    four = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    assert re.fullmatch(f"urn:uuid:{four}#evalkit-sign-off-v1", PREDICATE_TYPE)


def test_the_time_is_written_in_utc(run):
    east = datetime(2026, 11, 21, 14, tzinfo=timezone(timedelta(hours=2)))
    assert statement(run, signed=east) == statement(run, signed=NOW)
    assert parse_statement(statement(run)).signed == datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_the_names_of_another_lineage_do_not_matter(run):
    """in-toto v1, README.md: consumers MUST ignore unrecognized fields; digests of other kinds likewise."""
    held = json.loads(statement(run))
    held["more"] = held["predicate"]["more"] = 1
    held["subject"][0]["digest"]["md5"] = "x"
    assert parse_statement(json.dumps(held).encode()) == parse_statement(statement(run))


def changed(run, change):
    held = json.loads(statement(run))
    change(held)
    return json.dumps(held).encode()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: s.update(_type="https://in-toto.io/Statement/v0.1"), "no in-toto statement"),
        (lambda s: s.update(predicateType="https://slsa.dev/provenance/v1"), "no sign-off"),
        (lambda s: s.pop("predicate"), "says nothing of a run"),
        (lambda s: s["predicate"].update(run=[]), "says nothing of a run"),
        (lambda s: s["predicate"].pop("approver"), "no approver"),
        (lambda s: s["predicate"].update(key=1), "no key"),
        (lambda s: s["predicate"].update(signed="yesterday"), "no time in UTC"),
        (lambda s: s["predicate"].update(signed="yesterdaZ"), "no time in UTC"),
        (lambda s: s["predicate"].update(signed="2026-11-21T12:00:00+02:00"), "no time in UTC"),
        (lambda s: s.update(subject=[]), "no subjects"),
        (lambda s: s.update(subject="x"), "no subjects"),
        (lambda s: s["subject"].append({"name": "x"}), "without name and SHA-256"),
        (lambda s: s["subject"][0].update(digest={"sha256": "A" * 64}), "without name and SHA-256"),
        (lambda s: s["subject"].append(s["subject"][0]), "two subjects have one name"),
    ],
)
def test_what_is_no_sign_off_says_why(run, change, told):
    with pytest.raises(WrongStatement, match=told):
        parse_statement(changed(run, change))


@pytest.mark.parametrize("payload", [b"", b"[]", b'{"a":1,"a":2}', b"\xff"])
def test_what_is_no_statement_says_so(payload):
    with pytest.raises(WrongStatement):
        parse_statement(payload)


def test_text_that_no_file_takes_is_signed_all_the_same(run):
    assert parse_statement(statement(run, note="\ud800")).note == "\ud800"


def test_the_statements_type_is_in_totos():
    assert STATEMENT_TYPE == "https://in-toto.io/Statement/v1"
