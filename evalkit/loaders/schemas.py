"""JSON Schemas of the files that people write and read, generated from the classes that declare them.

Editors check suite and gate files with them as they are typed; other programs check scorecards and verdicts. They
say what one file can show by itself: names, types, bounds, which keys go together. That a file exists, a template
is one, or a metric suits its task's target, only ``evalkit validate`` tells.

Source: JSON Schema 2020-12.

Deviation: where a file names plug-ins, names that are not built in are let pass, since a schema cannot know them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from evalkit.loaders.gates import COMMON_KEYS
from evalkit.loaders.suite_metrics import TASKS
from evalkit.records.scorecard import Scorecard
from evalkit.records.suite import GateSpec, Spec, SuiteSpec
from evalkit.records.verdict import Verdict
from evalkit.registry import Part, parts

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def suite_schema() -> Schema:
    """Return the schema of suite files, with the options of every metric that is built in or installed."""
    schema = _titled(SuiteSpec, "evalkit suite")
    definitions = schema["$defs"]
    definitions.pop("MetricSpec")
    definitions["Metric"] = _metric_schema(definitions)
    for kind, task in TASKS.items():
        declared = definitions[task.__name__]
        declared["properties"]["metrics"]["items"] = {"$ref": "#/$defs/Metric"}
        definitions[f"{kind}_metric"] = _known_metric(kind)
    definitions["GenerateTask"] |= {
        "oneOf": [_given("prompt"), _given("messages")],
        "not": {"allOf": [_given("target"), _given("targets")]},
    }
    definitions["CounterfactualTask"] |= {
        "allOf": [
            {"oneOf": [_given("prompt"), _given("messages")]},
            {"oneOf": [_given("swap"), _given("variants")]},
        ],
    }
    definitions["SwapSpec"] |= {"oneOf": [_given("using"), _given("groups")]}
    definitions["DatasetSpec"] |= {
        "oneOf": [_given("path"), _given("name")],
        "if": _given("path"),
        "then": {"properties": dict.fromkeys(("config", "revision", "split"), False)},
        "else": {"properties": {"format": False}},
    }
    # In a suite a judge is named by its key, or lies in a file of its own.
    definitions["JudgeSpec"]["required"].remove("judge")
    judges = schema["properties"]["judges"]["patternProperties"]
    for pattern, declared in judges.items():
        judges[pattern] = {"anyOf": [{"type": "string"}, declared]}
    schema |= _unless_plugins({"properties": {"tasks": {"items": {"allOf": _known_metrics()}}}})
    return schema


def gate_schema() -> Schema:
    """Return the schema of gate files, with the keys of every condition that is built in or installed."""
    schema = _titled(GateSpec, "evalkit gate")
    definitions = schema["$defs"]
    conditions = parts("condition")
    rule = definitions["RuleSpec"]
    rule["properties"].pop("options")
    common = {key: {"$ref": f"#/$defs/RuleSpec/properties/{key}"} for key in COMMON_KEYS}
    known = [
        _rule_schema(name, part, common, rule["required"], definitions)
        for name, part in conditions.items()
    ]
    other = {"type": "string", "not": {"enum": list(conditions)}}
    unknown = {
        "type": "object",
        "properties": common | {"require": other},
        "required": rule["required"],
    }
    schema["properties"]["rules"]["items"] = {"oneOf": [*known, unknown]}
    names = {"require": {"enum": list(conditions)}}
    schema |= _unless_plugins({"properties": {"rules": {"items": {"properties": names}}}})
    return schema


def scorecard_schema() -> Schema:
    """Return the schema of ``scorecard.json``."""
    return _titled(Scorecard, "evalkit scorecard", mode="serialization")


def verdict_schema() -> Schema:
    """Return the schema of ``verdict.json``."""
    return _titled(Verdict, "evalkit verdict", mode="serialization")


def _titled(model: type[BaseModel], title: str, **how: Any) -> Schema:  # noqa: ANN401 - pydantic's own arguments
    return {"$schema": DIALECT, "title": title, **_plain(model.model_json_schema(**how))}


def _plain(schema: Schema) -> Schema:
    """Return a schema without what pydantic adds for other readers than people."""
    kept: Schema = {}
    for key, value in schema.items():
        if key in ("properties", "$defs"):
            kept[key] = {name: _plain(inner) for name, inner in value.items()}
        elif key in ("title", "discriminator") or (key == "default" and value is None):
            continue
        elif key == "description":
            kept[key] = " ".join(value.replace("``", "`").split())
        elif isinstance(value, dict):
            kept[key] = _plain(value)
        elif isinstance(value, list):
            kept[key] = [_plain(inner) if isinstance(inner, dict) else inner for inner in value]
        else:
            kept[key] = value
    return kept


def _given(key: str) -> Schema:
    """Return what holds where a key is written and not empty."""
    return {"required": [key], "properties": {key: {"not": {"type": "null"}}}}


def _unless_plugins(rest: Schema) -> Schema:
    """Return what adds ``rest`` to files that name no plug-ins."""
    named = {"required": ["plugins"], "properties": {"plugins": {"type": "array", "minItems": 1}}}
    return {"if": named, "else": rest}


def _options_schema(part: Part, definitions: Schema) -> Schema:
    """Return the schema of a part's options; move the definitions it rests on to ``definitions``."""
    options: type[Spec] = part.make.Options
    schema = _plain(options.model_json_schema(ref_template=f"#/$defs/{part.name}.{{model}}"))
    for name, inner in schema.pop("$defs", {}).items():
        definitions[f"{part.name}.{name}"] = inner
    return schema


