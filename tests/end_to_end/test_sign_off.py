"""Sign-off from the command line: a real run of a real checkpoint, signed, verified, tampered with, promoted."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from commands import command, evalkit

from evalkit.cli import attested
from evalkit.cli.main import COMMANDS
from evalkit.signing import (
    PAYLOAD_TYPE,
    Envelope,
    Signature,
    read_private_key,
    sign_off,
    written_envelope,
)
from evalkit.store.attestations import read_state, write_attestation
from evalkit.store.runs import read_scorecard, read_verdict

pytest.importorskip("transformers", reason="the transformers extra is not installed")

SUITE = """
suite: orders
version: 1
models: {candidate: model}
gates: [gate.yaml]
tasks:
  - name: weights
    kind: spectral
  - name: extract
    dataset: {path: orders.jsonl, limit: 6}
    prompt: "Order: {{ text }}\\nJSON:"
    target: "{{ target }}"
    decoding: {max_tokens: 48, temperature: 0, stop: ["\\n"]}
    metrics: [json_fields]
"""
GATE = """
gate: release
rules:
  - {id: whole, estimate: weights/integrity.nonfinite, require: at_most, value: 0}
  - {id: fields, estimate: extract/json_fields.f1, require: at_least, value: 0.999}
waivers:
  - {rule: fields, owner: mara, reason: "six samples prove nothing", expires: 2999-12-31}
"""
FILES = ("scorecard.json", "verdict.json", "suite.json", "samples.jsonl", "weights.jsonl")
MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json")


@pytest.fixture(autouse=True)
def no_variables_of_the_machine(monkeypatch):
    for name in [name for name in os.environ if name.startswith("EVALKIT_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def made(tmp_path_factory, root):
    """A run that passed with a waiver, its checkpoint, and two people's keys; both have signed."""
    folder = tmp_path_factory.mktemp("signing")
    shown = root / "suites" / "quickstart"
    shutil.copytree(shown / "models" / "candidate", folder / "model")
    shutil.copy(shown / "data" / "orders.jsonl", folder)
    (folder / "suite.yaml").write_text(SUITE)
    (folder / "gate.yaml").write_text(GATE)
    ran = evalkit("run", "suite.yaml", "--backend", "transformers", "--quiet", cwd=folder)
    assert ran.code == 0, ran.out + ran.err
    (run,) = (folder / "reports").glob("orders-*")
    run.rename(folder / "reports" / "run")
    for name in ("mara", "bo", "eve"):
        assert command("keygen", f"{name}.pem", cwd=folder)[0] == 0
    for name in ("mara", "bo"):
        arguments = ("reports/run", "--key", f"{name}.pem", "--approver", name)
        code, _, told = command("sign", *arguments, cwd=folder)
        assert code == 0, told
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """A copy of it, for this test alone."""
    return shutil.copytree(made, tmp_path / "here")


def keys(*names):
    return [part for name in names for part in ("--key", f"{name}.pem.pub")]


def verify(folder, *arguments, signers=("mara",)):
    code, out, err = command("verify", "reports/run", *arguments, *keys(*signers), cwd=folder)
    return SimpleNamespace(code=code, out=out, err=err)


def sign(folder, *arguments, run="run"):
    return command("sign", f"reports/{run}", *arguments, cwd=folder)


def flip(file, at=0.5, bit=1):
    content = bytearray(file.read_bytes())
    content[int(at * len(content))] ^= bit
    file.write_bytes(content)


def rewrite(folder, card=None, candidate=None, decided=None):
    """Change a run by hand, so that scorecard and verdict fit one another all the same."""
    from evalkit.store.runs import RunFolder, read_scorecard, read_verdict, write_verdict

    run = folder / "reports" / "run"
    held, verdict = read_scorecard(run), read_verdict(run)
    if candidate:
        changed = held.provenance.models["candidate"].model_copy(update=candidate)
        models = {**held.provenance.models, "candidate": changed}
        provenance = held.provenance.model_copy(update={"models": models})
        held = held.model_copy(update={"provenance": provenance})
    held = held.model_copy(update=card or {}).sealed()
    RunFolder.write_scorecard(SimpleNamespace(path=run), held)
    write_verdict(run, verdict.model_copy(update={"scorecard": held.digest, **(decided or {})}))


