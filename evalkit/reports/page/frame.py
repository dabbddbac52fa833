"""The page around the sections: head, policy, navigation, data, scripts.

A page is always UTF-8. What a name or a reason may hold that no page can (lone surrogates, NUL, other controls, what
turns the direction of writing) stands there as its escape, such as ``\\ud800``. The page's own scripts and styles hold
none of these, or their digests would not fit.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import Final

from markupsafe import Markup

from evalkit.identity import short
from evalkit.reports.page.section import (
    MARKS,
    MakeSection,
    Section,
    environment,
    models,
    told_status,
    when,
)
from evalkit.reports.reported import FinishedRun
from evalkit.reports.review_page import embedded

SECTIONS: Final = (
    "summary",
    "rules",
    "estimates",
    "slices",
    "flips",
    "samples",
    "fairness",
    "judges",
    "people",
    "weights",
    "cost",
    "provenance",
)
"""The page's parts in the order in which they stand; each is a module of ``sections`` with a function ``section``."""
PLOTS: Final = "plots"
"""Element that holds every plot's specification by its id."""
_UNFIT: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
"""What no HTML text may hold, CR among it, which a parser would make another character; and what turns the direction of
the text behind it."""


@dataclass(frozen=True, slots=True)
class Head:
    """What stands above every part."""

    name: str
    """The page's heading."""
    verdict: str
    """``pass``, ``fail`` … as ``MARKS`` has it; ``none`` where nothing was decided."""
    facts: tuple[tuple[str, str], ...] = ()
    """Name and value of what was measured, and when."""


def scorecard_page(run: FinishedRun) -> str:
    """Return the page of a finished run."""
    provenance, circumstances = run.scorecard.provenance, run.scorecard.circumstances
    facts = [
        (role, circumstances.names.get(role, short(model.digest))) for role, model in models(run)
    ]
    facts.append(("measured", when(circumstances.finished)))
    head = Head(provenance.suite, told_status(run.verdict), tuple(facts))
    version = provenance.versions.get("evalkit", "")
    foot = f"Scorecard {short(run.scorecard.digest)} · evalkit {version} · this page loads nothing from any network"
    title = f"{head.name}: {MARKS[head.verdict][1]} · scorecard"
    return page(title, list(sections(run)), head, foot)


def sections(run: FinishedRun) -> Iterator[Section]:
    """Yield the sections that this run has."""
    for name in SECTIONS:
        make: MakeSection = import_module(f"evalkit.reports.page.sections.{name}").section
        made = make(run)
        if made is not None:
            yield made


def page(title: str, parts: list[Section], head: Head | None = None, foot: str = "") -> str:
    """Return a page of sections; it loads nothing and runs no script but its own."""
    plots = {plot.id: plot.spec for part in parts for plot in part.plots}
    data = {key: value for part in parts for key, value in part.data.items()}
    scripts = [asset("vega.js")] if plots else []
    scripts += [asset(name) for name in _once(part.script for part in parts)]
    scripts.append(asset("page.js"))
    styles = [asset("page.css"), *(asset(name) for name in _once(part.style for part in parts))]
    text = (
        environment()
        .get_template("template.html")
        .render(
            title=title,
            head=head,
            foot=foot,
            policy=_policy(styles, scripts),
            styles=[Markup(style) for style in styles],
            scripts=[Markup(script) for script in scripts],
            parts=parts,
            data={key: Markup(embedded(value)) for key, value in (data | {PLOTS: plots}).items()},
        )
    )
    return encodable(text)


def encodable(text: str) -> str:
    r"""Return text that every HTML parser reads as it stands and UTF-8 can write; what else it held is escaped.

    >>> encodable("a\x00b\ud800\n")
    'a\\x00b\\ud800\n'
    """
    return _UNFIT.sub(lambda found: ascii(found[0])[1:-1], text)


@cache
def asset(name: str) -> str:
    """Return a file of this package."""
    return files("evalkit.reports.page").joinpath(name).read_text(encoding="utf-8")


def _once(names: Iterable[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if name]


def _policy(styles: Iterable[str], scripts: Iterable[str]) -> str:
    """Return the Content-Security-Policy: the page's own styles and scripts by their digests, and nothing else."""
    allowed = " ".join(map(_hash, scripts))
    # Vega's tooltip brings its own style element; styles can fetch nothing under this policy.
    return "; ".join(
        (
            "default-src 'none'",
            "style-src 'unsafe-inline'",
            f"script-src {allowed}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
