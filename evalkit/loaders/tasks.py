"""One task of a suite file, checked beyond its form: templates, files, slices, few-shot examples, metrics, weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from jinja2 import TemplateSyntaxError
from pydantic import ValidationError

from evalkit.errors import Problem
from evalkit.loaders.places import KeyPath, Value
from evalkit.loaders.references import missing_file
from evalkit.loaders.rows import FORMATS, format_of
from evalkit.loaders.sentences import found
from evalkit.loaders.suite_metrics import TASKS, has_target, read_metrics
from evalkit.loaders.yaml_source import YamlSource
from evalkit.planning import RowTemplate
from evalkit.records.suite import SwapSpec
from evalkit.registry import nearest
from evalkit.swaps import SHIPPED, lexicon_of

DEFAULT_KIND = "generate"
SPECTRAL = "spectral"
"""The kind of task that reads weights and asks nothing."""
_KINDS = (*TASKS, SPECTRAL)
_GOES_WITH: Mapping[str, tuple[str, ...]] = {
    "path": ("format",),
    "name": ("config", "revision", "split"),
}
_MARKS = frozenset("+=@*")
"""What stands between fields and values in the names of estimates."""
_OF_SPECTRA = ("draws", "traps", "compatible")
"""Keys of a spectral task that change nothing unless it computes spectra."""


def read_task(task: Value, source: YamlSource, at: KeyPath) -> tuple[Value, list[Problem]]:
    """Return a task in the form that its class declares, and what is wrong with it beyond its form.

    ``task`` is whatever the file holds at ``at``; parts of the wrong form are left for the class to refuse.
    """
    if not isinstance(task, dict):
        return task, []
    kind, problems = _kind_of(task, source, at)
    if kind == SPECTRAL:
        return {**task, "kind": kind}, [*problems, *_idle_keys(task, source, at)]
    problems += _broken_templates(task, source, at)
    problems += _broken_dataset(task.get("dataset"), source, (*at, "dataset"))
    problems += _broken_examples(task, kind, source, (*at, "fewshot"))
    problems += _repeated_slices(task.get("slices"), source, (*at, "slices"))
    problems += _broken_swap(task.get("swap"), source, (*at, "swap"))
    problems += _odd_groups(task.get("groups"), source, (*at, "groups", "by"))
    read = {**task, "kind": kind}
    if isinstance(task.get("metrics"), list):
        read["metrics"], wrong = read_metrics(task, str(kind), source, (*at, "metrics"))
        problems += wrong
    return read, problems


def _kind_of(
    task: Mapping[str, Value], source: YamlSource, at: KeyPath
) -> tuple[Value, list[Problem]]:
    """Return a task's kind; for a misspelt one what was probably meant, so that the rest can be checked."""
    kind = task.get("kind", DEFAULT_KIND)
    close = nearest(str(kind), _KINDS)
    if str(kind) in _KINDS or not close:
        return kind, []
    return close, [source.problem((*at, "kind"), found(kind), ", ".join(_KINDS), close)]


def _idle_keys(task: Mapping[str, Value], source: YamlSource, at: KeyPath) -> Iterator[Problem]:
    """Yield what a task that reads weights says to no effect."""
    for key in _OF_SPECTRA:
        if task.get(key) not in (None, False) and task.get("spectra") is not True:
            yield source.problem(
                (*at, key), f"{key!r} changes nothing without spectra", "spectra: true"
            )
    for key in ("base", "adapter"):
        if isinstance(task.get(key), str) and not task[key].strip():
            yield source.problem((*at, key), "the name is empty", "a folder or a hub id")
    for key in ("frozen", "trained"):
        patterns = task.get(key)
        for place, pattern in enumerate(patterns if isinstance(patterns, list) else ()):
            if pattern == "":
                message = "an empty pattern matches no tensor"
                yield source.problem(
                    (*at, key, place), message, "a tensor's name; * matches any text"
                )


def _broken_examples(
    task: Mapping[str, Value], kind: Value, source: YamlSource, at: KeyPath
) -> Iterator[Problem]:
    examples = task.get("fewshot")
    if isinstance(examples, dict):
        yield from _broken_dataset(examples.get("dataset"), source, (*at, "dataset"))
        if kind == "generate" and not has_target(task):
            message = "worked examples show their answers, and the task has no target"
            yield source.problem(at, message, "a task with 'target' or 'targets'")


