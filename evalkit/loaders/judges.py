"""Judges as files declare them: in a file of their own, or in place in a suite; prompts are read and tried out.

Paths of a judge, its model's and its prompt's, are relative to the file that declares it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import TemplateSyntaxError

from evalkit.errors import Problem, UsageError
from evalkit.judging.prompts import PROMPTS, Prompt
from evalkit.loaders.declarations import check
from evalkit.loaders.places import KeyPath, Value
from evalkit.loaders.references import missing_file
from evalkit.loaders.yaml_source import YamlSource, read_yaml
from evalkit.metrics.base import Metric
from evalkit.metrics.judged import JudgedMetric
from evalkit.planning.requests import reason
from evalkit.records.suite import JudgeSpec
from evalkit.registry import nearest, parts

_TEMPLATE = ("{{", "{%", "\n")
"""What no path holds, and every template does."""
_TRIED = {"answer": "an answer tried", "answer_a": "a first answer", "answer_b": "a second answer"}
"""What stands for answers while a prompt is tried out."""


@dataclass(frozen=True, slots=True)
class LoadedJudge:
    """A judge and where it was declared."""

    spec: JudgeSpec
    """What the file declares, with the prompt read in."""
    folder: Path
    """What the path of its model is relative to, and where its card lies."""


Judges = Mapping[str, LoadedJudge]


def load_judge(path: Path) -> LoadedJudge:
    """Return the judge that a file declares; raises one UsageError with every problem in it, by line."""
    source = read_yaml(path)
    spec, problems = _read(source.value, source, ())
    told = source.in_order(problems)
    if told or spec is None:
        raise UsageError(told)
    return LoadedJudge(spec, path.parent)


def read_judges(source: YamlSource) -> tuple[dict[str, LoadedJudge], list[Problem]]:
    """Return the judges of a suite under the names that it gives them, and every problem with them.

    A judge with problems is left out; those of a file of its own name that file.
    """
    written = source.value.get("judges")
    judges: dict[str, LoadedJudge] = {}
    problems: list[Problem] = []
    for name, entry in written.items() if isinstance(written, dict) else ():
        at = ("judges", str(name))
        if isinstance(entry, str):
            judge, wrong = _from_file(entry, source, at)
        elif isinstance(entry, dict):
            spec, wrong = _read({"judge": name, **entry}, source, at)
            judge = None if spec is None else LoadedJudge(spec, source.path.parent)
        else:
            allowed = "a judge's keys (model, criteria …), or the path of a judge file"
            judge, wrong = None, [source.problem(at, "no judge is declared here", allowed)]
        problems += wrong
        if judge is not None and not wrong:
            judges[str(name)] = judge
    return judges, problems


def misjudged(
    metrics: Value, declared: Value, judges: Judges, source: YamlSource, at: KeyPath
) -> Iterator[Problem]:
    """Yield why a task's metrics cannot have their judges: none of that name, or one of the other form.

    ``metrics`` are as ``suite_metrics.read_metrics`` returns them, ``declared`` is what the suite says under
    ``judges:``, ``at`` the place of the list.
    """
    names = [str(name) for name in declared] if isinstance(declared, dict) else []
    for place, entry in enumerate(metrics if isinstance(metrics, list) else ()):
        if not isinstance(entry, dict) or "name" not in entry:
            continue  # of a task that asks nothing, and told as such
        name = entry["name"]
        here = (*at, place, name, "judge")
        for judge in _judges_of(name, entry.get("options", {})):
            if judge not in names:
                allowed = ", ".join(names) or "a judge under 'judges:'"
                yield source.problem(
                    here, f"unknown judge {judge!r}", allowed, nearest(judge, names)
                )
            elif judge in judges:
                yield from _wrong_form(name, judge, judges[judge].spec, source, here)


def _judges_of(name: str, options: Mapping[str, Value]) -> tuple[str, ...]:
    """Return the judges that a metric's options name; none where these are wrong, which is told as such."""
    known = parts("metric")
    if name not in known:
        return ()
    make: type[Metric] = known[name].make
    try:
        return make(name, make.Options.model_validate(options)).judges
    except Exception:  # a plug-in's code, or options that are told as wrong
        return ()


