"""A sign-off holds when enough trusted keys have signed exactly this; whatever else is named, all of it."""

from __future__ import annotations

import json
import shutil
from base64 import b64encode
from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from signed_runs import (
    BO,
    EVE,
    MARA,
    MODEL_FILES,
    NOW,
    RUN_FILES,
    Signed,
    outcome,
    scorecard,
    sealed,
    sign,
    statement,
    waived,
    write_run,
)
from signed_runs import verdict as verdict_on

from evalkit.loaders.deployed import deployed_files
from evalkit.signing import (
    Envelope,
    MalformedEnvelope,
    Policy,
    Signature,
    open_envelope,
    parse_envelope,
    run_objections,
    verified,
    written_envelope,
)
from evalkit.store.attestations import read_attestations, read_state, write_attestation

TODAY = NOW.date()


@pytest.fixture
def signed(tmp_path):
    made = write_run(tmp_path)
    sign(made.run)
    return made


def verify(made: Signed, *keys, model=True, **policy):
    state = read_state(made.run)
    files = deployed_files(made.model, None, state.model_files)[0] if model else None
    trusted = [key.public for key in keys or (MARA,)]
    opened = [open_envelope(held, trusted) for held in read_attestations(made.run).envelopes]
    return verified(opened, state, files, Policy(**{"now": NOW, **policy}))


def told(verification, *, but=("threshold",)):
    return [(o.kind, o.message) for o in verification.objections if o.kind not in but]


def kinds(verification):
    return {o.kind for o in verification.objections}


def test_what_was_signed_and_not_changed_holds(signed):
    answer = verify(signed)
    assert answer.holds
    (approval,) = answer.approvals
    assert (approval.key, approval.approver) == (MARA.public.id, "Mara Lind")
    assert approval.signed == NOW


def test_nothing_signed_is_not_believed(tmp_path):
    answer = verify(write_run(tmp_path))
    assert kinds(answer) == {"no_attestation", "threshold"}
    assert not answer.holds


def test_a_signature_by_nobody_trusted_does_not_count(signed):
    answer = verify(signed, BO)
    assert told(answer) == [
        ("untrusted", f"signed by no trusted key (by key {MARA.public.id[:12]})")
    ]
    sign(signed.run, BO)
    assert verify(signed, BO).holds, "another's attestation does not harm"
    assert [o.kind for o in verify(signed, BO).passed_over] == ["untrusted"]


def test_a_copied_signature_is_wrong(signed):
    """The attestation of one run under another statement."""
    file = sign(signed.run)
    held = parse_envelope(file.read_bytes())
    other = statement(signed.run, note="something else")
    file.write_bytes(written_envelope(replace(held, payload=other)))
    key = MARA.public.id[:12]
    assert told(verify(signed)) == [
        ("wrong_signature", f"the signature is wrong: key {key} did not sign these bytes")
    ]


def test_a_forged_key_id_is_wrong(signed):
    """Eve signs, and says that it was Mara."""
    payload = statement(signed.run)
    forged = Signature(MARA.public.id, EVE.sign(sealed(payload).signed_bytes))
    file = write_attestation(
        signed.run, "eve", written_envelope(replace(sealed(payload), signatures=(forged,)))
    )
    answer = verify(signed)
    assert kinds(answer) == {"wrong_signature"}, "although Mara's own attestation counts"
    assert answer.objections[0].attestation == file.name


@pytest.mark.parametrize(
    ("keyid", "names"), [("", "names no key"), ("0" * 64, "names key '000000000000'")]
)
def test_a_signature_that_names_another_key_is_refused(signed, keyid, names):
    file = sign(signed.run)
    held = parse_envelope(file.read_bytes())
    (signature,) = held.signatures
    file.write_bytes(written_envelope(replace(held, signatures=(replace(signature, keyid=keyid),))))
    message = f"the signature {names}, but key {MARA.public.id[:12]} made it"
    assert told(verify(signed)) == [("key_mismatch", message)]


