"""The base of everything that is declared as a class: what stands under a field is its description.

Reading the descriptions means parsing the classes' sources, so they are read where somebody asks for them (a JSON
Schema, a list of options), not at every start.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import pairwise
from typing import Any

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


class Declared(BaseModel):
    """Frozen, unknown keys refused, no NaN or infinity; JSON Schemas describe the fields by their docstrings."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def beyond_defaults(self, *, exclude: Iterable[str] = ()) -> dict[str, Any]:
        """Return what it says beyond its defaults, as JSON: what digests cover.

        So a field that is added later, with a default, changes the digest of nothing that was written before.
        """
        return self.model_dump(mode="json", exclude_defaults=True, exclude={*exclude})

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for key, text in descriptions(cls).items():
            of_type = handler.resolve_ref_schema(properties.get(key, {})).get("description")
            if key in properties and of_type != text:
                properties[key].setdefault("description", text)
        return schema


@cache
def descriptions(model: type[BaseModel]) -> Mapping[str, str]:
    """Return the docstring of each field that has one, by the key a file writes; none where there is no source."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            found |= _described(base)
    fields = model.model_fields
    return {fields[name].alias or name: text for name, text in found.items() if name in fields}


def _described(cls: type) -> Mapping[str, str]:
    """Return what stands under the annotated names of one class body."""
    try:
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    except (OSError, TypeError, SyntaxError):  # made at run time
        return {}
    assert isinstance(definition, ast.ClassDef)
    return {
        field.target.id: inspect.cleandoc(under.value.value)
        for field, under in pairwise(definition.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(under, ast.Expr)
        and isinstance(under.value, ast.Constant)
        and isinstance(under.value.value, str)
    }
