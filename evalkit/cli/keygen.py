"""``evalkit keygen``: make a key to sign with."""

from __future__ import annotations

from pathlib import Path

import click

from evalkit.cli.options import KEY_FILE, KeyCommand, KeyFile, option


@click.command("keygen", cls=KeyCommand)
@click.argument("file", type=KeyFile(path_type=Path, dir_okay=False), required=False)
@option(
    "--public",
    type=KEY_FILE,
    metavar="KEY",
    help="Make none: print the public key of this private one.",
)
def command(file: Path | None, public: Path | None) -> int:
    """Make an Ed25519 key: the private one in FILE, for its owner alone, the public one in FILE.pub.

    \b
    evalkit keygen ~/.config/evalkit/mara.pem
    EVALKIT_SIGN_PASSPHRASE=… evalkit keygen mara.pem        encrypted
    evalkit keygen --public mara.pem > mara.pem.pub          its public key again

    Nothing is ever replaced. Give FILE.pub to those who verify, in your repository for instance; FILE to nobody. In CI
    put what FILE holds into the secret variable EVALKIT_SIGN_KEY.
    """
    from evalkit.loaders.keys import PASSPHRASE, PUBLIC, signing_key, write_new_key

    if (file is None) == (public is None):
        raise click.UsageError("name the new key's file: evalkit keygen FILE")
    if public is not None:
        held, _ = signing_key(public)
        click.echo(held.public.pem().decode("ascii"), nl=False)
        return 0
    assert file is not None
    key, encrypted = write_new_key(file)
    how = "encrypted" if encrypted else f"not encrypted: set {PASSPHRASE} to have it so"
    click.echo(f"private key: {file} ({how})")
    click.echo(f"public key:  {file}{PUBLIC}")
    click.echo(f"key id:      {key.public.id}")
    return 0
