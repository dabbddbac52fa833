"""Templates over rows: Jinja2 in its sandbox, with structures written as JSON and null refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import StrictUndefined
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from evalkit.identity import canonical_json

Row = Mapping[str, Any]
"""One row of a data set: field → value."""


def shown(value: Any) -> Any:  # noqa: ANN401 - whatever a template expression gives
    """Write structures as JSON and truth values as ``true``/``false``, not as Python would."""
    if isinstance(value, bool | dict | list | tuple):
        return canonical_json(value).decode("utf-8", "replace")
    if value is None:
        raise ValueError("the value is null")
    return value


_templates = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False, finalize=shown
)


class RowTemplate:
    """A sandboxed template over a row: its names are the row's fields, ``row`` the row itself.

    Does what ``jinja2.Template.render`` does, which would copy and look through the global names twice for every row.
    """

    def __init__(self, source: str) -> None:
        """Compile ``source``; raises jinja2.TemplateSyntaxError."""
        self._template = _templates.from_string(source)
        self._globals = dict(self._template.globals)

    def render(self, row: Row) -> str:
        """Return the text for one row; raises whatever the template's expressions do."""
        names = {**self._globals, **row, "row": row}
        context = Context(_templates, names, self._template.name, self._template.blocks)
        return "".join(self._template.root_render_func(context))
