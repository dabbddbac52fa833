"""``evalkit completion``: the shell completion script."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script for SHELL.

    \b
    bash:  evalkit completion bash > ~/.local/share/bash-completion/completions/evalkit
    zsh:   evalkit completion zsh  > "${fpath[1]}/_evalkit"
    fish:  evalkit completion fish > ~/.config/fish/completions/evalkit.fish
    """
    from evalkit.cli.main import evalkit

    kind = get_completion_class(shell)
    assert kind is not None, "click knows these three shells"
    if (
        shell == "bash"
    ):  # click's own check runs bash only to learn its version; the script itself is text
        kind._check_version = staticmethod(lambda: None)  # type: ignore[attr-defined]
    click.echo(kind(evalkit, {}, "evalkit", "_EVALKIT_COMPLETE").source())
