"""What the page is made of: sections, each with its text, its plots and the data that its script reads.

Fragments are Jinja templates beside ``sections/``, rendered with escaping always on: ``fragment`` is the only way from
values to markup. Plots are Vega-Lite, drawn in the reader's browser; what they show stands in a table beside them, for
those who cannot see them. JSON travels as ASCII in which no HTML parser sees an end (``review_page.embedded``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from evalkit.records.scorecard import ModelRecord
from evalkit.records.verdict import Verdict
from evalkit.reports.reported import FinishedRun
from evalkit.reports.vega import Spec
from evalkit.reports.view import number, signed, span

MARKS: Final[Mapping[str, tuple[str, str]]] = {
    "pass": ("✓", "passed"),
    "fail": ("✗", "failed"),
    "inconclusive": ("?", "undecided"),
    "missing": ("?", "not measured"),
    "incomparable": ("≠", "not comparable"),
    "incomplete": ("!", "incomplete"),
    "waived": ("~", "waived"),
    "none": ("–", "no verdict"),
    "better": ("▲", "better"),
    "worse": ("▼", "worse"),
    "same": ("·", "no difference shown"),
}
"""Status → its mark and its word; colour repeats them."""
_PARTS: Final = re.compile(r"(?<=[._/=+])|(?=@)")
"""Where a name may be broken."""


@dataclass(frozen=True, slots=True)
class Plot:
    """One plot of a section, placed in its fragment by ``{{ figure("id") }}``."""

    id: str
    """Its element; one of its kind on the page: a-z, 0-9, '-'."""
    spec: Spec
    """Vega-Lite 5."""
    alt: str
    """What it shows, in words."""


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the page, with its place in the navigation."""

    id: str
    """Its anchor: a-z, 0-9, '-'."""
    title: str
    """Its heading."""
    body: Markup
    """Its text, from ``fragment``."""
    told: str = ""
    """One line under the heading."""
    count: str = ""
    """What stands beside its name in the navigation, such as ``3 failed``."""
    plots: tuple[Plot, ...] = ()
    """Its plots."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """Element id → JSON value that its script reads out of ``<script type="application/json" id=…>``."""
    script: str = ""
    """Name of its script beside ``page.js``, such as ``samples.js``; each script is on the page once."""
    style: str = ""
    """Name of its style sheet beside ``page.css``."""


MakeSection = Callable[[FinishedRun], Section | None]
"""Makes a section of a run; None where the run has nothing of it."""


def fragment(template: str, **values: Any) -> Markup:  # noqa: ANN401 - whatever the template shows
    """Return a template of ``page/sections/`` filled in; every value in it is escaped."""
    return Markup(environment().get_template(f"sections/{template}").render(**values))


@cache
def environment() -> Environment:
    """Return the templates' environment: escaping on, a name that is not given is an error."""
    made = Environment(
        loader=PackageLoader("evalkit.reports", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "number": number,
        "signed": signed,
        "span": span,
        "breakable": breakable,
        "mark": mark,
    }
    made.globals |= {"figure": _figure, "status": status, "anchor": anchor}
    return made


def anchor(part: str, name: str) -> str:
    """Return the id of a row, whatever its name holds; links to it are made of the same two words.

    >>> anchor("estimate", "extract/exact_match@region=eu")
    'estimate-ac11dd297cf7'
    """
    return f"{part}-{sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


def status(kind: str, word: str = "") -> Markup:
    """Return a status as mark, word and colour; ``word`` stands in the place of its usual one."""
    mark, usual = MARKS[kind]
    made = '<span class="status {}"><span aria-hidden="true">{}</span> {}</span>'
    return Markup(made).format(kind, mark, word or usual)


def _figure(plot: str, alt: str) -> Markup:
    """Return the place of a plot; the page's script draws it when it comes into view."""
    made = '<figure class="plot" data-plot="{}"><div class="drawing" role="img" aria-label="{}"></div></figure>'
    return Markup(made).format(plot, alt)


def mark(kind: str) -> Markup:
    """Return a status's mark alone, for beside its word."""
    return Markup('<span aria-hidden="true">{}</span>').format(MARKS[kind][0])


def breakable(name: str) -> Markup:
    """Return a name that may take several lines, broken behind its own marks.

    >>> breakable("extract/json_fields.f1<")
    Markup('extract/<wbr>json_<wbr>fields.<wbr>f1&lt;')
    """
    return Markup("<wbr>").join(_PARTS.split(name))


def precise(value: float) -> str:
    """Return a number with four significant digits, however small, and its sign.

    >>> precise(0.012344), precise(-0.08551), precise(0.0)
    ('+0.01234', '−0.08551', '0')
    """
    return f"{value:+.4g}".replace("-", "−") if value else "0"


def told_status(verdict: Verdict | None) -> str:
    """Return the verdict's status as ``MARKS`` has it: ``none`` where no rule was asked, so that nothing is green."""
    if verdict is None or (not verdict.outcomes and verdict.status != "incomplete"):
        return "none"
    return verdict.status


def models(run: FinishedRun) -> list[tuple[str, ModelRecord]]:
    """Return the models by role, the candidate first."""
    held = run.scorecard.provenance.models
    return sorted(held.items(), key=lambda each: each[0] != "candidate")


def when(moment: str) -> str:
    """Return a moment of a scorecard as a reader says it.

    >>> when("2026-03-01T09:30:57+00:00")
    '2026-03-01 09:30 UTC'
    """
    day, _, time = moment.partition("T")
    return f"{day} {time[:5]} UTC" if time else moment
