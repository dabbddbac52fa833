"""Loading suite files: what they may say, and every way to say it wrongly."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loader_goldens import assert_golden

from evalkit.errors import UsageError
from evalkit.identity import digest
from evalkit.loaders.suites import load_suite
from evalkit.loaders.yaml_source import read_yaml
from evalkit.records.suite import GenerateTask, MultipleChoiceTask, PerplexityTask

MISTAKES = Path(__file__).parent / "many_mistakes"

GENERATE = """
suite: s
version: 1
tasks:
  - name: t
    dataset: {path: rows.jsonl}
    prompt: "{{ text }}"
    target: "{{ target }}"
    metrics: [exact_match]
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"id": 1, "text": "a", "target": "b"}\n')
    return tmp_path


@pytest.fixture
def load(folder):
    def load(text: str):
        path = folder / "suite.yaml"
        path.write_text(dedent(text))
        return load_suite(path).spec

    return load


@pytest.fixture
def problems(load, folder):
    def problems(text: str) -> list[str]:
        with pytest.raises(UsageError) as caught:
            load(text)
        return [str(p).replace(f"{folder}/", "") for p in caught.value.problems]

    return problems


def with_task(**keys: str) -> str:
    """Return a suite of one task whose keys are replaced; an empty text removes one."""
    task = {
        "name": "t",
        "dataset": "{path: rows.jsonl}",
        "prompt": "x",
        "target": "y",
        "metrics": "[exact_match]",
    }
    lines = [f"    {key}: {value}" for key, value in (task | keys).items() if value]
    return "suite: s\nversion: 1\ntasks:\n  -\n" + "\n".join(lines) + "\n"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 100)
    | st.floats(-2, 200)
    | st.sampled_from(["", "x", "rows.jsonl"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["path", "name", "x"]), inner, max_size=2)
    ),
    max_leaves=4,
)
QUICKSTART = Path(__file__).parents[2] / "suites" / "quickstart" / "suite.yaml"


def places(value, path=()):
    """Yield the path of every value in a document."""
    inside = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in inside:
        yield (*path, key)
        yield from places(inner, (*path, key))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_whatever_stands_in_place_of_a_value_gives_a_suite_or_problems_with_lines(
    data, tmp_path_factory
):
    document = read_yaml(QUICKSTART).value
    for _ in range(data.draw(st.integers(1, 3))):
        *path, last = data.draw(st.sampled_from(list(places(document))))
        here = document
        for step in path:
            here = here[step]
        here[last] = data.draw(JSON)
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(json.dumps(document))
    try:
        load_suite(file)
    except UsageError as error:
        assert error.problems
        assert all(problem.line for problem in error.problems)


def test_a_file_full_of_mistakes_tells_them_all_at_once(monkeypatch):
    monkeypatch.chdir(MISTAKES)
    with pytest.raises(UsageError) as caught:
        load_suite(Path("suite.yaml"))
    assert_golden(MISTAKES / "suite.txt", f"{caught.value}\n")
    text = str(caught.value)
    for jargon in ("pydantic", "Input should", "validation", "http", "tuple[", "dict[", "NoneType"):
        assert jargon not in text


def test_mistakes_are_told_in_the_order_of_the_file(monkeypatch):
    monkeypatch.chdir(MISTAKES)
    with pytest.raises(UsageError) as caught:
        load_suite(Path("suite.yaml"))
    lines = [problem.line for problem in caught.value.problems]
    assert lines == sorted(lines)
    assert None not in lines


# --- what a file says ------------------------------------------------------------------------------------------


def test_a_task_without_a_kind_generates(load):
    (task,) = load(GENERATE).tasks
    assert isinstance(task, GenerateTask)
    assert task.metrics[0].name == "exact_match"
    assert task.metrics[0].options == {}


def test_each_kind_of_task_has_its_metrics_by_default(load):
    spec = load("""
        suite: s
        version: 2026-11
        tasks:
          - {name: q, kind: multiple_choice, dataset: {path: rows.jsonl}, prompt: x, choices: [a, b], target: "0"}
          - {name: p, kind: perplexity, dataset: {path: rows.jsonl}, text: "{{ text }}"}
    """)
    assert [type(task) for task in spec.tasks] == [MultipleChoiceTask, PerplexityTask]
    assert [task.metrics[0].name for task in spec.tasks] == ["multiple_choice", "perplexity"]
    assert spec.version == "2026-11"


