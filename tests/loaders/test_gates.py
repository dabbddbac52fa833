"""Loading gate files, and whether their rules can match what a suite yields."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest
from loader_goldens import assert_golden

from evalkit.errors import UsageError
from evalkit.gates.evaluate import matching
from evalkit.identity import digest
from evalkit.loaders.gate_fit import check_gates_against_suite
from evalkit.loaders.gates import load_gate
from evalkit.records.suite import GateSpec, SuiteSpec

MISTAKES = Path(__file__).parent / "many_mistakes"


@pytest.fixture
def gate(tmp_path):
    def gate(*rules: str) -> GateSpec:
        path = tmp_path / "gate.yaml"
        path.write_text("gate: g\nrules:\n" + "".join(f"  - {rule}\n" for rule in rules))
        return load_gate(path)

    return gate


@pytest.fixture
def problems(gate, tmp_path):
    def problems(*rules: str) -> list[str]:
        with pytest.raises(UsageError) as caught:
            gate(*rules)
        return [str(p).replace(f"{tmp_path}/", "") for p in caught.value.problems]

    return problems


def test_a_gate_full_of_mistakes_tells_them_all_at_once(monkeypatch):
    monkeypatch.chdir(MISTAKES)
    with pytest.raises(UsageError) as caught:
        load_gate(Path("gate.yaml"))
    assert_golden(MISTAKES / "gate.txt", f"{caught.value}\n")


def test_a_conditions_own_keys_stand_beside_the_common_ones(gate):
    (rule,) = gate(
        "{id: a, estimate: t/m, require: no_worse_than, margin: 0.02, severity: warn}"
    ).rules
    assert rule.options == {"margin": 0.02}
    assert rule.severity == "warn"
    assert rule.on_inconclusive == "inconclusive"


def test_a_loaded_gate_has_the_digest_of_what_it_says_and_not_of_where(gate):
    loaded = gate("{id: a, estimate: t/m, require: at_least, value: 1}")
    declared = GateSpec.model_validate(loaded.model_dump())
    assert digest(loaded.model_dump(mode="json")) == digest(declared.model_dump(mode="json"))


KEYS = "id, estimate, require, severity, on_inconclusive, on_missing, why, judge, value, exact"

# the rule's keys beside its id, key, message
WRONG = [
    ("estimate: t/m, require: at_least", "value",
        "the key is missing; allowed: The least allowed value, in the metric's unit"),
    ("estimate: t/m, require: at_least, value: 1, margin: 2", "margin", f"unknown key; allowed: {KEYS}"),
    ("estimate: t/m, require: at_least, value: yes", "value", 'found the text "yes"; allowed: a number'),
    ("estimate: m, require: at_least, value: 1", "estimate",
        "'m' names no metric; allowed: task/metric, task/metric.measure, task/metric@field=value"),
    ("estimate: m@a/b=c, require: at_least, value: 1", "estimate",
        "'m@a/b=c' names no metric; allowed: task/metric, task/metric.measure, task/metric@field=value"),
    ("estimate: t/m, require: [at_least], value: 1", "require", "found a list of 1; allowed: a text"),
    ("estimate: t/m, require: at_least, value: 1, options: {}", "options", f"unknown key; allowed: {KEYS}"),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "key", "message"), WRONG)
def test_a_single_mistake_gives_one_message(problems, keys, key, message):
    assert problems(f"{{id: a, {keys}}}") == [f"gate.yaml:3: rules[0].{key}: {message}"]


def test_a_gate_without_rules_is_refused(tmp_path):
    path = tmp_path / "gate.yaml"
    path.write_text("gate: g\nrules: []\n")
    with pytest.raises(UsageError, match="rules: found a list of 0; allowed: at least 1 of them"):
        load_gate(path)


# --- waivers ---------------------------------------------------------------------------------------------------

RULES = """
rules:
  - {id: valid, estimate: t/m, require: at_least, value: 1}
  - {id: slices, estimate: "t/m@region=*", require: at_least, value: 1}
