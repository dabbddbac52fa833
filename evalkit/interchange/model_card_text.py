"""A model card's text with a run's results put in, and everything else byte for byte as it was.

A card is Markdown behind a block of YAML between two lines ``---``. What changes is the ``model-index`` in the block
(only the lines of that key are written anew, and in them other tools' results keep their spelling) and a section of the
text between two comments. Whatever else the block and the text say, in whichever style, is not touched.

Results that evalkit wrote for the same suite are replaced. A result of another tool for the same metric on the same
data is a conflict: it is told, and replaced only where that is asked for.

**Source**: huggingface_hub, ``repocard.py`` (``REGEX_YAML_BLOCK``, which is the hub's own).
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from evalkit.errors import Problem, UsageError
from evalkit.interchange.model_card import CardResults

_BLOCK: Final = re.compile(r"^(\s*---(?:\r\n|\r|\n))([\S\s]*?)((?:\r\n|\r|\n)---[ \t]*(\r\n|\n|$))")
INDEX: Final = "model-index"
BEGIN: Final = "<!-- evalkit {suite}: begin; 'evalkit export model-card' writes this part anew -->"
END: Final = "<!-- evalkit {suite}: end -->"


@dataclass(frozen=True, slots=True)
class CardText:
    """A card with a run's results in it."""

    text: str
    """The whole card."""
    kept: int
    """Metrics of other tools, and of other suites, that stay as they were."""
    replaced: int
    """Metrics of this suite's earlier runs that were replaced."""
    overwritten: int
    """Other tools' metrics that were replaced."""


def card_text(
    card: str, results: CardResults, *, suite: str, model_name: str, overwrite: bool, file: str
) -> CardText:
    """Return ``card`` (empty for a new one) with a run's results put in.

    ``model_name`` names the model where the card does not. Raises UsageError, naming ``file``, where the card's
    metadata cannot be read or, without ``overwrite``, where another tool's results stand for the same metric.
    """
    if card.startswith("\ufeff"):
        raise _wrong(file, "the card begins with a byte-order mark; save it as UTF-8 without one")
    newline = "\r\n" if "\r\n" in card else "\n"
    found = _BLOCK.search(card)
    opening, block, closing, body = (
        (found[1], found[2], found[3], card[found.end() :])
        if found
        else (f"---{newline}", "", f"{newline}---{newline}", card)
    )
    start, end = _place(block, file)
    index, told = _index(block[start:end], results, suite, model_name, overwrite, file)
    before, behind = block[:start], block[end:]
    if before and not before.endswith(("\n", "\r")):
        before += newline
    made = index.rstrip("\n").replace("\n", newline)
    block = f"{before}{made}{behind}"
    _check(block, found[2] if found else "", file)
    body = _with_section(body, results.section.replace("\n", newline), suite, newline)
    return CardText(f"{opening}{block}{closing}{body}", *told)


def _place(block: str, file: str) -> tuple[int, int]:
    """Return where the key's lines begin and end in the block; twice its end where it has none."""
    held = _read(block, file)
    if held is None:
        return len(block), len(block)
    if not isinstance(held, dict):
        raise _wrong(file, "the card's metadata is no mapping")
    if INDEX not in held:
        return len(block), len(block)
    lines = block.splitlines(keepends=True)
    keys = {key: held.lc.key(key) for key in held}  # type: ignore[attr-defined]
    first, column = keys[INDEX]
    later = sorted(line for line, _ in keys.values() if line > first)
    if column or sum(line == first for line, _ in keys.values()) > 1:
        raise _wrong(file, f"{INDEX} shares its line with other keys; put it on lines of its own")
    last = later[0] if later else len(lines)
    while last > first + 1 and (not lines[last - 1].strip() or lines[last - 1].startswith("#")):
        last -= 1  # comments and empty lines before the next key are its own
    content = "".join(lines[first:last])
    begin = sum(map(len, lines[:first]))
    return begin, begin + len(content.rstrip("\r\n"))


def _index(
    lines: str, results: CardResults, suite: str, model_name: str, overwrite: bool, file: str
) -> tuple[str, tuple[int, int, int]]:
    """Return the lines of ``model-index`` with the results, and how many metrics are kept, replaced, overwritten."""
    held = _read(lines, file, None)
    index = held[INDEX] if held else None
    models = index if isinstance(index, list) else []
    if index and not (models and _sound(models)):
        raise _wrong(
            file, f"{INDEX} is not as Hugging Face has it: a list of models with 'results'"
        )
    if not models:
        held, models = {}, [{"name": _styled(model_name), "results": []}]
        held[INDEX] = models
    model = next((m for m in models if any(_ours(x, suite) for x in _metrics(m))), models[0])
    replaced = sum(_drop(m, lambda _, metric: _ours(metric, suite)) for m in models)
    new = [_styled(each) for each in results.results]
    keys = {key for each in new for key in _keys(each)}

    def rival(result: Mapping[str, Any], metric: Mapping[str, Any]) -> bool:
        names = {_key(result, metric, name) for name in _names_of(metric)}
        return not _written_by_us(metric) and bool(names & keys)

    rivals = [
        metric for m in models for r in m["results"] for metric in r["metrics"] if rival(r, metric)
    ]
    if rivals and not overwrite:
        told = ", ".join(sorted({str(metric.get("name") or metric["type"]) for metric in rivals}))
        raise _wrong(
            file,
            f"another tool's results stand in the card for the same metrics on the same data ({told}); "
            "--overwrite replaces them",
        )
    overwritten = sum(_drop(m, rival) for m in models)
    kept = sum(1 for m in models for _ in _metrics(m))
    model["results"].extend(new)
    return _written(held), (kept, replaced, overwritten)


