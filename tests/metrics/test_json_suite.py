"""Verdicts on the official JSON-Schema-Test-Suite and on labelled real schemas."""

from __future__ import annotations

import gzip
import json
from collections import Counter

import jsonschema
import pytest

from evalkit.metrics.structure import build_validator

DRAFTS = {
    "draft2020-12": "https://json-schema.org/draft/2020-12/schema",
    "draft7": "http://json-schema.org/draft-07/schema#",
}


@pytest.fixture(scope="module")
def remotes(shared_data):
    """The documents that the suite serves at http://localhost:1234."""
    folder = shared_data / "jsonschema_suite" / "remotes"
    return {
        f"http://localhost:1234/{file.relative_to(folder).as_posix()}": json.loads(
            file.read_text(encoding="utf-8")
        )
        for file in folder.rglob("*.json")
    }


# Cases in JSON-Schema-Test-Suite at commit 44401e0.
@pytest.mark.parametrize(
    ("draft", "optional", "cases"),
    [
        ("draft2020-12", False, 1299),
        ("draft2020-12", True, 926),
        ("draft7", False, 927),
        ("draft7", True, 794),
    ],
)
def test_every_case_of_the_official_suite_gets_its_published_verdict(
    shared_data, remotes, draft, optional, cases
):
    folder = shared_data / "jsonschema_suite" / "tests" / draft
    files = sorted((folder / "optional").rglob("*.json") if optional else folder.glob("*.json"))
    verdicts, wrong = 0, []
    for file in files:
        for group in json.loads(file.read_text(encoding="utf-8")):
            schema = group["schema"]
            if isinstance(schema, dict):  # the folder names the draft where the schema does not
                schema = {"$schema": DRAFTS[draft], **schema}
            validator = build_validator(
                schema,
                assert_format=True if file.parent.name == "format" else None,
                retrieve=lambda uri: remotes[uri.split("#")[0]],
            )
            for case in group["tests"]:
                verdicts += 1
                if validator.is_valid(case["data"]) != case["valid"]:
                    wrong.append((file.name, group["description"], case["description"]))
    assert wrong == []
    assert verdicts == cases


@pytest.fixture(scope="module")
def bench(shared_data):
    with gzip.open(
        shared_data / "jsonschemabench" / "handover.jsonl.gz", "rt", encoding="utf-8"
    ) as lines:
        return [json.loads(line) for line in lines]


def test_every_labelled_instance_of_jsonschemabench_gets_its_label(bench):
    verdicts = Counter()
    for entry in bench:
        validator = build_validator(entry["schema"])
        for case in entry["tests"]:
            verdicts[case["valid"], validator.is_valid(case["data"])] += 1
    assert len(bench) == 441
    assert verdicts == {(True, True): 649, (False, False): 979}


def test_without_formats_every_verdict_on_jsonschemabench_is_that_of_the_jsonschema_package(bench):
    """Without formats, because that package checks only those whose optional libraries are installed."""
    differing, fewer_refused = [], 0
    for entry in bench:
        validator = build_validator(entry["schema"], assert_format=False)
        kind = jsonschema.validators.validator_for(
            entry["schema"], default=jsonschema.Draft202012Validator
        )
        other = kind(entry["schema"])
        for number, case in enumerate(entry["tests"]):
            verdict = validator.is_valid(case["data"])
            fewer_refused += verdict and not case["valid"]
            if verdict != other.is_valid(case["data"]):
                differing.append((entry["id"], number))
    assert differing == []
    assert fewer_refused > 0  # formats are asserted in the labels, so leaving them out must show