def _needs_options(part: Part) -> bool:
    return any(field.is_required() for field in part.make.Options.model_fields.values())


def _metric_schema(definitions: Schema) -> Schema:
    """Return the schema of one entry of ``metrics``: a name, or one name with its options."""
    options: Schema = {}
    for name, part in parts("metric").items():
        options[name] = _options_schema(part, definitions) | {"description": part.summary}
        if not _needs_options(part):
            options[name]["type"] = ["object", "null"]
    incomplete = [name for name, part in parts("metric").items() if _needs_options(part)]
    return {
        "description": "A metric's name, or one name with its options.",
        "anyOf": [
            {"type": "string", "not": {"enum": incomplete}},
            {
                "type": "object",
                "properties": options,
                "additionalProperties": {"type": ["object", "null"]},
                "minProperties": 1,
                "maxProperties": 1,
            },
        ],
    }


def _known_metric(kind: str) -> Schema:
    """Return the schema of the entries of ``metrics`` that name a known metric for a kind of task."""
    fitting: Mapping[str, Part] = {n: p for n, p in parts("metric").items() if kind in p.make.kinds}
    names = [{"const": name, "description": part.summary} for name, part in fitting.items()]
    return {
        "anyOf": [{"oneOf": names}, {"type": "object", "propertyNames": {"enum": list(fitting)}}]
    }


def _known_metrics() -> list[Schema]:
    """Return what holds for the metrics of tasks, kind by kind."""
    rules = []
    for kind, task in TASKS.items():
        is_kind: Schema = {"properties": {"kind": {"const": kind}}}
        if task.model_fields["kind"].is_required():
            is_kind["required"] = ["kind"]
        metrics = {"items": {"$ref": f"#/$defs/{kind}_metric"}}
        rules.append({"if": is_kind, "then": {"properties": {"metrics": metrics}}})
    return rules


def _rule_schema(
    name: str, part: Part, common: Schema, required: list[str], definitions: Schema
) -> Schema:
    """Return the schema of rules that require one condition."""
    options = _options_schema(part, definitions)
    own = {"require": {"const": name, "description": part.summary}, **options.get("properties", {})}
    return {
        "description": part.summary,
        "type": "object",
        "properties": common | own,
        "required": [*required, *options.get("required", [])],
        "additionalProperties": False,
    }
