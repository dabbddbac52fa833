"""Numbers as people and models write them, compared in decimal.

Binary floating point would say that 20.00 and 19.99 differ by more than 0.01; as written, they do not. Differences
are reckoned to 60 significant digits; equality is exact.
"""

from __future__ import annotations

import re
from decimal import Context, Decimal

_EXACT = Context(prec=60)

_NUMBER = re.compile(
    r"""
    (?<![A-Za-z_\d]) (?<![A-Za-z]-) (?<!\d\.)       # no part of CO2, GPT-4, 1.2.3
    (?: (?<![)\]]) (?P<sign> [-+−] ) )?             # the minus of (1)-2 is no sign, nor that of 1-2
    (?: [$€£¥] \ ? )?
    (?P<digits> \d{1,3} (?: ,\d{3} )+ (?!\d) | \d++ | (?<!\.) (?=\.\d) )
    (?P<fraction> \. \d++ )?
    (?P<exponent> [eE] [-+]? \d{1,3} (?!\d) )?
    (?! \.?\d )
    """,
    re.VERBOSE | re.ASCII,
)


def first_number(text: str) -> Decimal | None:
    """Return the first number written in a text, None where there is none.

    Read are ASCII digits with thousands commas, a fraction, an exponent of up to three digits, a sign (``-``, ``+``,
    ``−``) and a currency sign: ``-$1,234.50`` is -1234.5. Not numbers are digits in names and versions (``CO2``,
    ``GPT-4``, ``1.2.3``); ``50%`` is 50 and ``3/4`` is 3, then 4.

    >>> first_number("costs $1,234.50.")
    Decimal('1234.50')
    """
    match = _NUMBER.search(text)
    return _value(match) if match else None


def last_number(text: str) -> Decimal | None:
    """Return the last number written in a text, as ``first_number`` reads it."""
    last = None
    for match in _NUMBER.finditer(text):
        last = match
    return _value(last) if last else None


def whole_number(text: str) -> Decimal | None:
    """Return the number that a text is, white space at its ends aside; None where it is more than that or less."""
    match = _NUMBER.fullmatch(text.strip())
    return _value(match) if match else None


def as_written(number: float) -> Decimal:
    """Return the decimal that a number shows: the shortest that reads back as it."""
    return Decimal(number) if isinstance(number, int) else Decimal(repr(number))


def near(found: Decimal, target: Decimal, absolute: float, relative: float) -> bool:
    """Return whether two numbers are equal, or differ by no more than ``absolute`` or ``relative * |target|``.

    >>> near(Decimal("20.00"), Decimal("19.99"), absolute=0.01, relative=0.0)
    True
    """
    if found == target:
        return True
    share = _EXACT.multiply(as_written(relative), target.copy_abs())
    difference = _EXACT.subtract(found, target).copy_abs()
    return difference <= max(as_written(absolute), share)


def _value(match: re.Match[str]) -> Decimal:
    sign = "-" if match["sign"] in ("-", "−") else ""
    digits = match["digits"].replace(",", "") or "0"
    return Decimal(f"{sign}{digits}{match['fraction'] or ''}{match['exponent'] or ''}")