def sign_by_hand(folder):
    """Sign as Mara, whatever 'evalkit sign' would say."""
    run = folder / "reports" / "run"
    key = read_private_key((folder / "mara.pem").read_bytes())
    now = datetime.now(UTC)
    payload = sign_off(
        read_state(run), approver="mara", note="", key=key.public.id, signed=now, evalkit="0"
    )
    held = Envelope(payload, PAYLOAD_TYPE, ())
    made = replace(held, signatures=(Signature(key.public.id, key.sign(held.signed_bytes)),))
    write_attestation(run, key.public.id, written_envelope(made))


def test_a_signed_run_and_its_model_are_verified(made):
    done = evalkit(
        "verify",
        "reports/run",
        "--model",
        "model",
        *keys("mara", "bo"),
        "--threshold",
        "2",
        cwd=made,
    )
    assert done.code == 0, done.out + done.err
    assert "VERIFIED: reports/run" in done.out
    assert "signed by mara (key " in done.out and "signed by bo (key " in done.out
    assert "5 files of the run and 6 of the model are as signed" in done.out


def test_signing_says_what_is_signed_and_which_waivers_it_accepts(folder):
    code, out, _ = sign(folder, "--key", "mara.pem", "--approver", "Mara Lind", "--note", "rc 1")
    assert code == 0
    assert "signed by Mara Lind (key " in out and "1 waived" in out
    assert "waived: fields on extract/json_fields.f1: mara, until 2999-12-31: six samples" in out
    assert "5 files of the run, 6 of the candidate" in out
    assert "rc 1" in verify(folder, "--no-model").out


@pytest.mark.parametrize("name", FILES)
def test_a_byte_of_the_run_that_changed_is_found(folder, name):
    flip(folder / "reports" / "run" / name)
    done = verify(folder, "--model", "model")
    assert done.code == 1 and "NOT VERIFIED" in done.out
    assert f"- {name} was changed after it was signed" in done.out


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_run_that_is_gone_is_named(folder, name):
    (folder / "reports" / "run" / name).unlink()
    done = verify(folder, "--no-model")
    assert done.code == 1 and f"- {name} is missing" in done.out


@pytest.mark.parametrize("name", MODEL_FILES)
def test_a_byte_of_the_model_that_changed_is_found(folder, name):
    flip(folder / "model" / name)
    done = verify(folder, "--model", "model")
    assert done.code == 1
    assert f"- the model's file {name} was changed after it was signed" in done.out


def test_weights_that_are_gone_or_new_are_named_together(folder):
    (folder / "model" / "model.safetensors").unlink()
    (folder / "model" / "modeling_new.py").write_text("")
    done = verify(folder, "--model", "model")
    assert done.code == 1
    assert "the model's file model.safetensors is missing" in done.out
    assert "holds no weights" in done.out


def test_another_checkpoint_is_not_the_signed_one(folder, root):
    other = root / "suites" / "quickstart" / "models" / "baseline"
    done = verify(folder, "--model", str(other))
    assert done.code == 1 and "model.safetensors was changed" in done.out


@pytest.mark.parametrize(
    "added", ["additional_chat_templates/default.jinja", "custom_generate/generate.py"]
)
def test_what_an_engine_would_read_from_a_folder_inside_is_named(folder, added):
    (folder / "model" / added).parent.mkdir()
    (folder / "model" / added).write_text("")
    done = verify(folder, "--model", "model")
    assert done.code == 1
    assert f"- the model's file {added} was added after the model was signed" in done.out


def test_weights_that_an_index_names_elsewhere_are_not_believed(folder):
    (folder / "model" / "elsewhere").mkdir()
    weights = "elsewhere/model.safetensors"
    shutil.copy(folder / "model" / "model.safetensors", folder / "model" / weights)
    index = {"weight_map": {"w": weights}}
    (folder / "model" / "model.safetensors.index.json").write_text(json.dumps(index))
    done = verify(folder, "--model", "model")
    assert done.code == 1 and f"names weights outside the folder ('{weights}')" in done.out


def test_weights_beside_recorded_answers_are_not_believed(folder):
    """A run of recorded answers saw no weights: none may pass for what was signed of it."""
    recorded = folder / "recorded"
    recorded.mkdir()
    (recorded / "extract.jsonl").write_text('{"id": 1, "text": "x"}\n')
    sha256 = hashlib.sha256((recorded / "extract.jsonl").read_bytes()).hexdigest()
    files = {"extract.jsonl": sha256}
    rewrite(folder, candidate={"files": files, "engine": {"backend": "replay"}})
    sign_by_hand(folder)
    done = verify(folder, "--model", "recorded")
    assert done.code == 0, done.out
    shutil.copy(folder / "model" / "model.safetensors", recorded)
    done = verify(folder, "--model", "recorded")
    assert done.code == 1 and "saw no weights" in done.out and "model.safetensors" in done.out