def test_a_statement_that_names_another_key_is_refused(signed):
    file = sign(signed.run)
    file.write_bytes(written_envelope(sealed(statement(signed.run, BO), MARA)))
    message = f"the statement names key {BO.public.id[:12]!r}, which did not sign it"
    assert told(verify(signed)) == [("key_mismatch", message)]


@pytest.mark.parametrize("wrong", ["the signature", "the statement"])
def test_a_wrong_name_is_never_passed_over_although_others_count(signed, wrong):
    """As where somebody hides whose approval it is: beside Mara's, which is good."""
    held = sealed(statement(signed.run, BO if wrong == "the signature" else EVE), BO)
    (signature,) = held.signatures
    if wrong == "the signature":
        held = replace(held, signatures=(replace(signature, keyid="0" * 64),))
    write_attestation(signed.run, "odd", written_envelope(held))
    answer = verify(signed, MARA, BO)
    assert [a.key for a in answer.approvals] == [MARA.public.id], "and that would be enough"
    assert kinds(answer) == {"key_mismatch"} and not answer.holds
    assert answer.objections[0].message.startswith(wrong)


@pytest.mark.parametrize("value", [b"", bytes(64), b"x"])
def test_a_signature_that_is_none_does_not_count_whatever_key_it_names(signed, value):
    payload = statement(signed.run)
    none = Signature(MARA.public.id, value)
    file = sign(signed.run)
    file.write_bytes(written_envelope(replace(sealed(payload), signatures=(none,))))
    answer = verify(signed)
    assert kinds(answer) == {"wrong_signature", "threshold"} and answer.approvals == ()
    both = sealed(payload, BO)
    file.write_bytes(written_envelope(replace(both, signatures=(*both.signatures, none))))
    assert "wrong_signature" in kinds(verify(signed, MARA, BO))


def test_what_is_no_envelope_is_named_although_others_count(signed):
    write_attestation(signed.run, "torn", b"{}")
    answer = verify(signed)
    assert kinds(answer) == {"malformed"}
    assert "no DSSE envelope" in answer.objections[0].message
    assert answer.objections[0].attestation == "torn.dsse.json"


def test_another_kind_of_payload_is_refused(signed):
    sealed_as = sealed(statement(signed.run), MARA, payload_type="application/json")
    sign(signed.run).write_bytes(written_envelope(sealed_as))
    message = "the payload's type is 'application/json', not 'application/vnd.in-toto+json'"
    assert told(verify(signed)) == [("wrong_payload_type", message)]
    other = sealed(b"hello", MARA, payload_type="text/plain")
    sign(signed.run).write_bytes(written_envelope(other))
    assert [kind for kind, _ in told(verify(signed))] == ["wrong_payload_type"], "it is not parsed"


def test_another_kind_of_statement_is_refused(signed):
    held = json.loads(statement(signed.run))
    held["predicateType"] = "https://slsa.dev/provenance/v1"
    sign(signed.run).write_bytes(written_envelope(sealed(json.dumps(held).encode(), MARA)))
    ((kind, message),) = told(verify(signed))
    assert kind == "wrong_statement" and "slsa" in message


SIGNED_NAMES = ["scorecard.json", "verdict.json", *RUN_FILES]


@pytest.mark.parametrize("name", SIGNED_NAMES)
def test_each_file_of_the_run_is_missed_by_name(signed, name):
    (signed.run / name).unlink()
    answer = verify(signed)
    assert ("file_missing", f"{name} is missing: it was there when it was signed") in told(answer)


@pytest.mark.parametrize("name", SIGNED_NAMES)
def test_each_file_of_the_run_that_was_changed_is_named(signed, name):
    file = signed.run / name
    file.write_bytes(file.read_bytes() + b" ")
    answer = verify(signed)
    assert ("file_changed", f"{name} was changed after it was signed") in told(answer)
    assert not any(k.startswith("file") and name not in m for k, m in told(answer))