def _sound(models: Sequence[Any]) -> bool:
    return all(
        isinstance(model, dict)
        and isinstance(model.get("results"), list)
        and all(
            isinstance(result, dict)
            and isinstance(result.get("task"), dict)
            and isinstance(result.get("dataset"), dict)
            and isinstance(result.get("metrics"), list)
            and all(isinstance(metric, dict) and "type" in metric for metric in result["metrics"])
            for result in model["results"]
        )
        for model in models
    )


def _metrics(model: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for result in model["results"]:
        yield from result["metrics"]


def _written_by_us(metric: Mapping[str, Any]) -> bool:
    args = metric.get("args")
    return isinstance(args, dict) and "evalkit" in args and "scorecard" in args


def _ours(metric: Mapping[str, Any], suite: str) -> bool:
    return _written_by_us(metric) and metric["args"].get("suite") == suite


def _drop(model: Mapping[str, Any], which: Any) -> int:  # noqa: ANN401 - a test of result and metric
    """Remove metrics, and results that have none left; return how many metrics."""
    dropped = 0
    for r in reversed(range(len(model["results"]))):
        result = model["results"][r]
        going = [m for m, metric in enumerate(result["metrics"]) if which(result, metric)]
        for m in reversed(going):
            del result["metrics"][m]
        dropped += len(going)
        if going and not result["metrics"]:
            del model["results"][r]
    return dropped


def _keys(result: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield what a result's metrics are known by: data, type, and any name that means the same."""
    for metric in result["metrics"]:
        for name in {str(metric["name"]), str(metric["name"]).rpartition(".")[2]}:
            yield _key(result, metric, name)


def _names_of(metric: Mapping[str, Any]) -> set[str]:
    """Return the names another tool's metric may go by: without one, its type."""
    return {str(metric.get("name") or metric["type"])}


def _key(result: Mapping[str, Any], metric: Mapping[str, Any], name: str) -> tuple[str, ...]:
    dataset = result["dataset"]
    data = (str(dataset.get(field) or "") for field in ("type", "config", "split"))
    return (*data, _plain(str(metric["type"])), _plain(name))


def _plain(name: str) -> str:
    """Return a name without what spelling differs by: ``ROUGE-L`` and ``rougeL`` are one."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _styled(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return a value whose texts will stand in double quotes, so that no reader takes one for a number or a truth."""
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString

    if isinstance(value, str):
        return DoubleQuotedScalarString(value)
    if isinstance(value, dict):
        return {key: _styled(each) for key, each in value.items()}
    return [_styled(each) for each in value] if isinstance(value, list) else value


def _yaml() -> Any:  # noqa: ANN401 - ruamel's class
    from ruamel.yaml import YAML
    from ruamel.yaml.representer import RoundTripRepresenter

    class Representer(RoundTripRepresenter):
        """Writes numbers as both YAML 1.1 and 1.2 read them: PyYAML takes ``1e-05`` for a text, ``1.0e-05`` not."""

    def number(representer: Any, value: float) -> Any:  # noqa: ANN401 - ruamel's node
        text = repr(value)
        text = text if "." in text else text.replace("e", ".0e")
        return representer.represent_scalar("tag:yaml.org,2002:float", text)

    Representer.add_representer(float, number)
    yaml = YAML()
    yaml.Representer = Representer
    yaml.preserve_quotes = True
    yaml.width = 1 << 20  # no line is folded
    yaml.allow_unicode = True
    return yaml


def _read(text: str, file: str, first_line: int | None = 2) -> Any:  # noqa: ANN401 - any YAML value
    from ruamel.yaml.error import YAMLError

    try:
        return _yaml().load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = None if mark is None or first_line is None else mark.line + first_line
        problem = getattr(error, "problem", None) or str(error)
        message = f"the card's metadata cannot be read as YAML: {problem}"
        raise UsageError([Problem(file, line, "", message)]) from error


def _written(value: Mapping[str, Any]) -> str:
    out = io.StringIO()
    _yaml().dump(value, out)
    return out.getvalue()


def _check(block: str, before: str, file: str) -> None:
    """Make sure that the block still reads, and that all other keys say what they said."""
    new, old = _read(block, file), _read(before, file) or {}
    others = {key: value for key, value in new.items() if key != INDEX}
    if others != {key: value for key, value in old.items() if key != INDEX}:
        raise _wrong(file, f"{INDEX} is bound up with other keys; put it on lines of its own")


def _with_section(body: str, section: str, suite: str, newline: str) -> str:
    """Return the card's text with the section in the place of the earlier one, or at its end."""
    begin, end = (mark.format(suite=suite) for mark in (BEGIN, END))
    made = f"{begin}{newline}{section}{newline}{end}"
    first = body.find(begin)
    last = body.find(end, first)
    if first >= 0 and last >= 0:
        return f"{body[:first]}{made}{body[last + len(end) :]}"
    gap = "" if not body or body.endswith(newline * 2) else newline
    gap = gap if not body or body.endswith(newline) else newline * 2
    return f"{body}{gap}{made}{newline}"


def _wrong(file: str, message: str) -> UsageError:
    return UsageError([Problem(file, None, "", message)])