def test_a_byte_of_the_attestation_that_changed_is_found(folder):
    for file in (folder / "reports" / "run" / "attestations").iterdir():
        flip(file)
    done = verify(folder, "--no-model", signers=("mara", "bo"))
    assert done.code == 1
    assert done.out.count("the signature is wrong") == 2, "both are named"
    assert "0 of 1 required approvals" in done.out


def test_nobody_has_signed(folder):
    shutil.rmtree(folder / "reports" / "run" / "attestations")
    done = verify(folder, "--no-model")
    assert done.code == 1 and "- nobody has signed this run" in done.out


def test_nobody_who_is_trusted_has_signed(folder):
    done = verify(folder, "--no-model", signers=("eve",))
    assert done.code == 1 and done.out.count("signed by no trusted key") == 2


def test_one_approval_is_not_two(folder):
    done = verify(folder, "--no-model", "--threshold", "2", signers=("mara", "eve"))
    assert done.code == 1 and "- 1 of 2 required approvals: mara (key " in done.out


def test_a_key_under_two_names_is_one_key(folder):
    shutil.copy(folder / "mara.pem.pub", folder / "same.pem.pub")
    done = verify(folder, "--no-model", "--threshold", "2", signers=("mara", "same"))
    assert done.code == 2, "two can never be reached"
    assert (
        "cannot be reached with 1 different key: mara.pem.pub, same.pem.pub are one key" in done.err
    )
    done = verify(folder, "--no-model", signers=("mara", "same"))
    assert done.code == 0 and "are one key, which counts once" in done.out


def test_decided_again_is_to_be_signed_again(folder):
    """'gate --write' replaces the verdict that was signed."""
    text = GATE.replace("0.999", "0.998")
    (folder / "gate.yaml").write_text(text)
    assert command("gate", "reports/run", "gate.yaml", "--write", cwd=folder)[0] == 0
    done = verify(folder, "--no-model")
    assert done.code == 1 and "- verdict.json was changed after it was signed" in done.out
    assert sign(folder, "--key", "mara.pem", "--approver", "mara")[0] == 0
    done = verify(folder, "--no-model", signers=("mara", "bo"))
    assert done.code == 0
    assert "note: does not count: verdict.json was changed after it was signed" in done.out


def at(monkeypatch, moment):
    monkeypatch.setattr(attested, "utc_clock", lambda: moment)


def test_an_approval_ages(folder, monkeypatch):
    now = datetime.now(UTC)
    at(monkeypatch, now + timedelta(days=29))
    assert verify(folder, "--no-model", "--max-age", "30d").code == 0
    at(monkeypatch, now + timedelta(days=31))
    done = verify(folder, "--no-model", "--max-age", "30d")
    assert done.code == 1 and "longer ago than --max-age allows" in done.out
    assert verify(folder, "--no-model").code == 0, "for ever, unless it is said how long"
    at(monkeypatch, now - timedelta(days=1))
    done = verify(folder, "--no-model")
    assert done.code == 1 and "still to come by this clock" in done.out


def test_a_waiver_that_has_expired_since_is_named(folder, monkeypatch):
    at(monkeypatch, datetime(3000, 1, 1, tzinfo=UTC))
    done = verify(folder, "--no-model")
    assert done.code == 1
    assert (
        "the waiver of rule fields on extract/json_fields.f1 (mara) expired on 2999-12-31"
        in done.out
    )
    code, _, err = sign(folder, "--key", "mara.pem", "--approver", "mara")
    assert code == 2 and "expired on 2999-12-31" in err


def test_what_was_checked_is_written_as_json(folder):
    flip(folder / "model" / "config.json")
    done = verify(folder, "--model", "model", "--json", "o.json", signers=("mara", "bo"))
    told = json.loads((folder / "o.json").read_text())
    assert done.code == 1 and told["verified"] is False and told["model_compared"] is True
    assert {o["kind"] for o in told["objections"]} == {"model_changed", "threshold"}
    assert sorted(told["model"]) == sorted(p.name for p in (folder / "model").iterdir())
    assert verify(folder, "--no-model", "--json", "o.json").code == 0
    told = json.loads((folder / "o.json").read_text())
    assert told["verified"] is True and told["model"] is None and told["objections"] == []
    (approval,) = told["approvals"]
    assert approval["approver"] == "mara" and approval["key"] in told["keys"]


