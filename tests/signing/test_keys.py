"""Keys are Ed25519 in the PEM that other programs write, and no message shows what is secret."""

from __future__ import annotations

import builtins
import shutil
import subprocess
from base64 import b64encode

import pytest
from signed_runs import BO, MARA

from evalkit.errors import RunError, UsageError
from evalkit.loaders.keys import public_keys, signing_key, write_new_key
from evalkit.signing import new_key, read_private_key, read_public_key

# RFC 8032, section 7.1, TEST 1.
SEED = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
PUBLIC = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
SIGNED_EMPTY = (
    "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe246551"
    "41438e7a100b"
)


@pytest.fixture(autouse=True)
def no_keys_of_the_machine(monkeypatch):
    for name in ("EVALKIT_SIGN_KEY", "EVALKIT_SIGN_PASSPHRASE"):
        monkeypatch.delenv(name, raising=False)


def test_the_published_key_gives_the_published_signature():
    key = new_key(bytes.fromhex(SEED))
    assert key.public.raw.hex() == PUBLIC
    assert key.sign(b"").hex() == SIGNED_EMPTY
    assert key.public.verifies(bytes.fromhex(SIGNED_EMPTY), b"")
    assert not key.public.verifies(bytes.fromhex(SIGNED_EMPTY), b"x")
    assert not key.public.verifies(b"", b"")


def test_a_keys_id_is_the_one_that_securesystemslib_gives_it():
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from securesystemslib.signer import SSlibKey

    for key in (MARA, BO):
        theirs = SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(key.public.raw))
        assert key.public.id == theirs.keyid


def test_pem_is_read_back_encrypted_or_not():
    assert read_private_key(MARA.pem()) == MARA
    assert read_private_key(MARA.pem("né"), "né") == MARA
    assert read_private_key(MARA.pem(), "not needed") == MARA
    assert read_public_key(MARA.public.pem()) == MARA.public
    assert b"ENCRYPTED" in MARA.pem("x") and b"ENCRYPTED" not in MARA.pem()


def test_keys_of_openssl_are_read(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("the program openssl is absent")
    file = tmp_path / "key.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", file], check=True)
    public = subprocess.run(
        ["openssl", "pkey", "-in", file, "-pubout"], check=True, capture_output=True
    ).stdout
    assert read_private_key(file.read_bytes()).public == read_public_key(public)


def rsa_pem(private):
    from cryptography.hazmat.primitives import serialization as ser
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 2048)
    if private:
        return key.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.PKCS8, ser.NoEncryption())
    return key.public_key().public_bytes(ser.Encoding.PEM, ser.PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    ("pem", "passphrase", "told"),
    [
        (MARA.pem("secret"), "", "EVALKIT_SIGN_PASSPHRASE"),
        (MARA.pem("secret"), "guess", "passphrase is wrong"),
        (MARA.public.pem(), "", "signing needs the private one"),
        (MARA.pem() + BO.pem(), "", "several keys in one file"),
        (b"hello", "", "no private key in PKCS#8 PEM"),
        (b"", "", "no private key in PKCS#8 PEM"),
        (rsa_pem(private=True), "", "not Ed25519"),
    ],
)
def test_what_cannot_sign_says_why_and_shows_no_key(pem, passphrase, told):
    with pytest.raises(ValueError) as raised:
        read_private_key(pem, passphrase)
    message = str(raised.value)
    assert told in message
    assert not any(line in message for line in pem.decode().splitlines() if len(line) > 8)
    assert "guess" not in message


@pytest.mark.parametrize(
    ("pem", "told"),
    [
        (MARA.pem(), "nobody but its owner should hold"),
        (MARA.public.pem() + BO.public.pem(), "several keys in one file"),
        (b"hello", "no public key in PEM"),
        (rsa_pem(private=False), "not Ed25519"),
    ],
)
def test_what_cannot_verify_says_why(pem, told):
    with pytest.raises(ValueError, match=told):
        read_public_key(pem)


def test_nothing_that_is_printed_of_a_key_holds_its_secret():
    assert MARA.seed.hex() not in repr(MARA) and str(MARA.seed) not in repr(MARA)