def test_a_metric_is_written_by_name_or_with_its_options(load):
    metrics = "[exact_match, {contains: {ignore_case: true}}, {squad: }, {numeric: {}}]"
    (task,) = load(with_task(metrics=metrics)).tasks
    assert [(m.name, m.options) for m in task.metrics] == [
        ("exact_match", {}),
        ("contains", {"ignore_case": True}),
        ("squad", {}),
        ("numeric", {}),
    ]


def test_a_json_schema_named_by_path_is_read_in_so_that_its_content_counts(load, folder):
    schema = folder / "order.json"
    schema.write_text('{"type": "object"}')
    by_path = load(with_task(metrics="[{json_schema: {schema: order.json}}]"))
    in_place = load(with_task(metrics="[{json_schema: {schema: {type: object}}}]"))
    assert by_path.tasks[0].metrics[0].options == {"schema": {"type": "object"}}
    assert digest(by_path.model_dump(mode="json")) == digest(in_place.model_dump(mode="json"))
    schema.write_text('{"type": "array"}')
    changed = load(with_task(metrics="[{json_schema: {schema: order.json}}]"))
    assert digest(changed.model_dump(mode="json")) != digest(by_path.model_dump(mode="json"))


def test_the_same_file_gives_the_same_digest_wherever_it_lies(tmp_path):
    digests = set()
    for name in ("here", "there"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "rows.jsonl").write_text("{}\n")
        (folder / "suite.yaml").write_text(GENERATE)
        loaded = load_suite(folder / "suite.yaml")
        assert loaded.folder == folder
        digests.add(digest(loaded.spec.model_dump(mode="json")))
    assert len(digests) == 1


def test_words_that_yaml_1_1_took_for_truth_values_are_texts(load):
    (task,) = load(with_task(target="no", slices="[y, on]")).tasks
    assert task.target == "no"
    assert task.slices == ("y", "on")


def test_the_quickstart_loads(root):
    loaded = load_suite(root / "suites" / "quickstart" / "suite.yaml")
    assert loaded.spec.suite == "quickstart"


# --- what is wrong ---------------------------------------------------------------------------------------------