def test_that_weights_were_not_compared_is_said(folder):
    done = verify(folder, "--no-model")
    assert done.code == 0 and "the weights were not compared (--no-model)" in done.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--key", "mara.pem.pub"), "--no-model"),
        (("--model", "model", "--no-model", "--key", "mara.pem.pub"), "--no-model"),
        (("--no-model",), "name at least one public key"),
        (("--no-model", "--key", "mara.pem"), "nobody but its owner should hold"),
        (("--no-model", "--key", "gate.yaml"), "no public key in PEM"),
        (("--no-model", "--key", "mara.pem.pub", "--threshold", "0"), "0 is not in the range"),
        (("--no-model", "--key", "mara.pem.pub", "--max-age", "soon"), "write 30d, 12h or 90m"),
        (("--no-model", "--key", "mara.pem.pub", "--max-age", "0d"), "write 30d, 12h or 90m"),
        (("--no-model", "--key", "mara.pem.pub", "--adapter", "model"), "--adapter is put on"),
        (("--no-model", "--sigstore-identity", "mara@example.org"), "belong together"),
        (("--no-model", "--key", "mara.pem.pub", "--sigstore-issuer", "x"), "belong together"),
    ],
)
def test_a_question_that_makes_no_sense_is_a_wrong_command(made, arguments, told, capsys):
    code, _, err = command("verify", "reports/run", *arguments, cwd=made)
    assert code == 2 and told in " ".join((err + capsys.readouterr().err).split())


def test_a_folder_that_is_no_run_is_a_wrong_command(made):
    for name in ("model", "nowhere"):
        code, _, err = command("verify", name, "--no-model", *keys("mara"), cwd=made)
        assert code == 2 and name in err


def test_a_run_is_verified_by_its_alias(folder):
    assert command("promote", "run", "--as", "production", cwd=folder)[0] == 0
    code, out, _ = command("verify", "production", "--no-model", *keys("mara"), cwd=folder)
    assert code == 0 and "VERIFIED" in out


def test_a_name_that_is_a_folder_and_an_alias_is_not_guessed(folder):
    """The folder here may be somebody else's run; the alias is the one that was promoted."""
    assert command("promote", "run", "--as", "production", cwd=folder)[0] == 0
    shutil.copytree(folder / "reports" / "run", folder / "production")
    arguments = ("--no-model", *keys("mara"))
    code, out, err = command("verify", "production", *arguments, cwd=folder)
    assert (code, out) == (2, "") and "may be several things" in err
    for name in ("./production", "alias:production"):
        assert command("verify", name, *arguments, cwd=folder)[0] == 0


def test_a_run_that_was_damaged_is_verified_where_it_lies_although_it_has_no_scorecard(folder):
    (folder / "reports" / "run" / "scorecard.json").unlink()
    done = verify(folder, "--no-model")
    assert done.code == 1 and "NOT VERIFIED: reports/run" in done.out


def test_whose_word_an_imported_runs_files_are_is_said(folder):
    assert "the run measured" not in verify(folder, "--no-model").out
    engine = {"backend": "lm-eval", "files": "as the user said when it was \x1b[31mimported"}
    rewrite(folder, candidate={"engine": engine})
    sign_by_hand(folder)
    done = verify(folder, "--model", "model")
    assert done.code == 0, done.out
    told = (
        "which files of the candidate the run measured is known only as the user said when it was"
    )
    assert f"note: {told} \\x1b[31mimported: the harness does not tell what it read" in done.out


def test_what_cannot_be_read_is_no_answer(folder):
    """With 1 it would read as a model that somebody has changed."""
    (folder / "reports" / "run" / "attestations" / "folder.dsse.json").mkdir()
    done = verify(folder, "--no-model")
    assert done.code == 3 and "folder.dsse.json cannot be read" in done.err


# What is not signed.


def test_a_run_that_did_not_pass_is_not_signed_and_waivers_are_the_way(folder):
    (folder / "gate.yaml").write_text(GATE.partition("waivers")[0])
    assert command("gate", "reports/run", "gate.yaml", "--write", cwd=folder)[0] in (1, 4)
    before = sorted((folder / "reports" / "run" / "attestations").iterdir())
    code, _, err = sign(folder, "--key", "eve.pem", "--approver", "eve")
    assert code == 2 and "not pass" in err and "takes a waiver, with owner and date" in err
    assert sorted((folder / "reports" / "run" / "attestations").iterdir()) == before
    done = verify(folder, "--no-model")
    assert done.code == 1 and "not pass" in done.out