def test_a_new_key_is_its_owners_alone_and_replaces_nothing(tmp_path):
    file = tmp_path / "mara.pem"
    key, encrypted = write_new_key(file)
    assert not encrypted
    assert file.stat().st_mode & 0o777 == 0o600
    assert signing_key(file) == (key, "")
    assert public_keys([tmp_path / "mara.pem.pub"]) == [(tmp_path / "mara.pem.pub", key.public)]
    before = file.read_bytes()
    with pytest.raises(UsageError, match="never replaced"):
        write_new_key(file)
    file.unlink()
    with pytest.raises(UsageError, match="never replaced"):
        write_new_key(file)
    assert not file.exists()
    assert before != b""


def test_two_new_keys_differ(tmp_path):
    assert write_new_key(tmp_path / "a")[0] != write_new_key(tmp_path / "b")[0]


def test_a_new_key_where_there_is_no_folder_says_so(tmp_path):
    with pytest.raises(RunError, match="cannot be written") as raised:
        write_new_key(tmp_path / "nowhere" / "key")
    assert "make its folder" in raised.value.advice


@pytest.mark.parametrize(
    ("passphrase", "told"),
    [
        ("x" * 1024, "longer than 1,023 bytes"),
        ("é" * 512, "longer than 1,023 bytes"),
        (b"\xff\xfe".decode("utf-8", "surrogateescape"), "is not UTF-8"),  # as os.environ gives it
    ],
)
def test_a_passphrase_that_cannot_be_one_says_so(tmp_path, monkeypatch, passphrase, told):
    (tmp_path / "old.pem").write_bytes(MARA.pem("secret"))
    monkeypatch.setenv("EVALKIT_SIGN_PASSPHRASE", passphrase)
    for act in (write_new_key, signing_key):
        file = tmp_path / ("new.pem" if act is write_new_key else "old.pem")
        with pytest.raises(UsageError, match=f"EVALKIT_SIGN_PASSPHRASE.*{told}") as raised:
            act(file)
        assert passphrase not in str(raised.value)
    assert not (tmp_path / "new.pem").exists()


def test_the_longest_passphrase_serves(tmp_path, monkeypatch):
    monkeypatch.setenv("EVALKIT_SIGN_PASSPHRASE", "x" * 1023)
    key, encrypted = write_new_key(tmp_path / "new.pem")
    assert encrypted and signing_key(tmp_path / "new.pem")[0] == key


def test_a_key_that_others_may_read_is_warned_of(tmp_path):
    file = tmp_path / "key.pem"
    file.write_bytes(MARA.pem())
    file.chmod(0o644)
    assert "may be read by others" in signing_key(file)[1]
    file.chmod(0o600)
    assert signing_key(file)[1] == ""


@pytest.mark.parametrize("passphrase", ["", "open sesame"])
def test_a_key_comes_from_the_environment_as_pem_or_base64_of_it(monkeypatch, passphrase):
    monkeypatch.setenv("EVALKIT_SIGN_PASSPHRASE", passphrase)
    pem = MARA.pem(passphrase)
    for held in (pem.decode(), b64encode(pem).decode(), f"  {b64encode(pem).decode()}\n"):
        monkeypatch.setenv("EVALKIT_SIGN_KEY", held)
        assert signing_key(None) == (MARA, "")


def test_a_named_file_goes_before_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("EVALKIT_SIGN_KEY", BO.pem().decode())
    file = tmp_path / "key.pem"
    file.write_bytes(MARA.pem())
    assert signing_key(file)[0] == MARA


@pytest.mark.parametrize(
    ("held", "told"),
    [
        ("", "no key to sign with"),
        ("?", "neither a PEM nor base64"),
        ("aGVsbG8=", "no private key"),
    ],
)
def test_an_environment_without_a_key_says_what_to_do(monkeypatch, held, told):
    monkeypatch.setenv("EVALKIT_SIGN_KEY", held)
    with pytest.raises(UsageError, match=told):
        signing_key(None)


def test_every_file_that_is_no_public_key_is_named_at_once(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    with pytest.raises(UsageError) as raised:
        public_keys([tmp_path / "a", tmp_path / "b"])
    assert len(raised.value.problems) == 2
    with pytest.raises(RunError, match="cannot be read"):
        public_keys([tmp_path / "c"])


def test_without_the_library_it_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.partition(".")[0] == "cryptography":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    for act in (
        lambda: new_key(b"1" * 32),
        lambda: MARA.sign(b""),
        lambda: MARA.public.verifies(b"", b""),
        lambda: read_private_key(b""),
        lambda: read_public_key(b""),
        MARA.pem,
        MARA.public.pem,
    ):
        with pytest.raises(RunError, match="cryptography") as raised:
            act()
        assert raised.value.advice == "pip install 'evalkit-gates[sign]'"