"""
TODAY = date(2026, 11, 21)
WHO = "owner: Ada, reason: It ships tomorrow"


def with_waiver(tmp_path: Path, *waivers: str) -> Path:
    path = tmp_path / "gate.yaml"
    entries = "".join(f"  - {{{w}}}\n" if ":" in w else f"  - {w}\n" for w in waivers)
    path.write_text(f"gate: g\nwaivers:\n{entries}{RULES.lstrip()}")
    return path


@pytest.mark.parametrize("day", ["2026-11-21", "'2026-11-21'", '"2026-11-21"'])
def test_a_waiver_loads_with_its_day_in_quotes_or_without_until_that_day_is_over(tmp_path, day):
    path = with_waiver(tmp_path, f"rule: slices, slice: region=eu, {WHO}, expires: {day}")
    (waiver,) = load_gate(path, TODAY).waivers
    assert (waiver.slice, waiver.expires) == ("region=eu", TODAY)
    with pytest.raises(UsageError, match="the waiver expired on 2026-11-21; today is 2026-11-22"):
        load_gate(path, TODAY + timedelta(days=1))


def test_by_default_waivers_expire_by_todays_date(tmp_path):
    with pytest.raises(UsageError, match="expired on 2020-02-29"):
        load_gate(with_waiver(tmp_path, f"rule: valid, {WHO}, expires: 2020-02-29"))
    assert load_gate(with_waiver(tmp_path, f"rule: valid, {WHO}, expires: 9999-12-31")).waivers


A_DATE = "allowed: a date such as 2026-12-31"
# the waiver's keys beside owner and reason, key, message
WRONG_WAIVERS = [
    ("rule: vaild, expires: 2026-12-31", "rule",
        "no rule of this gate has the id 'vaild'; did you mean 'valid'?; allowed: valid, slices"),
    ("rule: valid, expires: 2026-11-20", "expires",
        "the waiver expired on 2026-11-20; today is 2026-11-21 (UTC); allowed: a later day, if its owner grants it, "
        "or no waiver"),
    ("rule: valid, expires: tomorrow", "expires", f'found the text "tomorrow"; {A_DATE}'),
    ("rule: valid, expires: 2026-13-01", "expires", f'found the text "2026-13-01"; {A_DATE}'),
    ("rule: valid, expires: 2026-02-29", "expires", f'found the text "2026-02-29"; {A_DATE}'),
    ("rule: valid, expires: 31.12.2026", "expires", f'found the text "31.12.2026"; {A_DATE}'),
    ("rule: valid, expires: 2026-12-31T00:00:00", "expires", f'found the text "2026-12-31T00:00:00"; {A_DATE}'),
    ("rule: valid, expires: '1798675200'", "expires", f'found the text "1798675200"; {A_DATE}'),
    ("rule: valid, expires: 20261231", "expires", f"found 20261231; {A_DATE}"),
    ("rule: valid, expires: null", "expires", f"found nothing; {A_DATE}"),
    ("rule: valid", "expires", "the key is missing; allowed: The last day on which it holds, such as 2026-12-31"),
    ("rule: valid, slice: region=eu, expires: 2026-12-31", "slice",
        "the rule matches no slice: its estimate is 't/m'; allowed: no slice: the waiver covers all that the rule "
        "matches"),
    ("rule: slices, slice: lang=en, expires: 2026-12-31", "slice",
        "'lang=en' is none of the slices that the rule matches; allowed: region=*"),
    ("rule: slices, slice: eu, expires: 2026-12-31", "slice", 'found the text "eu"; allowed: field=value'),
    ("rule: slices, slise: region=eu, expires: 2026-12-31", "slise",
        "unknown key; did you mean 'slice'?; allowed: rule, slice, owner, reason, expires"),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "key", "message"), WRONG_WAIVERS)
def test_a_single_mistake_in_a_waiver_gives_one_message(tmp_path, keys, key, message):
    path = with_waiver(tmp_path, f"{keys}, {WHO}")
    with pytest.raises(UsageError) as caught:
        load_gate(path, TODAY)
    assert [str(p) for p in caught.value.problems] == [f"{path}:3: waivers[0].{key}: {message}"]


def test_every_mistake_in_every_waiver_is_told_at_once(tmp_path):
    path = with_waiver(
        tmp_path, "rule: a, owner: ' ', reason: x, expires: 1", "valid", "rule: slices"
    )
    with pytest.raises(UsageError) as caught:
        load_gate(path, TODAY)
    told = [(p.line, p.key.removeprefix("waivers")) for p in caught.value.problems]
    assert sorted(told) == [
        (3, "[0].expires"), (3, "[0].owner"), (3, "[0].rule"), (4, "[1]"),
        (5, "[2].expires"), (5, "[2].owner"), (5, "[2].reason"),
    ]  # fmt: skip


# --- gates against a suite -------------------------------------------------------------------------------------

SUITE = SuiteSpec.model_validate(
    {
        "suite": "s",
        "version": 1,
        "tasks": [
            {
                "name": "extract",
                "kind": "generate",
                "dataset": {"path": "x.jsonl"},
                "prompt": "x",
                "target": "y",
                "slices": ["region", "lang"],
                "metrics": [
                    {"name": "exact_match"},
                    {"name": "json_schema", "options": {"schema": True}},
                    {"name": "rouge", "options": {"variants": ["rougeL"]}},
                ],
            },
            {"name": "fluency", "kind": "perplexity", "dataset": {"path": "x.jsonl"}, "text": "x"},
        ],
    }
)

FITTING = [
    "extract/exact_match", "extract/json_schema.valid", "extract/json_schema.*", "extract/rouge.rougeL", "*/*", "*",
    "extract/*@region=*", "extract/exact_match@region=north", "*/exact_match@lang=pt=br", "extract/*@*",
    "extract/exact_match@reg*", "extract/exact_match@*=north", "fluency/perplexity.*",
]  # fmt: skip


def rule(estimate: str) -> GateSpec:
    rules = ({"id": "a", "estimate": estimate, "require": "at_least", "options": {"value": 1}},)
    return GateSpec.model_validate({"gate": "g", "rules": rules})


@pytest.mark.parametrize("estimate", FITTING)
def test_a_rule_that_can_match_an_estimate_fits(estimate):
    assert check_gates_against_suite(SUITE, [rule(estimate)]) == []


NO = "no estimate of this suite is named"
NOT_FITTING = [
    ("extract/exact_mach", f"{NO} 'extract/exact_mach'", "extract/exact_match"),
    ("extrct/exact_match@region=*", f"{NO} 'extrct/exact_match'", "extract/exact_match@region=*"),
    ("extract/json_schema", f"{NO} 'extract/json_schema'", "extract/json_schema.valid"),
    ("extract/[e]xact_match", f"{NO} 'extract/[e]xact_match'", "extract/exact_match"),
    ("extract/rouge.rougeL@regions=a", "'extract/rouge.rougeL' is not sliced by 'regions'",
        "extract/rouge.rougeL@region=a"),
    ("extract/exact_match@region", "'extract/exact_match' is not sliced by 'region'", "extract/exact_match@region=*"),
    ("fluency/*@region=*", "'fluency/*' is not sliced by 'region'", ""),
]  # fmt: skip


@pytest.mark.parametrize(("estimate", "message", "nearest"), NOT_FITTING)
def test_a_rule_that_can_match_nothing_is_told_with_the_nearest_name(estimate, message, nearest):
    (problem,) = check_gates_against_suite(SUITE, [rule(estimate)])
    assert (problem.message, problem.nearest) == (message, nearest)
    assert problem.allowed


def waived(estimate: str, slice_: str | None, **changes: str) -> GateSpec:
    spec = rule(estimate).model_dump() | {
        "waivers": [
            {
                "rule": "a",
                "slice": slice_,
                "owner": "Ada",
                "reason": "x",
                "expires": "2026-12-31",
                **changes,
            }
        ]
    }
    return GateSpec.model_validate(spec)


@pytest.mark.parametrize("slice_", ["region=north", "lang=pt=br", None])
def test_a_waiver_of_a_slice_that_the_suite_has_fits(slice_):
    assert check_gates_against_suite(SUITE, [waived("extract/*@*", slice_)]) == []


def test_a_waiver_of_a_slice_that_the_suite_has_not_is_told_with_the_nearest_name():
    (problem,) = check_gates_against_suite(SUITE, [waived("extract/*@*", "regoin=north")])
    assert str(problem) == (
        "gate g: waivers[0].slice: 'extract/*' is not sliced by 'regoin'; did you mean 'region=north'?; "
        "allowed: lang=…, region=…"
    )


def test_a_misfit_rule_is_told_once_and_not_again_for_its_waiver():
    (problem,) = check_gates_against_suite(SUITE, [waived("nowhere/*@*", "regoin=north")])
    assert problem.key == "rules[0].estimate"


def test_a_waivers_misfit_is_told_with_its_line(tmp_path):
    path = with_waiver(tmp_path, f"rule: all, slice: regoin=eu, {WHO}, expires: 9999-12-31")
    path.write_text(
        f'{path.read_text()}  - {{id: all, estimate: "*@*", require: at_least, value: 1}}\n'
    )
    found = check_gates_against_suite(SUITE, [load_gate(path)])
    assert (3, "waivers[0].slice") in [(problem.line, problem.key) for problem in found]


@pytest.mark.parametrize("estimate", FITTING)
def test_what_fits_is_what_the_gate_will_match(estimate):
    slices = ["", "@region=north", "@lang=pt=br"]
    names = [
        f"extract/{m}{s}"
        for m in ("exact_match", "json_schema.valid", "rouge.rougeL")
        for s in slices
    ]
    assert matching(estimate, [*names, "fluency/perplexity.bits_per_byte"])


def test_a_misfit_is_told_with_the_line_of_its_rule(tmp_path):
    path = tmp_path / "gate.yaml"
    path.write_text(
        "gate: g\nrules:\n  - id: a\n    require: at_least\n    estimate: extract/exact\n    value: 1\n"
    )
    (problem,) = check_gates_against_suite(SUITE, [load_gate(path)])
    assert (problem.file, problem.line, problem.key) == (str(path), 5, "rules[0].estimate")


def test_the_quickstart_gate_fits_its_suite(root):
    from evalkit.loaders.suites import load_suite

    suite = load_suite(root / "suites" / "quickstart" / "suite.yaml").spec
    assert check_gates_against_suite(suite, [load_gate(root / "gates" / "quickstart.yaml")]) == []


# --- rules on what judges give ---------------------------------------------------------------------------------

JUDGED = SuiteSpec.model_validate(
    {
        "suite": "s",
        "version": 1,
        "judges": {
            "q": {"judge": "q", "model": "m", "criteria": "c"},
            "p": {"judge": "p", "model": "m", "criteria": "c", "form": "pairwise"},
        },
        "tasks": [
            {
                "name": "write",
                "kind": "generate",
                "dataset": {"path": "x.jsonl"},
                "prompt": "x",
                "target": "y",
                "slices": ["region"],
                "metrics": [
                    {"name": "exact_match"},
                    {"name": "judged", "options": {"judge": "q"}},
                    {"name": "preferred", "options": {"judge": "p"}},
                ],
            },
        ],
    }
)


def judged_rule(estimate: str, require: str = "at_least", **changes) -> GateSpec:
    options = {"value": 0.5} if require == "at_least" else {"margin": 0.02}
    one = {"id": "a", "estimate": estimate, "require": require, "options": options, **changes}
    return GateSpec.model_validate({"gate": "g", "rules": (one,)})


@pytest.mark.parametrize("estimate", ["write/preferred.win_rate", "write/pref*@region=*"])
def test_a_rule_that_compares_a_win_rate_with_the_baseline_is_refused_with_what_to_write(estimate):
    (problem,) = check_gates_against_suite(JUDGED, [judged_rule(estimate, "no_worse_than")])
    assert problem.key == "rules[0].require"
    assert "the candidate against the baseline already" in problem.message
    assert "at_least on write/preferred.win_rate" in problem.allowed


@pytest.mark.parametrize("estimate", ["write/exact_match", "write/exact_match@region=eu"])
def test_demands_on_a_judge_that_gives_nothing_are_refused(estimate):
    (problem,) = check_gates_against_suite(JUDGED, [judged_rule(estimate, judge={"labels": 50})])
    assert (problem.key, "given by no judge" in problem.message) == ("rules[0].judge", True)
    assert "write/judged.score" in problem.allowed


@pytest.mark.parametrize(
    "gate",
    [
        judged_rule("write/preferred.win_rate", judge={"labels": 50}),
        judged_rule("write/judged.score", "no_worse_than", judge={"labels": 50}),
        judged_rule("write/judged.score@region=eu", judge={"labels": 50}),
        judged_rule("write/*", "no_worse_than"),
        judged_rule("write/*", judge={"labels": 50}),
    ],
)
def test_rules_that_a_judged_number_can_decide_fit(gate):
    assert check_gates_against_suite(JUDGED, [gate]) == []