def first(outcomes, **changes):
    return (outcomes[0].model_copy(update=changes), *outcomes[1:])


def waiver_of(rule, outcomes):
    fields = next(each for each in outcomes if each.waiver)
    other = fields.waiver.model_copy(update={"rule": rule})
    changed = fields.model_copy(update={"waiver": other})
    return tuple(changed if each is fields else each for each in outcomes)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda v: {"outcomes": ()}, "it has no outcomes"),
        (lambda v: {"exit_code": 1}, "its exit code is 1"),
        (
            lambda v: {"outcomes": first(v.outcomes, status="fail", p_adjusted=None)},
            "whole on weights/integrity.nonfinite did not",
        ),
        (
            lambda v: {"outcomes": first(v.outcomes, gate="another")},
            "it has outcomes of gates that it does not name (another)",
        ),
        (
            lambda v: {"outcomes": waiver_of("whole", v.outcomes)},
            "fields on extract/json_fields.f1 did not",
        ),
    ],
)
def test_a_verdict_that_was_written_by_hand_is_neither_signed_nor_believed(folder, change, told):
    rewrite(folder, decided=change(read_verdict(folder / "reports" / "run")))
    neither_signed_nor_verified(folder, f"the verdict says pass, but {told}")


def test_an_incomplete_run_is_neither_signed_nor_believed(folder):
    tasks = read_scorecard(folder / "reports" / "run").tasks
    cut = tuple(each.model_copy(update={"complete": False}) for each in tasks)
    rewrite(folder, card={"tasks": cut})
    names = ", ".join(dict.fromkeys(each.task for each in tasks))
    neither_signed_nor_verified(folder, f"pass, but the run is incomplete ({names})")


def neither_signed_nor_verified(folder, told):
    code, _, err = sign(folder, "--key", "mara.pem", "--approver", "mara")
    assert code == 2 and told in err and "changed by hand" in err
    sign_by_hand(folder)
    done = verify(folder, "--no-model")
    assert done.code == 1 and "signed by mara" in done.out and f"{told}: it was" in done.out


@pytest.mark.parametrize("name", ["suite.json", "samples.jsonl", "weights.jsonl"])
def test_an_altered_run_is_not_signed(folder, name):
    file = folder / "reports" / "run" / name
    file.write_bytes(file.read_bytes().replace(b"extract", b"axtract"))
    if name == "weights.jsonl":
        flip(file, bit=2)
    code, _, err = sign(folder, "--key", "mara.pem", "--approver", "mara")
    assert code == 2 and name in err and "changed" in err


def test_an_unfinished_run_is_not_signed(folder):
    (folder / "reports" / "run" / "scorecard.json").unlink()
    code, _, err = sign(folder, "--key", "mara.pem", "--approver", "mara")
    assert code == 2 and "not finished" in err


def test_a_run_without_a_verdict_is_not_signed(folder):
    (folder / "reports" / "run" / "verdict.json").unlink()
    code, _, err = sign(folder, "--key", "mara.pem", "--approver", "mara")
    assert code == 2 and "no gate has decided" in err


def test_a_model_behind_a_server_is_not_signed(folder):
    """Nothing ties the run to any weights: as a run on somebody's URL leaves it."""
    from evalkit.store.runs import RunFolder, read_scorecard, write_verdict
    from evalkit.store.runs import read_verdict as verdict_of

    run = folder / "reports" / "run"
    card, decided = read_scorecard(run), verdict_of(run)
    bare = card.provenance.models["candidate"].model_copy(update={"files": {}, "pinned": False})
    seen = card.provenance.model_copy(update={"models": {"candidate": bare}})
    card = card.model_copy(update={"provenance": seen}).sealed()
    write_verdict(run, decided.model_copy(update={"scorecard": card.digest}))
    writer = SimpleNamespace(path=run)
    RunFolder.write_scorecard(writer, card)
    code, _, err = sign(folder, "--key", "mara.pem", "--approver", "mara")
    assert code == 2 and "did not see the candidate's files" in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "--approver"),
        (("--approver", " ", "--key", "mara.pem"), "name somebody"),
        (("--approver", "a\nb", "--key", "mara.pem"), "name somebody"),
        (("--approver", "mara"), "no key to sign with"),
        (("--approver", "mara", "--key", "mara.pem.pub"), "signing needs the private one"),
        (("--approver", "mara", "--key", "gate.yaml"), "no private key in PKCS#8 PEM"),
        (("--approver", "mara", "--key", "nowhere.pem"), "does not exist"),
        (("--approver", "mara", "--key", "mara.pem", "--sigstore"), "leave out --key"),
    ],
)
def test_what_cannot_be_signed_with_says_what_to_do(made, arguments, told, capsys):
    code, _, err = sign(made, *arguments)
    assert code == 2 and told in err + capsys.readouterr().err