def test_a_file_that_was_added_is_named(tmp_path):
    made = write_run(tmp_path, scorecard(labels=""))
    (made.run / "labels.jsonl").unlink()
    sign(made.run)
    assert verify(made).holds
    (made.run / "labels.jsonl").write_text("{}")
    assert told(verify(made)) == [("file_added", "labels.jsonl was added after the run was signed")]


@pytest.mark.parametrize("name", ["baseline-scorecard.json", "baseline-suite.json"])
def test_what_an_earlier_run_lent_is_signed_too(tmp_path, name):
    made = write_run(tmp_path)
    sign(made.run)
    file = made.run / name
    file.write_text("{}")
    assert told(verify(made)) == [("file_added", f"{name} was added after the run was signed")]
    sign(made.run)
    assert verify(made).holds
    file.write_text("[]")
    assert told(verify(made)) == [("file_changed", f"{name} was changed after it was signed")]
    file.unlink()
    gone = f"{name} is missing: it was there when it was signed"
    assert told(verify(made)) == [("file_missing", gone)]


def test_files_of_a_report_are_free(signed):
    for name in ("report.html", "junit.xml", "run.json"):
        (signed.run / name).write_text("anything")
    assert verify(signed).holds


@pytest.mark.parametrize("name", MODEL_FILES)
def test_each_file_of_the_model_is_compared(signed, name):
    file = signed.model / name
    before = file.read_bytes()
    file.write_bytes(before + b" ")
    changed = f"the model's file {name} was changed after it was signed"
    assert told(verify(signed)) == [("model_changed", changed)]
    assert verify(signed, model=False).holds, "without the model nothing is said of it"
    file.unlink()
    missing = f"the model's file {name} is missing: it was there when it was signed"
    assert told(verify(signed)) == [("model_missing", missing)]


def test_a_file_that_was_added_to_the_model_is_named(signed):
    (signed.model / "modeling_evil.py").write_text("import os")
    added = "the model's file modeling_evil.py was added after the model was signed"
    assert told(verify(signed)) == [("model_added", added)]


def test_a_model_that_nobody_signed_is_held_against_the_run(tmp_path):
    made = write_run(tmp_path)
    (made.model / "config.json").write_text("[]")
    message = "the model's file config.json was changed after it was measured"
    assert ("model_changed", message) in told(verify(made))


def test_a_verdict_that_is_replaced_is_named(signed):
    """As 'evalkit gate --write' does."""
    card = read_state(signed.run).scorecard
    again = verdict_on(card, reason="decided again")
    (signed.run / "verdict.json").write_text(json.dumps(again.model_dump(mode="json")))
    assert told(verify(signed)) == [
        ("file_changed", "verdict.json was changed after it was signed")
    ]


def test_all_that_is_wrong_is_told_together(tmp_path):
    card = scorecard()
    made = write_run(tmp_path, card, verdict_on(card, [waived(date(2026, 11, 20))]))
    sign(made.run, signed=NOW - timedelta(days=40))
    sign(made.run, BO)
    (made.run / "samples.jsonl").write_text("")
    (made.model / "config.json").unlink()
    (made.model / "extra.json").write_text("{}")
    write_attestation(made.run, "torn", b"")
    answer = verify(made, MARA, BO, threshold=2, max_age=timedelta(days=30))
    assert kinds(answer) == {
        "altered",
        "waiver_expired",
        "file_changed",
        "model_missing",
        "model_added",
        "too_old",
        "malformed",
        "threshold",
    }


# Run-level reasons: they hold whoever has signed.


def objections(tmp_path, card=None, decided=None, day=TODAY):
    made = write_run(tmp_path, card, decided)
    return [(o.kind, o.message) for o in run_objections(read_state(made.run), day)]


