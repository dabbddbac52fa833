"""``evalkit``: the command group, loaded command by command so that help is fast."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Mapping
from typing import Any

import click

from evalkit import __version__
from evalkit.cli.running import NothingKept
from evalkit.errors import RunError, UsageError

COMMANDS: Mapping[str, tuple[str, str]] = {
    "init": ("evalkit.cli.init", "Write a suite, a gate and a CI workflow that run as they are."),
    "validate": ("evalkit.cli.validate", "Check suite and gate files; needs no model."),
    "run": ("evalkit.cli.run", "Run a suite, write its scorecard, let the gates decide."),
    "spectral": (
        "evalkit.cli.spectral",
        "Tell what a checkpoint's weights say, without data.",
    ),
    "power": ("evalkit.cli.power", "Tell what each rule can detect, before GPU time is spent."),
    "calibrate": (
        "evalkit.cli.calibrate",
        "Run a model against itself: noise floor, false alarms.",
    ),
    "gate": ("evalkit.cli.gate", "Decide again on a finished run, without a model."),
    "review": (
        "evalkit.cli.review",
        "Let people rate a run's answers, and bring their ratings in.",
    ),
    "judge": ("evalkit.cli.judge", "Tell how far a judge may be believed, by people's labels."),
    "compare": (
        "evalkit.cli.compare",
        "Put two runs side by side, with every sample that flipped.",
    ),
    "report": ("evalkit.cli.report", "Write a run's reports again, or a site over many runs."),
    "sign": (
        "evalkit.cli.sign",
        "Put a name to a run that passed.",
    ),
    "verify": (
        "evalkit.cli.verify",
        "Tell whether a run and a model are what trusted people signed.",
    ),
    "keygen": ("evalkit.cli.keygen", "Make a key to sign with."),
    "promote": ("evalkit.cli.promote", "Name a run's model as a baseline, such as production."),
    "backtest": ("evalkit.cli.backtest", "Show what gates would have decided on past runs."),
    "import": ("evalkit.cli.importing", "Read a run that lm-eval or inspect has made."),
    "export": ("evalkit.cli.export_run", "Write a finished run in the form of another tool."),
    "list": (
        "evalkit.cli.list_parts",
        "List metrics, conditions, backends, reporters, what is measured on weights.",
    ),
    "doctor": ("evalkit.cli.doctor", "Tell what this machine has and what is missing."),
    "schema": ("evalkit.cli.schema", "Print the JSON Schema of a file format, for editors."),
    "completion": ("evalkit.cli.completion", "Print the shell completion script."),
}
"""Command → its module and its line in the help, so that ``--help`` imports none of them."""

EPILOG = """\b
Start here:
  evalkit init my-evals && cd my-evals     files that run as they are
  evalkit run suite.yaml                   run, score, decide
  evalkit run suite.yaml --candidate ./checkpoint-900 --baseline ./released
  evalkit spectral ./checkpoint-900 --base ./released   is the checkpoint whole, how far did it move?

\b
Exit codes: 0 passed, 1 failed, 2 wrong command or file, 3 the run could not be completed,
4 undecided, 130 interrupted (the same command resumes).
Every flag can be set by an environment variable: --candidate is EVALKIT_CANDIDATE."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order a user meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; an unknown one is answered with the nearest name."""
        from evalkit.registry import nearest

        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            close = nearest(args[0], COMMANDS)
            hint = f" Did you mean {close!r}?" if close else ""
            ctx.fail(f"No such command {args[0]!r}.{hint} Known: {', '.join(COMMANDS)}.")
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="evalkit")
def evalkit() -> None:
    """Decide whether a fine-tuned language model may ship.

    A suite (YAML) says what is asked and measured, a gate (YAML) what the numbers must be; evalkit runs the
    suite on a candidate and a baseline and answers pass, fail or inconclusive, with an interval on every number.
    """


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit with its code; Python's own, 1, would read as a verdict."""
    try:
        code = run(argv)
    except Exception:
        traceback.print_exc()
        told = "please report it with the lines above; nothing was decided"
        code = _complain("this is a defect of evalkit or of a plug-in", told, 3)
    sys.exit(code)


def run(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code: the top of the program, where every error ends."""
    try:
        result: Any = evalkit.main(args=argv, prog_name="evalkit", standalone_mode=False)
    except UsageError as error:
        return _complain(_count(error), error, 2)
    except click.ClickException as error:
        error.show()
        return 2
    except (KeyboardInterrupt, click.Abort) as error:  # click turns the one into the other
        told = "the same command resumes; what was answered is kept"
        if isinstance(error.__cause__, NothingKept):
            told = "nothing was kept; the same command starts over"
        return _complain("interrupted", told, 130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader has gone; saying so would fail as well
        return 3
    except (RunError, OSError) as error:
        return _complain("evalkit could not complete this", _told(error), 3)
    return result if isinstance(result, int) else 0


def _told(error: RunError | OSError) -> str:
    """Return an error with its advice; of one that no edge has translated, the file and what the system says."""
    if isinstance(error, RunError):
        return f"{error}\n{error.advice}" if error.advice else str(error)
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def _count(error: UsageError) -> str:
    number = len(error.problems)
    return f"{number} problems found" if number > 1 else "this cannot run"


def _complain(title: str, text: object, code: int) -> int:
    click.echo(click.style(f"evalkit: {title}", fg="red", bold=True), err=True)
    click.echo(str(text), err=True)
    return code


if __name__ == "__main__":
    main()