def _templates(task: Mapping[str, Value]) -> Iterator[tuple[KeyPath, Value]]:
    """Yield every value of a task that is a template, with its path."""
    for key in ("prompt", "target", "text", "choices"):
        value = task.get(key)
        if isinstance(value, list):
            yield from (((key, place), entry) for place, entry in enumerate(value))
        elif key != "choices":  # a text there names a field
            yield (key,), value
    messages = task.get("messages")
    for place, message in enumerate(messages if isinstance(messages, list) else ()):
        if isinstance(message, dict):
            yield ("messages", place, "content"), message.get("content")
    variants = task.get("variants")
    for name, fields in variants.items() if isinstance(variants, dict) else ():
        for field, template in fields.items() if isinstance(fields, dict) else ():
            yield ("variants", name, field), template


def _broken_templates(
    task: Mapping[str, Value], source: YamlSource, at: KeyPath
) -> Iterator[Problem]:
    for path, template in _templates(task):
        if isinstance(template, str):
            try:
                RowTemplate(template)
            except TemplateSyntaxError as error:
                lines = source.lines.at((*at, *path))
                line = None if lines.text is None else lines.text + error.lineno - 1
                message = f"this is no template: {str(error.message).rstrip('.')}"
                if line is None and error.lineno > 1:
                    message += f" (line {error.lineno} of the template)"
                yield source.problem((*at, *path), message, "a Jinja2 template", line=line)


def _broken_dataset(dataset: Value, source: YamlSource, at: KeyPath) -> Iterator[Problem]:
    """Yield what is wrong with a data set's file and with keys that do not go together."""
    if not isinstance(dataset, dict):
        return
    path = dataset.get("path")
    if isinstance(path, str):
        problem = missing_file(source, (*at, "path"), path)
        if problem:
            told = dataset.get("source")
            message = f"{problem.message}: {told}" if told else problem.message
            yield replace(problem, message=message, allowed="" if told else problem.allowed)
        elif dataset.get("format") is None and format_of(path) is None:
            message = f"the ending of {path!r} does not say what it is"
            yield source.problem((*at, "path"), message, f"'format': {' or '.join(FORMATS)}")
    given = [key for key in _GOES_WITH if dataset.get(key) is not None]
    other = [key for key in _GOES_WITH if key not in given]
    for key in _GOES_WITH[other[0]] if len(given) == 1 else ():
        if key in dataset:
            message = f"{key!r} goes with {other[0]!r}, not with {given[0]!r}"
            yield source.problem((*at, key), message)


def _broken_swap(swap: Value, source: YamlSource, at: KeyPath) -> Iterator[Problem]:
    """Yield why words cannot be swapped: an unknown mapping, or words that do not tell groups apart."""
    if not isinstance(swap, dict):
        return
    using = swap.get("using")
    if isinstance(using, str) and using not in SHIPPED:
        message = f"unknown swap {using!r}"
        yield source.problem((*at, "using"), message, ", ".join(SHIPPED), nearest(using, SHIPPED))
    elif isinstance(swap.get("groups"), dict):
        try:
            lexicon_of(SwapSpec.model_validate(swap))
        except ValidationError:
            return  # of the wrong form, and told as such
        except ValueError as error:
            yield source.problem((*at, "groups"), str(error), "words of one group each, none empty")


def _repeated_slices(slices: Value, source: YamlSource, at: KeyPath) -> Iterator[Problem]:
    for place, field in enumerate(slices if isinstance(slices, list) else ()):
        if field in slices[:place]:
            message = f"the field {field!r} is listed twice"
            yield source.problem((*at, place), message, "each field once")


def _odd_groups(groups: Value, source: YamlSource, at: KeyPath) -> Iterator[Problem]:
    """Yield the fields of groups that rules could not name."""
    by = groups.get("by") if isinstance(groups, dict) else None
    for place, entry in enumerate(by if isinstance(by, list) else ()):
        for name in entry if isinstance(entry, list) else [entry]:
            odd = sorted(_MARKS & set(name)) if isinstance(name, str) else []
            if odd or name == "":
                message = f"the field {name!r} cannot name groups: rules write @field=value"
                allowed = "a field without any of + = @ *; intersections are lists: [sex, age]"
                yield source.problem((*at, place), message, allowed)
