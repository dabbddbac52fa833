"""Sigstore bundles count as signatures of keys do; who signed is what the certificate says.

What Sigstore itself verifies is shown on a bundle of its own test suite, which its staging service signed. That service
signs for identities alone, so no test signs.
"""

from __future__ import annotations

import builtins
import json
from pathlib import Path

import pytest
from signed_runs import BO, NOW, sign, statement, write_run

from evalkit.errors import RunError
from evalkit.loaders.keyless import open_bundles, signed_keyless
from evalkit.signing import KEYLESS, Held, Opened, Policy, open_envelope, verified
from evalkit.store.attestations import read_attestations, read_state

# sigstore/sigstore-python (Apache-2.0), test/assets/a.dsse.staging-rekor-v2.txt.sigstore.json.
BUNDLE = Held(
    "slsa.sigstore.json", (Path(__file__).parent / "slsa.staging.sigstore.json").read_bytes()
)
REPOSITORY = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon"
WHO = f"{REPOSITORY}/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main"
ISSUER = "https://token.actions.githubusercontent.com"
MARA = f"mara@example.org, says {ISSUER}"


def staging():
    from sigstore.verify import Verifier

    return Verifier.staging(offline=True)


@pytest.fixture
def library(tmp_path, monkeypatch):
    pytest.importorskip("sigstore", reason="the library sigstore is not installed")
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path))


def test_who_signed_a_bundle_is_what_its_certificate_says(library):
    (opened,) = open_bundles([BUNDLE], ["mara@example.org", WHO], ISSUER, staging)
    assert opened.signers == {f"{WHO}, says {ISSUER}": KEYLESS} and not opened.objections
    assert opened.payload_type == "application/vnd.in-toto+json"
    assert json.loads(opened.payload)["_type"] == "https://in-toto.io/Statement/v1"


@pytest.mark.parametrize(("who", "issuer"), [("mara@example.org", ISSUER), (WHO, "https://other")])
def test_another_identity_or_issuer_is_not_trusted(library, who, issuer):
    (opened,) = open_bundles([BUNDLE], [who], issuer, staging)
    (objection,) = opened.objections
    assert objection.kind == "untrusted" and not opened.signers
    assert "signed by no trusted identity" in objection.message


def test_a_bundle_whose_payload_was_changed_is_not_believed(library):
    held = json.loads(BUNDLE.content)
    held["dsseEnvelope"]["payload"] = "aGVsbG8="
    changed = Held("changed", json.dumps(held).encode())
    (opened,) = open_bundles([changed], [WHO], ISSUER, staging)
    assert not opened.signers and opened.objections[0].kind == "untrusted"


def test_what_is_no_bundle_is_named(library):
    (opened,) = open_bundles([Held("torn", b"{}")], [WHO], ISSUER, staging)
    assert [o.kind for o in opened.objections] == ["malformed"]


def test_a_bundle_over_something_else_is_no_sign_off(library, tmp_path):
    made = write_run(tmp_path)
    opened = open_bundles([BUNDLE], [WHO], ISSUER, staging)
    answer = verified(opened, read_state(made.run), None, Policy(NOW))
    assert {o.kind for o in answer.objections} == {"wrong_statement", "threshold"}


def test_sigstore_takes_our_statement(library, tmp_path):
    """It refuses what is no in-toto statement before it asks anybody for a certificate."""
    from sigstore.dsse import Statement
    from sigstore.errors import Error

    made = write_run(tmp_path)
    held = statement(made.run)
    assert Statement(held)._contents == held
    with pytest.raises(Error):
        Statement(held.replace(b"Statement/v1", b"Statement/v0"))


def vouched(payload):
    """What is left of a bundle that Sigstore has verified."""
    return Opened(
        "mara.sigstore.json", [], {MARA: KEYLESS}, "application/vnd.in-toto+json", payload
    )


def keyless(run):
    held = json.loads(statement(run))
    held["predicate"]["key"] = KEYLESS
    return json.dumps(held).encode()


def test_an_identity_counts_beside_a_key(tmp_path):
    made = write_run(tmp_path)
    sign(made.run, BO)
    keys = [open_envelope(each, [BO.public]) for each in read_attestations(made.run).envelopes]
    opened = [vouched(keyless(made.run)), *keys]
    answer = verified(opened, read_state(made.run), None, Policy(NOW, threshold=2))
    assert answer.holds
    assert {each.key for each in answer.approvals} == {MARA, BO.public.id}
    assert not verified(opened[:1], read_state(made.run), None, Policy(NOW, threshold=2)).holds


def test_the_statement_of_a_key_does_not_count_under_an_identity(tmp_path):
    made = write_run(tmp_path)
    opened = [vouched(statement(made.run))]
    answer = verified(opened, read_state(made.run), None, Policy(NOW))
    assert "key_mismatch" in {o.kind for o in answer.objections}


def test_a_bundle_is_not_opened_where_no_identity_is_trusted():
    (opened,) = open_bundles([BUNDLE], [], "", lambda: pytest.fail("somebody was asked"))
    assert [(o.kind, o.attestation) for o in opened.objections] == [("untrusted", BUNDLE.name)]
    assert "--sigstore-identity" in opened.objections[0].message
    assert open_bundles([], [WHO], ISSUER, lambda: pytest.fail("somebody was asked")) == []


def test_without_the_library_it_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.partition(".")[0] == "sigstore":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    for act in (lambda: signed_keyless(b"{}"), lambda: open_bundles([BUNDLE], [WHO], ISSUER)):
        with pytest.raises(RunError, match="sigstore") as raised:
            act()
        assert raised.value.advice == "pip install 'evalkit-gates[sigstore]'"


def test_where_there_is_no_network_nothing_is_signed_or_believed(library, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    for name in ("GITHUB_ACTIONS", "GITLAB_CI", "CIRCLECI", "BUILDKITE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(RunError, match="root of trust"):
        open_bundles([BUNDLE], [WHO], ISSUER)
    with pytest.raises(RunError, match="Sigstore did not sign"):
        signed_keyless(b"{}")