def _wrong_form(
    metric: str, judge: str, spec: JudgeSpec, source: YamlSource, at: KeyPath
) -> Iterator[Problem]:
    kind = parts("metric")[metric].make
    if not issubclass(kind, JudgedMetric) or kind.form == spec.form:
        return
    fitting = [
        name
        for name, part in parts("metric").items()
        if issubclass(part.make, JudgedMetric) and part.make.form == spec.form
    ]
    message = f"{metric!r} takes a {kind.form} judge, and {judge!r} is {spec.form}"
    yield source.problem(at, message, f"a {kind.form} judge, or the metric {' or '.join(fitting)}")


def _from_file(
    name: str, source: YamlSource, at: KeyPath
) -> tuple[LoadedJudge | None, list[Problem]]:
    if problem := missing_file(source, at, name):
        return None, [problem]
    try:
        return load_judge(source.path.parent / name), []
    except UsageError as error:
        return None, list(error.problems)


def _read(
    written: Mapping[str, Value], source: YamlSource, at: KeyPath
) -> tuple[JudgeSpec | None, list[Problem]]:
    """Return a judge with its prompt read in, and every problem with it."""
    value, problems = dict(written), []
    if isinstance(value.get("prompt"), str) and value["prompt"]:
        text = _prompt(value["prompt"], source, (*at, "prompt"))
        if isinstance(text, Problem):
            problems.append(text)
            value["prompt"] = ""  # the shipped one, so that the rest can be checked
        else:
            value["prompt"] = text
    spec, wrong = check(JudgeSpec, value, source, at)
    problems += wrong
    if spec is not None and not problems:
        problems += _broken_prompt(spec, source, at)
    return spec, problems


def _prompt(written: str, source: YamlSource, at: KeyPath) -> str | Problem:
    """Return the name of a shipped prompt, or the template itself, out of its file where there is one."""
    if written in PROMPTS or any(mark in written for mark in _TEMPLATE):
        return written
    if problem := missing_file(source, at, written):
        close = problem.nearest or nearest(written, PROMPTS)
        allowed = f"a path relative to this file, or one of {', '.join(PROMPTS)}"
        return source.problem(at, problem.message, allowed, close)
    try:
        return (source.path.parent / written).read_text(encoding="utf-8-sig")
    except OSError as error:
        return source.problem(at, f"{written} cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        return source.problem(at, f"{written} is not UTF-8", "a Jinja2 template in UTF-8")


def _broken_prompt(spec: JudgeSpec, source: YamlSource, at: KeyPath) -> Iterator[Problem]:
    """Yield why a template cannot ask the judge: it is none, or it does not show what is to be judged."""
    names = ("answer",) if spec.form == "pointwise" else ("answer_a", "answer_b")
    at = (*at, "prompt")
    try:
        prompt = Prompt(spec)
        shown = prompt.of("the question", {name: _TRIED[name] for name in names}, "the reference")
    except TemplateSyntaxError as error:
        message = f"this is no template: {str(error.message).rstrip('.')} (its line {error.lineno})"
        yield source.problem(at, message, "a Jinja2 template")
        return
    except Exception as error:  # the template is the user's code
        allowed = f"question, {', '.join(names)}, reference, criteria, rubric, low, high, mark"
        yield source.problem(at, f"the prompt cannot be rendered: {reason(error)}", allowed)
        return
    for name in names:
        if _TRIED[name] not in shown:
            message = f"the prompt does not show {{{{ {name} }}}}: the judge would not see it"
            yield source.problem(at, message, "a template with " + " and ".join(names))
    if spec.reference and "the reference" not in shown:
        message = "'reference: true', and the prompt does not show {{ reference }}"
        yield source.problem(at, message, "a template with reference")