@pytest.mark.parametrize("status", ["fail", "inconclusive", "incomplete"])
def test_a_verdict_that_is_not_pass_is_no_ground(tmp_path, status):
    card = scorecard()
    decided = verdict_on(card, status=status, exit_code=1, reason="because")
    ((kind, message),) = objections(tmp_path, card, decided)
    assert kind == "verdict" and message == f"the verdict is {status}, not pass: because"


@pytest.mark.parametrize("counts_as", ["fail", "inconclusive", "missing"])
def test_a_verdict_that_says_pass_against_its_own_rules_is_no_ground(tmp_path, counts_as):
    card = scorecard()
    decided = verdict_on(card, [outcome(), outcome(rule="broken", counts_as=counts_as)])
    ((kind, message),) = objections(tmp_path, card, decided)
    assert kind == "verdict" and "broken on extract/exact_match did not" in message


def test_a_warning_that_failed_is_no_obstacle(tmp_path):
    card = scorecard()
    decided = verdict_on(card, [outcome(), outcome(counts_as="fail", severity="warn")])
    assert objections(tmp_path, card, decided) == []


def test_a_verdict_of_no_gate_is_no_ground(tmp_path):
    card = scorecard()
    ((kind, message),) = objections(tmp_path, card, verdict_on(card, gates={}))
    assert kind == "verdict" and "no gate is named" in message


def test_a_run_without_a_verdict_is_no_ground(tmp_path):
    made = write_run(tmp_path)
    (made.run / "verdict.json").unlink()
    found = run_objections(read_state(made.run), NOW.date())
    assert [(o.kind, o.message) for o in found] == [("verdict", "no gate has decided on this run")]


def test_a_verdict_about_another_scorecard_is_no_ground(tmp_path):
    card = scorecard()
    ((kind, message),) = objections(tmp_path, card, verdict_on(card, scorecard="e" * 64))
    assert kind == "altered" and "another scorecard" in message


def test_a_scorecard_that_was_edited_is_no_ground(tmp_path):
    card = scorecard()
    edited = card.model_copy(update={"baseline_run": "f" * 64})
    ((kind, message),) = objections(tmp_path, edited, verdict_on(card))
    assert kind == "altered" and "changed after it was written" in message


@pytest.mark.parametrize(
    "name", ["samples.jsonl", "weights.jsonl", "judgements.jsonl", "labels.jsonl"]
)
def test_a_file_that_is_not_the_scorecards_is_no_ground(tmp_path, name):
    made = write_run(tmp_path)
    (made.run / name).write_text("other")
    (found,) = run_objections(read_state(made.run), NOW.date())
    assert found.message == f"{name} was changed: it is not the scorecard's"
    (made.run / name).unlink()
    (found,) = run_objections(read_state(made.run), NOW.date())
    assert found.message == f"{name} is missing: the scorecard was computed from it"


def test_a_model_whose_bytes_nobody_saw_is_no_ground(tmp_path):
    card = scorecard()
    candidate = card.provenance.models["candidate"].model_copy(update={"files": {}})
    card = scorecard(
        provenance=card.provenance.model_copy(update={"models": {"candidate": candidate}})
    )
    ((kind, message),) = objections(tmp_path, card)
    assert kind == "model_unseen" and "did not see the candidate's files" in message


def test_an_adapter_known_by_its_digest_alone_is_no_ground(tmp_path):
    card = scorecard()
    engine = {"backend": "vllm", "adapter": "a" * 64}
    candidate = card.provenance.models["candidate"].model_copy(update={"engine": engine})
    with_adapter = card.provenance.model_copy(update={"models": {"candidate": candidate}})
    ((kind, message),) = objections(tmp_path, scorecard(provenance=with_adapter))
    assert kind == "model_unseen" and "adapter by its digest alone" in message


