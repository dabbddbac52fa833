"""Named parts, loaded late.

A part is a class or function under a name in a group ("metric", "condition", …). Built-ins register themselves
with the same decorator that a plug-in uses; the modules that hold them are imported the first time their group
is asked for. Plug-ins come from ``plugins:`` in a suite or gate file (module names) and from the entry-point
group ``evalkit.plugins``.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from evalkit.errors import UsageError

Group = Literal["metric", "condition", "backend", "reporter"]

BUILT_IN: Mapping[Group, tuple[str, ...]] = {
    "metric": (
        "evalkit.metrics.match",
        "evalkit.metrics.structure",
        "evalkit.metrics.text",
        "evalkit.metrics.rouge",
        "evalkit.metrics.likelihood",
        "evalkit.metrics.counterfactual",
        "evalkit.metrics.bbq",
        "evalkit.metrics.crows_pairs",
        "evalkit.metrics.associations",
        "evalkit.metrics.judged",
        "evalkit.metrics.decisions",
        "evalkit.metrics.refusals",
        "evalkit.metrics.calibration",
        "evalkit.metrics.recorded",
    ),
    "condition": (
        "evalkit.gates.limits",
        "evalkit.gates.against_baseline",
        "evalkit.gates.equivalence",
        "evalkit.gates.flips",
        "evalkit.gates.gaps",
        "evalkit.gates.people",
    ),
    "backend": (
        "evalkit.backends.transformers",
        "evalkit.backends.vllm_server",
        "evalkit.backends.openai",
        "evalkit.backends.replay",
    ),
    "reporter": (
        "evalkit.reports.page",
        "evalkit.reports.junit",
        "evalkit.reports.markdown",
        "evalkit.reports.json_lines",
        "evalkit.reports.sarif",
    ),
}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Part:
    """One registered part."""

    group: Group
    name: str
    summary: str
    """One line for ``evalkit list``."""
    example: str
    """How it is written in a file or on the command line."""
    make: Any
    """The class or function itself."""


_parts: dict[Group, dict[str, Part]] = {
    "metric": {},
    "condition": {},
    "backend": {},
    "reporter": {},
}
_loaded: set[str] = set()


def register(group: Group, name: str, *, summary: str, example: str) -> Callable[[T], T]:
    """Return a decorator that files a class or function under ``name``.

    Registering a taken name from another module is a UsageError, so that a plug-in never silently replaces a
    built-in.
    """

    def decorate(part: T) -> T:
        held = _parts[group].get(name)
        origin = getattr(part, "__module__", "")
        if held is not None and getattr(held.make, "__module__", "") != origin:
            raise UsageError(f"{group} {name!r} from {origin} is already taken by {held.make}")
        _parts[group][name] = Part(group, name, summary, example, part)
        return part

    return decorate


def load_plugins(modules: Iterable[str]) -> None:
    """Import the plug-in modules that a file names; an import error is a UsageError."""
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # a plug-in's own code may raise anything
            raise UsageError(f"plug-in {module!r} cannot be imported: {error}") from error


def parts(group: Group) -> Mapping[str, Part]:
    """Return every part of a group by name, sorted, importing the modules that hold them."""
    for module in BUILT_IN[group]:
        if module not in _loaded:
            importlib.import_module(module)
            _loaded.add(module)
    if "entry points" not in _loaded:
        _loaded.add("entry points")
        load_plugins(e.module for e in importlib.metadata.entry_points(group="evalkit.plugins"))
    return dict(sorted(_parts[group].items()))


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return the allowed name nearest to ``name``, or an empty string if none is near."""
    return next(iter(difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.6)), "")


def find(group: Group, name: str) -> Part:
    """Return one part; an unknown name is a UsageError that names the nearest."""
    known = parts(group)
    if name in known:
        return known[name]
    close = nearest(name, known)
    hint = f"; did you mean {close!r}?" if close else ""
    raise UsageError(f"unknown {group} {name!r}{hint}; known: {', '.join(known)}")
