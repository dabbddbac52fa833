"""Text that somebody else wrote, made harmless: for a terminal, for XML, for Markdown. The one place that does so.

What a model answered, what a file is called, why a request failed: all of it may hold anything. What would act (move a
cursor, turn the direction of writing, end an element, begin a link) is shown as what it is, never dropped, so that a
reader sees that it was there. What is too long is cut, and the cut says how much is missing.

**Source**: XML 1.0 (5th ed.), 2.2 (the characters that a document may hold); CommonMark 0.31, 2.4 and 2.5 (backslash
escapes and entities stand for no structure) and 6.1 (code spans); GitHub Flavored Markdown 0.29, 4.10 (pipes in tables)
and 6.9 (autolinks).

**Deviation**: a mention (``@name``), a reference (``#12``) and a bare address become links after Markdown was read, so
that no escape holds them; an invisible space (U+200B) behind their first character does, as bots on GitHub write it.
"""

from __future__ import annotations

import re
from typing import Any, Final, TypeVar

from evalkit.records.interval import Record

R = TypeVar("R", bound=Record)
LONGEST: Final = 2000
"""Characters of one text in a report for machines."""

_ALWAYS: Final = re.compile(r"[\\`*_\[\]~]")
"""What is escaped wherever it stands."""
_ENTITIES: Final = {
    ord("&"): "&amp;",
    ord("<"): "&lt;",
    ord(">"): "&gt;",
    ord("|"): "&#124;",
    ord("$"): "<span>$</span>",
}
_BREAK: Final = "&#8203;"
"""An invisible space."""
_LINKS: Final = re.compile(
    r"(?<!\w)@(?=\S)|@(?=[\w-]*\.)|(?:#|\bGH-)(?=\d)|:(?=//)|\bwww\.|\b(?:mailto|xmpp):",
    re.IGNORECASE,
)
"""The beginnings of mentions, references and addresses."""
_FIRST: Final = re.compile(r"^(?:([#+=-])|(\d{1,9})([.)])(?!\S))")
"""What at the beginning of a line makes it a heading, a list or a rule."""
_PLAIN_CODE: Final = re.compile(r"[^`|\\]*")
"""What may stand between backticks as it is, in a table too."""


def printable(text: str) -> str:
    r"""Return text that moves no cursor and hides nothing: line ends as ⏎, other unprintable characters as escapes.

    Control, format (zero-width, right-to-left), surrogate, private and unassigned characters are unprintable.

    >>> printable("a\n\x1b[31mb\u202e")
    'a⏎ \\x1b[31mb\\u202e'
    """
    if text.isprintable():
        return text
    return "".join(map(_printable, text))


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    return "⏎ " if character == "\n" else character.encode("unicode_escape").decode()


def printable_lines(text: str) -> str:
    r"""Return text as ``printable`` does, but with its lines kept.

    >>> printable_lines("one\r\ntwo\x00")
    'one\ntwo\\x00'
    """
    return "\n".join(map(printable, text.replace("\r\n", "\n").split("\n")))


def harmless(record: R) -> R:
    r"""Return a record each text of which is ``printable``, for drawings that show many of them.

    >>> from evalkit.records.interval import Interval
    >>> harmless(Interval(low=0, high=1, level=0.95, method="t\x1b[31m")).method
    't\\x1b[31m'
    """
    return type(record).model_validate(_harmless(record.model_dump()))


def _harmless(value: Any) -> Any:  # noqa: ANN401 - whatever a record holds
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {_harmless(key): _harmless(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_harmless, value))
    return value


def cut(text: str, longest: int = LONGEST) -> str:
    """Return at most ``longest`` characters of a text; what is left out is counted.

    >>> cut("a" * 5000, 3)
    'aaa… (4,997 characters more)'
    """
    if len(text) <= longest:
        return text
    return f"{text[:longest]}… ({len(text) - longest:,} characters more)"


def xml_line(text: str, longest: int = LONGEST) -> str:
    r"""Return a text for an XML attribute: one line, cut, without a character that XML 1.0 forbids.

    Markup is not escaped: whoever writes the XML does so.

    >>> xml_line("\x1b[31m]]>\ufffe")
    '\\x1b[31m]]>\\ufffe'
    """
    return printable(cut(text, longest))


def xml_text(text: str, longest: int = LONGEST) -> str:
    """Return a text for an XML element: its lines kept, cut, without a character that XML 1.0 forbids."""
    return printable_lines(cut(text, longest))


def markdown(text: str, longest: int = LONGEST) -> str:
    r"""Return one line of Markdown that shows a text and does nothing, in a paragraph, a list or a table's cell.

    >>> markdown("**see** [x](http://a.b) | @you <b>")
    '\\*\\*see\\*\\* \\[x\\](http:&#8203;//a.b) &#124; @&#8203;you &lt;b&gt;'
    """
    shown = printable(cut(text, longest)).strip()
    return _FIRST.sub(_not_a_block, _inert(shown))


def _inert(text: str) -> str:
    """Return text without live characters; what follows a link's beginning is parted from it."""
    made, end = [], 0
    for match in _LINKS.finditer(text):
        made += [_escaped(text[end : match.end()]), _BREAK]
        end = match.end()
    made.append(_escaped(text[end:]))
    return "".join(made)


def _escaped(text: str) -> str:
    return _ALWAYS.sub(r"\\\g<0>", text).translate(_ENTITIES)


def _not_a_block(match: re.Match[str]) -> str:
    sign, number, end = match.groups()
    return f"\\{sign}" if sign else f"{number}\\{end}"


def markdown_code(text: str, longest: int = LONGEST) -> str:
    r"""Return a name as code in Markdown: nothing in it is live, in a table's cell neither.

    >>> markdown_code("extract/exact_match"), markdown_code("a|`b`")
    ('`extract/exact_match`', '<code>a&#124;\\`b\\`</code>')
    """
    shown = printable(cut(text, longest)).strip()
    if shown and _PLAIN_CODE.fullmatch(shown):
        return f"`{shown}`"
    return f"<code>{_inert(shown)}</code>"


def markdown_block(text: str, language: str = "", longest: int = LONGEST) -> str:
    """Return a text as a fenced block of Markdown, its lines kept; the fence is longer than any in it.

    >>> markdown_block("ls", "sh")
    '```sh\\nls\\n```'
    """
    shown = printable_lines(cut(text, longest))
    ticks = max((len(run) for run in re.findall("`+", shown)), default=0)
    fence = "`" * max(3, ticks + 1)
    return f"{fence}{language}\n{shown}\n{fence}"