def test_without_sigstore_or_its_network_nothing_is_signed(folder, monkeypatch):
    for name in ("HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    before = sorted((folder / "reports" / "run" / "attestations").iterdir())
    code, _, err = sign(folder, "--sigstore", "--approver", "mara")
    assert code == 3 and "igstore" in err
    assert sorted((folder / "reports" / "run" / "attestations").iterdir()) == before


def test_a_bundle_of_an_identity_that_nobody_named_is_noted(folder):
    (folder / "reports" / "run" / "attestations" / "x.sigstore.json").write_text("{}")
    done = verify(folder, "--no-model")
    assert done.code == 0
    assert "note: does not count: a Sigstore bundle, and no identity is trusted" in done.out


# Keys.


def test_a_key_in_the_environment_signs_in_ci(folder):
    """As PEM, and encrypted."""
    secret = {"EVALKIT_SIGN_PASSPHRASE": "open sesame"}
    made = evalkit("keygen", "ci.pem", cwd=folder, **secret)
    assert made.code == 0 and "(encrypted)" in made.out
    pem = (folder / "ci.pem").read_text()
    arguments = ("sign", "reports/run", "--approver", "ci")
    done = evalkit(*arguments, cwd=folder, EVALKIT_SIGN_KEY=pem)
    assert done.code == 2 and "EVALKIT_SIGN_PASSPHRASE" in done.err
    done = evalkit(*arguments, cwd=folder, EVALKIT_SIGN_KEY=pem, **secret)
    assert done.code == 0, done.err
    assert not any(line in done.out + done.err for line in pem.splitlines())


def test_trusted_keys_and_the_model_may_come_from_the_environment(folder, monkeypatch):
    monkeypatch.setenv("EVALKIT_TRUSTED_KEY", os.pathsep.join(["mara.pem.pub", "bo.pem.pub"]))
    monkeypatch.setenv("EVALKIT_APPROVALS", "2")
    monkeypatch.setenv("EVALKIT_CHECKPOINT", "model")
    code, out, err = command("verify", "reports/run", cwd=folder)
    assert code == 0, out + err
    assert "6 of the model are as signed" in out


@pytest.mark.parametrize("form", ["pem", "base64 of it", "without its frame"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("keygen", "KEY"),
        ("keygen", "--public", "KEY"),
        ("sign", "reports/run", "--approver", "mara", "--key", "KEY"),
        ("sign", "KEY", "--approver", "mara"),
        ("verify", "reports/run", "--no-model", "--key", "KEY"),
        ("verify", "KEY", "--no-model", "--key", "mara.pem.pub"),
        ("promote", "run", "--as", "production", "--require-signature", "--key", "KEY"),
        ("EVALKIT_KEY_FILE", "sign", "reports/run", "--approver", "mara"),
        ("EVALKIT_TRUSTED_KEY", "verify", "reports/run", "--no-model"),
        ("EVALKIT_TRUSTED_KEY", "promote", "run", "--as", "production", "--require-signature"),
        ("EVALKIT_PUBLIC", "keygen"),
    ],
)
def test_a_key_that_is_given_where_its_file_is_wanted_is_never_printed(
    made, monkeypatch, capsys, arguments, form
):
    """As who writes --key "$EVALKIT_SIGN_KEY" into a CI job, whose log everybody reads."""
    pem = (made / "mara.pem").read_text()
    body = pem.splitlines()[1]
    key = {
        "pem": pem,
        "base64 of it": b64encode(pem.encode()).decode(),
        "without its frame": body,
    }[form]
    if arguments[0].startswith("EVALKIT_"):
        monkeypatch.setenv(arguments[0], key)
        arguments = arguments[1:]
    code, out, err = command(*(key if each == "KEY" else each for each in arguments), cwd=made)
    shown = out + err + "".join(capsys.readouterr())
    assert code == 2 and "this is a key, not a file's name" in " ".join(shown.split())
    for secret in (key, body, body[16:], b64encode(pem.encode()).decode()[:24]):
        assert secret not in "".join(shown.split())


@pytest.mark.parametrize("passphrase", ["x" * 1024, b"\xff".decode("utf-8", "surrogateescape")])
def test_a_passphrase_that_cannot_be_one_makes_no_key(folder, monkeypatch, passphrase):
    monkeypatch.setenv("EVALKIT_SIGN_PASSPHRASE", passphrase)
    code, out, err = command("keygen", "new.pem", cwd=folder)
    assert code == 2 and "EVALKIT_SIGN_PASSPHRASE" in err and passphrase not in out + err
    assert not (folder / "new.pem").exists() and not (folder / "new.pem.pub").exists()


VARIABLES = ("EVALKIT_APPROVALS", "EVALKIT_MAX_AGE", "EVALKIT_TRUSTED_KEY", "EVALKIT_CHECKPOINT")


@pytest.mark.parametrize("empty", ["", " "])
@pytest.mark.parametrize(
    ("name", "which"),
    [
        *((name, which) for name in VARIABLES for which in ("verify", "promote")),
        ("EVALKIT_REQUIRE_SIGNATURE", "promote"),
    ],
)
def test_a_variable_that_is_set_but_empty_demands_not_less(
    folder, monkeypatch, capsys, name, which, empty
):
    """As a CI job sets it whose setting nobody has filled in."""
    monkeypatch.setenv(name, empty)
    run = ("verify", "reports/run") if which == "verify" else ("promote", "run", "--as", "x")
    weights = ("--no-model",) if which == "verify" else ()
    required = ("--require-signature",) if which == "promote" else ()
    if name == "EVALKIT_REQUIRE_SIGNATURE":
        required = ()
    signers = () if name == "EVALKIT_TRUSTED_KEY" or not (weights or required) else keys("mara")
    code, out, err = command(*run, *weights, *required, *signers, cwd=folder)
    shown = err + capsys.readouterr().err
    assert (code, out) == (2, "") and f"{name} is set but empty" in shown
    assert history(folder) == []


def test_what_the_command_line_says_goes_before_an_empty_variable(folder, monkeypatch):
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
    given = ("--threshold", "1", "--max-age", "1d", "--model", "model")
    assert verify(folder, *given).code == 0


def test_a_new_key_replaces_none_and_is_its_owners_alone(folder):
    before = (folder / "mara.pem").read_bytes()
    code, _, err = command("keygen", "mara.pem", cwd=folder)
    assert code == 2 and "never replaced" in err
    assert (folder / "mara.pem").read_bytes() == before
    assert (folder / "mara.pem").stat().st_mode & 0o777 == 0o600
    code, out, _ = command("keygen", "--public", "mara.pem", cwd=folder)
    assert code == 0 and out == (folder / "mara.pem.pub").read_text()
    assert command("keygen", cwd=folder)[0] == 2


def test_a_key_that_others_may_read_is_warned_of(folder):
    (folder / "mara.pem").chmod(0o644)
    code, _, err = sign(folder, "--key", "mara.pem", "--approver", "mara")
    assert code == 0 and "warning: mara.pem may be read by others" in err


# Promotion.


def promote(folder, *arguments):
    return command("promote", "run", "--as", "production", *arguments, cwd=folder)


def history(folder):
    file = folder / "reports" / "aliases.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_a_promotion_records_who_had_signed(folder):
    both = (*keys("mara", "bo"), "--threshold", "2", "--model", "model")
    code, out, _ = promote(folder, "--require-signature", *both)
    assert code == 0 and "signed by mara" in out and "not compared" not in out
    (line,) = history(folder)
    assert sorted(each["approver"] for each in line["signed_by"]) == ["bo", "mara"]
    assert all(len(each["key"]) == 64 for each in line["signed_by"])
    shown = command("promote", "--list", cwd=folder)[1]
    assert "signed by mara and bo" in shown or "signed by bo and mara" in shown


def test_without_a_signature_nothing_is_promoted_that_must_have_one(folder):
    code, _, err = promote(folder, "--require-signature", *keys("eve"))
    assert code == 1 and "not promoted" in err and "signed by no trusted key" in err
    assert history(folder) == []


def test_what_did_not_pass_is_not_promoted_and_anyway_is_no_advice(folder):
    (folder / "gate.yaml").write_text(GATE.partition("waivers")[0])
    assert command("gate", "reports/run", "gate.yaml", "--write", cwd=folder)[0] in (1, 4)
    code, _, err = promote(folder, "--require-signature", *keys("mara"))
    assert code == 2 and "did not pass" in err and "--anyway" not in err
    assert history(folder) == []


def test_with_other_weights_nothing_is_promoted(folder):
    flip(folder / "model" / "model.safetensors")
    required = ("--require-signature", *keys("mara"))
    code, _, err = promote(folder, *required, "--model", "model")
    assert code == 1 and "model.safetensors was changed" in err and history(folder) == []
    code, out, _ = promote(folder, *required)
    assert code == 0 and "the weights were not compared: --model DIR does" in out


def test_a_run_that_changes_while_it_is_checked_is_not_promoted(folder, monkeypatch):
    """Between the reading of what is promoted and that of what is signed somebody writes another, which is signed."""
    real = attested.check

    def changed_before(*arguments, **more):
        rewrite(folder, card={"baseline_run": "f" * 64})
        sign_by_hand(folder)
        return real(*arguments, **more)

    monkeypatch.setattr(attested, "check", changed_before)
    code, _, err = promote(folder, "--require-signature", *keys("mara"))
    assert code == 2 and "changed while it was checked" in err
    assert history(folder) == []
    monkeypatch.undo()
    assert promote(folder, "--require-signature", *keys("mara"))[0] == 0, "what it is now is signed"


def test_a_signature_may_be_required_of_every_promotion_by_the_environment(folder, monkeypatch):
    monkeypatch.setenv("EVALKIT_REQUIRE_SIGNATURE", "1")
    code, _, err = promote(folder)
    assert code == 2 and "name at least one public key" in err
    monkeypatch.setenv("EVALKIT_TRUSTED_KEY", "eve.pem.pub")
    assert promote(folder)[0] == 1 and history(folder) == []
    monkeypatch.setenv("EVALKIT_TRUSTED_KEY", "mara.pem.pub")
    assert promote(folder)[0] == 0 and len(history(folder)) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--require-signature", "--anyway", "--key", "mara.pem.pub"), "never does"),
        (("--require-signature",), "name at least one public key"),
        (("--key", "mara.pem.pub"), "--key has no effect without --require-signature"),
        (("--threshold", "2"), "--threshold has no effect without --require-signature"),
        (("--model", "model"), "--model has no effect without --require-signature"),
    ],
)
def test_a_promotion_that_contradicts_itself_is_refused(folder, arguments, told, capsys):
    code, _, err = promote(folder, *arguments)
    assert code == 2 and told in err + capsys.readouterr().err
    assert history(folder) == []