def test_a_waiver_holds_up_to_and_including_its_last_day(tmp_path):
    last = date(2026, 11, 30)
    card = scorecard()
    decided = verdict_on(card, [waived(last)])
    assert objections(tmp_path / "a", card, decided, last) == []
    ((kind, message),) = objections(tmp_path / "b", card, decided, last + timedelta(days=1))
    assert kind == "waiver_expired"
    assert "the waiver of rule fair" in message and "expired on 2026-11-30" in message


def test_a_signature_on_a_run_that_did_not_pass_is_worth_nothing(tmp_path):
    card = scorecard()
    made = write_run(tmp_path, card, verdict_on(card, status="fail", exit_code=1, reason="no"))
    sign(made.run)
    assert told(verify(made)) == [("verdict", "the verdict is fail, not pass: no")]


def test_a_damaged_scorecard_is_told_and_the_model_still_compared(signed):
    (signed.run / "scorecard.json").write_text("{")
    (signed.model / "config.json").write_text("[]")
    answer = verify(signed)
    assert {"altered", "file_changed", "model_changed"} <= kinds(answer)


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p["run"].update(scorecard="0" * 64),
        lambda p: p["run"]["verdict"].update(reason="all is well"),
        lambda p: p["run"].update(waivers=[{"rule": "x"}]),
        lambda p: p["run"].pop("datasets"),
        lambda p: p["run"]["models"]["candidate"].update(digest="0" * 64),
    ],
)
def test_a_trusted_signer_cannot_say_of_a_run_what_it_does_not_say(signed, change):
    held = json.loads(statement(signed.run))
    change(held["predicate"])
    sign(signed.run).write_bytes(written_envelope(sealed(json.dumps(held).encode(), MARA)))
    assert {kind for kind, _ in told(verify(signed))} == {"wrong_claim"}


def test_a_statement_about_another_model_than_the_runs_is_refused(signed):
    held = json.loads(statement(signed.run))
    for each in held["subject"]:
        if each["name"] == "model/config.json":
            each["digest"]["sha256"] = "0" * 64
    sign(signed.run).write_bytes(written_envelope(sealed(json.dumps(held).encode(), MARA)))
    message = "the model's files that were signed are not those that the run saw"
    assert told(verify(signed, model=False)) == [("wrong_claim", message)]


# Time.


def test_an_attestation_counts_until_it_is_too_old(tmp_path):
    made = write_run(tmp_path)
    sign(made.run, signed=NOW - timedelta(days=30))
    assert verify(made).holds
    assert verify(made, max_age=timedelta(days=30)).holds
    ((kind, message),) = told(verify(made, max_age=timedelta(days=30) - timedelta(seconds=1)))
    assert kind == "too_old" and "2026-10-22 12:00 UTC" in message


def test_an_attestation_from_the_future_does_not_count(tmp_path):
    made = write_run(tmp_path)
    sign(made.run, signed=NOW + timedelta(minutes=5))
    assert verify(made).holds, "clocks differ by some minutes"
    sign(made.run, signed=NOW + timedelta(minutes=5, seconds=1))
    ((kind, message),) = told(verify(made))
    assert kind == "from_the_future" and "5 minutes" in message


# n of m.


def test_two_approvals_need_two_keys(signed):
    answer = verify(signed, MARA, BO, threshold=2)
    (objection,) = answer.objections
    key = MARA.public.id[:12]
    assert objection.message == f"1 of 2 required approvals: Mara Lind (key {key})"
    sign(signed.run, BO, approver="Bo")
    answer = verify(signed, MARA, BO, threshold=2)
    assert answer.holds and {a.approver for a in answer.approvals} == {"Mara Lind", "Bo"}


def test_a_key_counts_once_however_often_it_signed(signed):
    shutil.copy(sign(signed.run), signed.run / "attestations" / "again.dsse.json")
    twice = sealed(statement(signed.run, note="again"), MARA, MARA)
    write_attestation(signed.run, "twice", written_envelope(twice))
    assert kinds(verify(signed, MARA, BO, threshold=2)) == {"threshold"}
    assert len(verify(signed, MARA, BO).approvals) == 1


