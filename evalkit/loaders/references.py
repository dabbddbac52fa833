"""What a suite or gate file points to: files beside it, JSON documents, Python modules.

Paths are relative to the file that names them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

from evalkit.errors import Problem, UsageError
from evalkit.loaders.declarations import Annotation
from evalkit.loaders.places import KeyPath, Value
from evalkit.loaders.sentences import found, keys_of
from evalkit.loaders.yaml_source import YamlSource
from evalkit.metrics.json_text import NotJson, parse_strict
from evalkit.records.suite import JsonFile, Spec
from evalkit.registry import load_plugins, nearest


def missing_file(source: YamlSource, at: KeyPath, name: str) -> Problem | None:
    """Return a problem unless ``name`` is a file, seen from the folder of the file that names it."""
    path = source.path.parent / name
    try:
        if path.is_file():
            return None
        if path.is_dir():
            return source.problem(at, f"{name!r} is a folder", "a file")
        beside = sorted(path.parent.iterdir()) if path.parent.is_dir() else None
    except OSError as error:  # a name too long for the file system, a folder nobody may read
        return source.problem(at, f"{found(name)}, which cannot be looked up: {error.strerror}")
    allowed = "a path relative to this file"
    if beside is None:
        return source.problem(at, f"there is no folder {str(path.parent)!r}", allowed)
    close = nearest(path.name, [entry.name for entry in beside])
    meant = close and str(Path(name).with_name(close))
    return source.problem(at, f"there is no file {str(path)!r}", allowed, meant)


def with_documents(
    spec: type[Spec], options: Mapping[str, Value], source: YamlSource, at: KeyPath
) -> tuple[dict[str, Value], list[Problem]]:
    """Return options with the JSON documents that they name by path read in, and what is wrong with these."""
    filled: dict[str, Value] = dict(options)
    problems: list[Problem] = []
    for key, field in keys_of(spec).items():
        named = options.get(key)
        if isinstance(named, str) and _takes_document(field.annotation, field.metadata):
            document = _read_document(source, (*at, key), named)
            if isinstance(document, Problem):
                problems.append(document)
                filled[key] = {}  # any document, so that this one is not complained of again
            else:
                filled[key] = document
    return filled, problems


def _takes_document(annotation: Annotation, marks: Sequence[object]) -> bool:
    """Tell whether a field, or a member of its union, is marked as a JSON document."""
    members = get_args(annotation)
    return any(isinstance(mark, JsonFile) for mark in (*marks, *members)) or any(
        _takes_document(member, ()) for member in members
    )


def _read_document(source: YamlSource, at: KeyPath, name: str) -> Value:
    if problem := missing_file(source, at, name):
        return problem
    path = source.path.parent / name
    try:
        document = parse_strict(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        return source.problem(at, f"{name} cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        return source.problem(at, f"{name} is not UTF-8", "a JSON document in UTF-8")
    except NotJson as error:
        return source.problem(at, f"{name} is not JSON: {error}", "a JSON document")
    if not isinstance(document, dict | bool):
        return source.problem(at, f"{name} holds no JSON object", "a JSON object")
    return document


def import_plugins(source: YamlSource) -> Iterator[Problem]:
    """Import the modules under ``plugins:``, one file beside the naming file among them; yield what fails."""
    folder = source.path.parent
    modules = source.value.get("plugins")
    for place, module in enumerate(modules if isinstance(modules, list) else ()):
        if isinstance(module, str):
            at = ("plugins", place)
            try:
                with _importable(folder):
                    load_plugins([module])
            except UsageError as error:
                allowed = "a module that is installed or lies beside this file, named as 'import' names it"
                yield source.problem(at, str(error), allowed)
                continue
            beside = folder / f"{module.replace('.', '/')}.py"
            taken = getattr(sys.modules.get(module), "__file__", None)
            if beside.is_file() and (taken is None or Path(taken).resolve() != beside.resolve()):
                message = f"{module!r} beside this file is hidden by another module of that name ({taken})"
                yield source.problem(at, message, "a name that no other module has")


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let modules in ``folder`` be imported, behind everything installed: none can take another's place."""
    entry = str(folder.resolve())
    sys.path.append(entry)
    try:
        yield
    finally:
        sys.path.remove(entry)