def test_a_promotion_without_signatures_is_as_before(folder):
    assert promote(folder)[0] == 0
    (line,) = history(folder)
    assert line["signed_by"] == []


# Lost or stale.


def test_a_run_that_is_begun_anew_keeps_no_approval_of_the_old_one(folder):
    from evalkit.store.runs import RunFolder

    with RunFolder.create(folder / "reports", "run", command=()):
        pass
    assert not (folder / "reports" / "run" / "attestations").exists()


def test_hostile_names_move_no_cursor(folder):
    place = folder / "reports" / "run" / "attestations"
    (place / "\x1b[31mred.dsse.json").write_text("{}")
    (place / "\u202eother.txt").write_text("")
    done = verify(folder, "--no-model", "--json", "o.json")
    assert done.code == 1
    assert "\x1b" not in done.out and "\u202e" not in done.out
    assert "\\x1b[31mred.dsse.json" in done.out and "\\u202eother.txt: no attestation" in done.out


def test_the_commands_are_in_the_help():
    assert {"sign", "verify", "keygen"} <= set(COMMANDS)


def test_what_the_page_shows_another_library_to_do_works(folder, root, monkeypatch):
    """gates/SIGN_OFF.md: an attestation is verified by securesystemslib alone."""
    from securesystemslib.exceptions import VerificationError

    (code,) = re.findall(
        r"```python\n(.*?)```", (root / "gates" / "SIGN_OFF.md").read_text(), re.DOTALL
    )
    assert verify(folder, "--no-model", "--json", "o.json").code == 0
    (key,) = json.loads((folder / "o.json").read_text())["keys"]
    attestation = folder / "reports" / "run" / "attestations" / f"{key}.dsse.json"
    monkeypatch.chdir(folder)
    names = {"attestation": attestation}
    exec(code, names)
    subjects = {each["name"] for each in names["statement"]["subject"]}
    assert {*FILES, *(f"model/{name}" for name in MODEL_FILES)} <= subjects
    shutil.copy("eve.pem.pub", "mara.pem.pub")
    with pytest.raises(VerificationError):
        exec(code, {"attestation": attestation})