@pytest.mark.parametrize("later", ["a", "b"])
def test_of_two_approvals_by_one_key_the_later_is_shown(tmp_path, later):
    """Whichever file is read first."""
    made = write_run(tmp_path)
    for name in ("a", "b"):
        ago = timedelta(days=0 if name == later else 9)
        payload = statement(made.run, note=f"note {name}", signed=NOW - ago)
        write_attestation(made.run, name, written_envelope(sealed(payload, MARA)))
    (approval,) = verify(made).approvals
    assert (approval.note, approval.signed) == (f"note {later}", NOW)
    assert approval.attestation == f"{later}.dsse.json"


@pytest.mark.parametrize("threshold", [0, -1])
def test_nobody_is_never_enough(threshold):
    with pytest.raises(ValueError, match="at least one must have signed"):
        Policy(NOW, threshold)


def test_a_key_that_is_named_twice_counts_once(signed):
    assert kinds(verify(signed, MARA, MARA, threshold=2)) == {"threshold"}


def test_both_signatures_of_one_envelope_count(signed):
    sign(signed.run).write_bytes(written_envelope(sealed(statement(signed.run), MARA, BO)))
    answer = verify(signed, MARA, BO, threshold=2)
    assert answer.holds
    assert sorted(a.approver for a in answer.approvals) == ["", "Mara Lind"]


def test_in_one_envelope_every_trusted_signature_must_be_right(signed):
    held = sealed(statement(signed.run), MARA, BO)
    wrong = replace(held.signatures[1], value=bytes(64))
    file = sign(signed.run)
    file.write_bytes(written_envelope(replace(held, signatures=(held.signatures[0], wrong))))
    assert kinds(verify(signed, MARA, BO)) == {"wrong_signature", "threshold"}
    assert verify(signed, MARA).holds, "whom nobody trusts is not asked"


def test_an_outdated_approval_beside_enough_others_is_only_noted(signed):
    sign(signed.run, BO, signed=NOW - timedelta(days=90))
    answer = verify(signed, MARA, BO, max_age=timedelta(days=1))
    assert answer.holds
    assert [o.kind for o in answer.passed_over] == ["too_old"]


@given(
    signers=st.sets(st.sampled_from([0, 1, 2])),
    trusted=st.lists(st.sampled_from([0, 1, 2]), min_size=1),
    threshold=st.integers(1, 4),
)
def test_it_holds_exactly_where_enough_trusted_keys_have_signed(
    tmp_path_factory, signers, trusted, threshold
):
    keys = (MARA, BO, EVE)
    made = write_run(tmp_path_factory.mktemp("runs"))
    for each in signers:
        sign(made.run, keys[each])
    answer = verify(made, *(keys[each] for each in trusted), threshold=threshold)
    assert answer.holds == (len(signers & set(trusted)) >= threshold)


# Every byte.


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    made = write_run(tmp_path_factory.mktemp("whole"))
    sign(made.run)
    return made


ENVELOPE_KINDS = {"malformed", "wrong_signature", "key_mismatch", "wrong_payload_type"}


@given(
    name=st.sampled_from([*SIGNED_NAMES, *MODEL_FILES, "attestation"]),
    place=st.floats(0, 1, exclude_max=True),
    flip=st.integers(1, 255),
)
def test_any_changed_byte_is_found_and_named(whole, name, place, flip):
    of_model = name in MODEL_FILES
    file = (whole.model if of_model else whole.run) / name
    if name == "attestation":
        (file,) = (whole.run / "attestations").iterdir()
    before = file.read_bytes()
    at = int(place * len(before))
    after = bytes([*before[:at], before[at] ^ flip, *before[at + 1 :]])
    try:
        file.write_bytes(after)
        answer = verify(whole)
    finally:
        file.write_bytes(before)
    if name == "attestation":
        if chr(before[at]) in "+/-_" and same_envelope(before, after):
            return  # the same bytes in base64's other alphabet, which DSSE tells verifiers to take
        assert kinds(answer) & ENVELOPE_KINDS, (before[at], after[at])
    elif of_model:
        message = f"the model's file {name} was changed after it was signed"
        assert ("model_changed", message) in told(answer)
    else:
        assert ("file_changed", f"{name} was changed after it was signed") in told(answer)
    assert not answer.holds and verify(whole).holds


