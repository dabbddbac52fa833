"""What ``evalkit list`` tells of an option."""

from __future__ import annotations

from pydantic import Field

from evalkit.cli.list_parts import option_lines
from evalkit.records.suite import Spec


class Part:
    class Options(Spec):
        """The options."""

        words: tuple[str, ...] = tuple(f"w{n}" for n in range(100))
        """Words that do not count."""
        few: tuple[str, ...] = ("yes", "no")
        """All of them."""
        name: str = Field()
        """How it is called."""


def test_of_a_long_default_the_first_entries_are_told_and_the_others_counted():
    words, few, name = option_lines(Part)
    assert words.startswith('words (default ["w0", "w1", ')
    assert words.endswith('"w7", and 92 more]): Words that do not count.')
    assert few == 'few (default ["yes", "no"]): All of them.'
    assert name == "name (required): How it is called."