# task keys that replace those of a right one, line, key inside the task, message
WRONG = [
    ({"name": '"two words"'}, 5, ".name", "found the text \"two words\"; allowed: a name of letters, digits, "
        "'_', '.' and '-', without spaces"),
    ({"decoding": "{max_tokens: 1.5}"}, 10, ".decoding.max_tokens", "found 1.5; allowed: a whole number"),
    ({"decoding": '{seed: "64"}'}, 10, ".decoding.seed", 'found the text "64"; allowed: a whole number'),
    ({"decoding": "{stop: [1]}"}, 10, ".decoding.stop[0]", "found 1; allowed: a text (in quotes)"),
    ({"decoding": "{stop: x}"}, 10, ".decoding.stop", 'found the text "x"; allowed: a list'),
    ({"decoding": "{top_p: 0}"}, 10, ".decoding.top_p", "found 0; allowed: a number above 0"),
    ({"decoding": "{replicates: 3}"}, 10, ".decoding",
        "replicates > 1 at temperature 0 would ask the same question again"),
    ({"slices": "[a, a]"}, 10, ".slices[1]", "the field 'a' is listed twice; allowed: each field once"),
    ({"kind": "generat"}, 10, ".kind", "found the text \"generat\"; did you mean 'generate'?; "
        "allowed: generate, multiple_choice, perplexity, counterfactual, spectral"),
    ({"kind": "5"}, 10, ".kind", "found 5; allowed: generate, multiple_choice, perplexity, counterfactual, spectral"),
    ({"kind": "[generate]"}, 10, ".kind", "found a list of 1; did you mean 'generate'?; "
        "allowed: generate, multiple_choice, perplexity, counterfactual, spectral"),
    ({"prompt": ""}, 5, "", "a task needs exactly one of 'prompt' and 'messages'"),
    ({"target": "[1]"}, 8, ".target[0]", "found 1; allowed: a text (in quotes)"),
    ({"target": "{a: b}"}, 8, ".target", "found keys with values (a); allowed: a text or a list"),
    ({"target": "", "fewshot": "{dataset: {path: rows.jsonl}}", "metrics": "[{json_schema: {schema: true}}]"}, 9,
        ".fewshot", "worked examples show their answers, and the task has no target; "
        "allowed: a task with 'target' or 'targets'"),
    ({"targets": "answers"}, 5, "", "give 'target' (templates) or 'targets' (a field with a list), not both"),
    ({"dataset": "{}"}, 6, ".dataset",
        "a data set needs exactly one of 'path' (a file) and 'name' (Hugging Face)"),
    ({"dataset": "rows.jsonl"}, 6, ".dataset", 'found the text "rows.jsonl"; allowed: keys with values'),
    ({"dataset": "{path: .}"}, 6, ".dataset.path", "'.' is a folder; allowed: a file"),
    ({"dataset": f"{{path: {'x' * 300}.csv}}"}, 6, ".dataset.path",
        f'found the text "{"x" * 58}…, which cannot be looked up: File name too long'),
    ({"dataset": "{path: suite.yaml}"}, 6, ".dataset.path",
        "the ending of 'suite.yaml' does not say what it is; allowed: 'format': jsonl or csv or parquet"),
    ({"dataset": "{name: squad, format: csv}"}, 6, ".dataset.format", "'format' goes with 'path', not with 'name'"),
    ({"metrics": "[squad, squad]"}, 9, ".metrics[1]", "the metric 'squad' is listed twice; allowed: each metric once"),
    ({"metrics": "[{squad: {reasonings: x}}]"}, 9, ".metrics[0].squad.reasonings",
        "unknown key; did you mean 'reasoning'?; allowed: reasoning"),
    ({"metrics": "[json_schema]"}, 9, ".metrics[0].schema", "the key is missing; "
        "allowed: The JSON Schema, written in place or as a path relative to the suite file"),
    ({"metrics": "[]"}, 9, ".metrics", "found a list of 0; allowed: at least 1 of them"),
    ({"metrics": "[[squad]]"}, 9, ".metrics[0]", "found a list of 1; "
        "allowed: a metric's name, or one name with its options: {name: {option: value}}"),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "line", "key", "message"), WRONG)
def test_a_single_mistake_gives_one_message_that_says_how_to_mend_it(
    problems, keys, line, key, message
):
    assert problems(with_task(**keys)) == [f"suite.yaml:{line}: tasks[0]{key}: {message}"]


def test_what_only_the_metric_can_tell_is_told(problems):
    (found,) = problems(with_task(metrics="[{json_schema: {schema: {type: objekt}}}]"))
    assert found.startswith(
        "suite.yaml:9: tasks[0].metrics[0].json_schema: no usable JSON Schema: "
    )
    assert "objekt" in found


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("tasks: []", "suite.yaml:3: tasks: found a list of 0; allowed: at least 1 of them"),
        ("tasks:", "suite.yaml:3: tasks: found nothing; allowed: a list"),
        ("", "suite.yaml:1: tasks: the key is missing; allowed: What is asked and measured"),
    ],
)
def test_a_suite_without_tasks_is_refused(problems, rest, message):
    assert problems(f"suite: s\nversion: 1\n{rest}\n") == [message]


def test_a_key_written_twice_is_a_mistake_by_itself(problems):
    assert problems(GENERATE.strip() + "\nversion: 1\n") == [
        "suite.yaml:9: version: the key is written twice, first on line 2"
    ]


def test_a_template_mistake_has_the_line_inside_the_block(problems):
    text = with_task(prompt="|\n      one\n      {% if x %}\n      {{ y }\n      {% endif %}")
    assert problems(text) == [
        "suite.yaml:10: tasks[0].prompt: this is no template: unexpected '}'; allowed: a Jinja2 template"
    ]


def test_a_template_mistake_in_a_quoted_text_has_its_line_in_the_message(problems):
    assert problems(with_task(prompt='"one\\n{{ y }"')) == [
        "suite.yaml:7: tasks[0].prompt: this is no template: unexpected '}' (line 2 of the template); "
        "allowed: a Jinja2 template"
    ]


def test_an_unknown_kind_does_not_hide_the_other_mistakes_of_its_task(problems):
    found = problems(with_task(kind="generte", seed="1"))
    assert [text.split(": ")[1] for text in found] == ["tasks[0].kind", "tasks[0].seed"]