def same_envelope(one: bytes, other: bytes) -> bool:
    try:
        return parse_envelope(one) == parse_envelope(other)
    except MalformedEnvelope:
        return False


@given(cut=st.floats(0, 1, exclude_max=True))
def test_an_envelope_that_was_cut_off_is_none(whole, cut):
    (file,) = (whole.run / "attestations").iterdir()
    content = file.read_bytes()
    with pytest.raises(MalformedEnvelope):
        parse_envelope(content[: int(cut * len(content))])


# Another implementation: securesystemslib, the reference of in-toto and TUF.


def theirs(key):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from securesystemslib.signer import CryptoSigner

    return CryptoSigner(Ed25519PrivateKey.from_private_bytes(key.seed))


def test_securesystemslib_verifies_what_we_sign(signed):
    from securesystemslib.dsse import Envelope as Theirs
    from securesystemslib.exceptions import VerificationError

    sign(signed.run).write_bytes(written_envelope(sealed(statement(signed.run), MARA, BO)))
    (file,) = (signed.run / "attestations").iterdir()
    envelope = Theirs.from_dict(json.loads(file.read_bytes()))
    keys = [theirs(key).public_key for key in (MARA, BO)]
    assert set(envelope.verify(keys, 2)) == {MARA.public.id, BO.public.id}
    envelope.payload += b" "
    with pytest.raises(VerificationError):
        envelope.verify(keys, 1)


def test_we_verify_what_securesystemslib_signs(tmp_path):
    from securesystemslib.dsse import Envelope as Theirs

    made = write_run(tmp_path)
    envelope = Theirs(statement(made.run), "application/vnd.in-toto+json", {})
    for key in (MARA, BO):
        envelope.sign(theirs(key))
    write_attestation(made.run, "theirs", json.dumps(envelope.to_dict(), indent=1).encode())
    assert verify(made, MARA, BO, threshold=2).holds
    envelope.payload += b" "
    write_attestation(made.run, "theirs", json.dumps(envelope.to_dict()).encode())
    assert "wrong_signature" in kinds(verify(made, MARA, BO, threshold=2))


def test_both_write_the_same_envelope(signed):
    from securesystemslib.dsse import Envelope as Theirs

    payload = statement(signed.run)
    envelope = Theirs(payload, "application/vnd.in-toto+json", {})
    envelope.sign(theirs(MARA))
    assert envelope.to_dict() == json.loads(written_envelope(sealed(payload, MARA)))


def test_names_in_an_attestation_that_nobody_trusts_are_not_read(signed):
    """What is not signed by a trusted key is not parsed: not even to complain about it."""
    hostile = Envelope(b"\x1b[31m{", "application/vnd.in-toto+json", (Signature("\x1b[2J", b""),))
    write_attestation(signed.run, "hostile", written_envelope(hostile))
    answer = verify(signed)
    assert answer.holds and [o.kind for o in answer.passed_over] == ["untrusted"]


def test_base64_of_a_signature_in_the_other_alphabet_is_the_same_signature(signed):
    file = sign(signed.run)
    held = json.loads(file.read_bytes())
    (signature,) = parse_envelope(file.read_bytes()).signatures
    held["signatures"][0]["sig"] = b64encode(signature.value, b"-_").decode()
    file.write_text(json.dumps(held))
    assert verify(signed).holds
