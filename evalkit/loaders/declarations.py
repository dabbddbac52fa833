"""Checks what a file says against the class that declares it.

The classes (``records.suite.Spec``) are the only definition of the formats; pydantic compares. Values are compared
as JSON, strictly: a text is never taken for a number.

Deviation: pydantic checks a class's own laws ("exactly one of …") only once all its keys are right. Here they are
asked of every mapping, so that one reading of the file finds all mistakes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from evalkit.errors import Problem
from evalkit.loaders.places import KeyPath, Value
from evalkit.loaders.sentences import Mistake, keys_of, sentences
from evalkit.loaders.yaml_source import YamlSource

S = TypeVar("S", bound=BaseModel)
Annotation = Any
"""What a class writes behind a field's colon."""


def check(
    spec: type[S], value: Mapping[str, Value], source: YamlSource, at: KeyPath = ()
) -> tuple[S | None, list[Problem]]:
    """Return the declaration that ``value`` is, or None, and every problem with it.

    ``value`` stands at ``at`` in the file.
    """
    models = {path: (model, inner) for path, model, inner in _declared(spec, value, ())}
    mistakes: list[Mistake] = [
        (path, (message, "", ""))
        for path, (model, inner) in models.items()
        for message in _broken_laws(model, inner)
    ]
    declaration = None
    try:
        declaration = spec.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        mistakes += sentences(error, value, {path: model for path, (model, _) in models.items()})
    told = dict.fromkeys(mistakes)
    return declaration, [source.problem((*at, *path), *sentence) for path, sentence in told]


def refusals(make: Callable[[], object], source: YamlSource, at: KeyPath) -> list[Problem]:
    """Return why a part cannot be built from options that are right by themselves."""
    try:
        make()
    except ValueError as error:
        return [source.problem(at, str(error))]
    except Exception as error:  # a plug-in's own code may raise anything
        return [source.problem(at, f"it cannot be set up: {type(error).__name__}: {error}")]
    return []


def names_twice(entries: Value, key: str, source: YamlSource, at: KeyPath) -> list[Problem]:
    """Return a problem for each entry of a list whose ``key`` an earlier one has already."""
    first: dict[str, int] = {}
    problems = []
    for place, entry in enumerate(entries if isinstance(entries, list) else ()):
        name = entry.get(key) if isinstance(entry, dict) else None
        if isinstance(name, str) and first.setdefault(name, place) != place:
            line = source.lines.at((*at, first[name], key)).line
            message = f"the {key} {name!r} stands on line {line} already"
            problems.append(source.problem((*at, place, key), message, f"each {key} once"))
    return problems


def _declared(
    annotation: Annotation,
    value: Value,
    path: KeyPath,
) -> Iterator[tuple[KeyPath, type[BaseModel], Mapping[str, Value]]]:
    """Yield every mapping inside ``value`` that a class declares: its path, the class, the mapping."""
    origin: Annotation = get_origin(annotation)
    arguments = get_args(annotation)
    if origin is Annotated:
        yield from _declared(arguments[0], value, path)
    elif origin in (Union, UnionType):
        members = (m for m in arguments if _may_declare(m, value))
        yield from _declared(next(members, None), value, path)
    elif origin in (tuple, list) and isinstance(value, list):
        for place, entry in enumerate(value):
            yield from _declared(arguments[0], entry, (*path, place))
    elif _is_model(annotation) and isinstance(value, Mapping):
        yield path, annotation, value
        for key, field in keys_of(annotation).items():
            if key in value:
                yield from _declared(field.annotation, value[key], (*path, key))


def _is_model(annotation: Annotation) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _may_declare(annotation: Annotation, value: Value) -> bool:
    """Tell whether a member of a union is the one that a value was written for."""
    if isinstance(value, list):
        origin: Annotation = get_origin(annotation)
        return origin in (tuple, list)
    if not (_is_model(annotation) and isinstance(value, Mapping)):
        return False
    kinds = {
        key: get_args(field.annotation)
        for key, field in keys_of(annotation).items()
        if get_origin(field.annotation) is Literal
    }
    return all(value.get(key) == names[0] for key, names in kinds.items() if len(names) == 1)


def _broken_laws(model: type[BaseModel], value: Mapping[str, Value]) -> Iterator[str]:
    """Yield what a class's own validators say of its keys as they stand, right or wrong."""
    draft = model.model_construct(**{key: value[key] for key in keys_of(model) if key in value})
    for name, validator in model.__pydantic_decorators__.model_validators.items():
        if validator.info.mode == "after":
            try:
                getattr(draft, name)()
            except ValueError as error:
                yield str(error)
            except (TypeError, AttributeError, KeyError, IndexError):
                continue  # it looked at a key that is missing or of the wrong type, which is told as such