def test_a_key_written_twice_is_told_and_its_first_value_checked(problems):
    found = problems("suite: two words\n" + GENERATE.strip().replace("suite: s", "suite: s") + "\n")
    assert [text.split("; ")[0] for text in found] == [
        'suite.yaml:1: suite: found the text "two words"',
        "suite.yaml:2: suite: the key is written twice, first on line 1",
    ]


# --- plug-ins --------------------------------------------------------------------------------------------------

PLUGIN = '''
from evalkit.metrics.base import Metric, mean
from evalkit.records.exchange import Score
from evalkit.records.suite import Spec
from evalkit.registry import register

class Options(Spec):
    word: str
    """The word to count."""

@register("metric", "loader_test_words", summary="Counts a word.", example="{loader_test_words: {word: x}}")
class Words(Metric):
    Options = Options
    columns = ("words",)
    measures = (mean("", column=0, unit="words"),)
    needs_target = False

    def __init__(self, name, options):
        super().__init__(name, options)
        if options.word == "broken":
            raise ValueError("nobody counts broken words")
        if options.word == "crash":
            raise KeyError("oops")
'''


def test_a_plugin_beside_the_suite_brings_its_own_metrics(load, problems, folder):
    (folder / "loader_test_plugin.py").write_text(PLUGIN)
    head = "plugins: [loader_test_plugin]\n"
    path_before = list(sys.path)
    spec = load(head + with_task(metrics="[{loader_test_words: {word: x}}]"))
    assert spec.tasks[0].metrics[0].options == {"word": "x"}
    assert sys.path == path_before
    assert problems(head + with_task(metrics="[{loader_test_words: {word: 1}}]")) == [
        "suite.yaml:10: tasks[0].metrics[0].loader_test_words.word: found 1; allowed: a text (in quotes)"
    ]
    assert problems(head + with_task(metrics="[{loader_test_words: {word: broken}}]")) == [
        "suite.yaml:10: tasks[0].metrics[0].loader_test_words: nobody counts broken words"
    ]
    assert problems(head + with_task(metrics="[{loader_test_words: {word: crash}}]")) == [
        "suite.yaml:10: tasks[0].metrics[0].loader_test_words: it cannot be set up: KeyError: 'oops'"
    ]


def test_a_plugin_that_fails_is_told_with_the_rest(problems, folder):
    (folder / "loader_test_failing.py").write_text("1 / 0\n")
    found = problems("plugins: [loader_test_failing]\n" + with_task(seed="1"))
    assert found[0].startswith(
        "suite.yaml:1: plugins[0]: plug-in 'loader_test_failing' cannot be imported: division by zero"
    )
    assert "tasks[0].seed: unknown key" in found[1]


def test_a_plugin_that_another_module_hides_is_told(problems, folder):
    (folder / "json.py").write_text(PLUGIN)
    found = problems("plugins: [json]\n" + with_task())
    assert found[0].startswith(
        "suite.yaml:1: plugins[0]: 'json' beside this file is hidden by another module"
    )


def test_two_suites_cannot_take_each_others_plugin(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rows.jsonl").write_text("{}\n")
        (tmp_path / name / "loader_test_shared.py").write_text("")
        (tmp_path / name / "suite.yaml").write_text("plugins: [loader_test_shared]\n" + with_task())
    load_suite(tmp_path / "one" / "suite.yaml")
    with pytest.raises(UsageError, match="hidden by another module of that name"):
        load_suite(tmp_path / "two" / "suite.yaml")


# --- how fast --------------------------------------------------------------------------------------------------


def test_loading_a_suite_imports_no_model_library(root):
    """``evalkit validate`` starts in well under half a second."""
    program = (
        "import sys, pathlib\n"
        "from evalkit.loaders.suites import load_suite\n"
        "load_suite(pathlib.Path(sys.argv[1]))\n"
        "heavy = 'torch transformers datasets pyarrow aiohttp sacrebleu pandas huggingface_hub scipy.stats'\n"
        "print(*[name for name in heavy.split() if name in sys.modules])\n"
    )
    suite = root / "suites" / "quickstart" / "suite.yaml"
    done = subprocess.run(
        [sys.executable, "-c", program, str(suite)],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
    )
    assert done.stdout.split() == []
