"""Reading YAML: what values mean, where they stand, and what is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evalkit.errors import UsageError
from evalkit.loaders.yaml_source import YamlSource, read_yaml


@pytest.fixture
def read(tmp_path):
    def read(text: str | bytes) -> YamlSource:
        path = tmp_path / "file.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_yaml(path)

    return read


def refused(read, text: str | bytes) -> str:
    with pytest.raises(UsageError) as caught:
        read(text)
    assert caught.value.problems, "a problem has a place"
    return str(caught.value).replace(caught.value.problems[0].file, "file.yaml")


# --- what must not be read -------------------------------------------------------------------------------------

REFUSED = [
    ("", "file.yaml:1: the file holds nothing; allowed: keys with values (key: value)"),
    ("# a remark\n", "file.yaml:1: the file holds nothing; allowed: keys with values (key: value)"),
    ("---\n...\n", "file.yaml:2: the file holds nothing; allowed: keys with values (key: value)"),
    ("\n- a\n", "file.yaml:2: the file holds a list; allowed: keys with values (key: value)"),
    ("just words", "file.yaml:1: the file holds a text; allowed: keys with values (key: value)"),
    ("a:\n\tb: 1\n", "file.yaml:2: a tab indents this line; allowed: spaces"),
    (
        "a: b\n---\nc: d\n",
        "file.yaml:2: a second document begins here; allowed: one document in a file",
    ),
    ("a: &x [*x]", "file.yaml:1: the alias *x stands for a value that contains it"),
    ("a: @x", "file.yaml:1: a text cannot begin with '@'; allowed: the text in quotes"),
    (
        "a: b: c",
        "file.yaml:1: a second ': ' on one line, or a line indented too far; "
        "allowed: a text with ': ' in quotes; keys of one mapping indented alike",
    ),
    (
        "a:\n  - [1,\n  2\nb: 3",
        "file.yaml:4: this is not YAML: expected ',' or ']', but got ':' "
        "(parsing a flow sequence, begun on line 2)",
    ),
    (
        "a: 'x",
        "file.yaml:1: this is not YAML: found unexpected end of stream (scanning a quoted scalar)",
    ),
    ("ok: 1\na: \x01", "file.yaml:2: the character U+0001 is not allowed in YAML"),
    (b"ok: 1\na: caf\xe9", "file.yaml:2: the byte 0xe9 is not UTF-8; allowed: a file in UTF-8"),
    ("a: 1".encode("utf-16"), "file.yaml:1: the byte 0xff is not UTF-8; allowed: a file in UTF-8"),
    ("[" * 3000, "file.yaml:1: lists and mappings are nested more than 64 levels deep"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_what_is_no_declaration_is_refused_with_its_line(read, text, message):
    assert refused(read, text) == message


def test_aliases_cannot_make_a_small_file_large(read):
    # The "billion laughs": each line holds the one before ten times.
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert "aliases stand for more than 100000 values" in refused(read, "\n".join(lines))


def test_aliases_cannot_make_a_flat_file_deep(read):
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 3000)]
    assert "nested more than 64 levels deep" in refused(read, "\n".join(lines))


def test_a_file_of_the_wrong_kind_is_refused_before_it_is_read(tmp_path):
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_yaml(tmp_path / "absent.yaml")
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        read_yaml(tmp_path)
    large = tmp_path / "model.safetensors"
    with large.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UsageError, match="larger than 4 MiB"):
        read_yaml(large)


# --- mistakes that leave the rest readable ---------------------------------------------------------------------

MISTAKES = [
    ("a: 1\nb: 2\na: 3\n", "file.yaml:3: a: the key is written twice, first on line 1"),
    ("a:\n  - {b: 1, b: 2}\n", "file.yaml:2: a[0].b: the key is written twice, first on line 2"),
    ("a: {01: x}", 'file.yaml:1: a: the key 01 is not a text; allowed: the key in quotes: "01"'),
    ("a: {1: x, '1': y}", "file.yaml:1: a.1: the key is written twice, first on line 1"),
    ("1: a", 'file.yaml:1: the key 1 is not a text; allowed: the key in quotes: "1"'),
    (
        "a: {true: x}",
        'file.yaml:1: a: the key true is not a text; allowed: the key in quotes: "true"',
    ),
    (
        "prompt: {{ text }}",
        "file.yaml:1: prompt: a mapping stands where a key belongs; "
        'allowed: a text that begins with "{" or "{{" in quotes',
    ),
    ("a: *b", "file.yaml:1: a: the alias *b stands for nothing; allowed: an anchor &b above it"),
    (
        "a: !!python/object/apply:os.system [ls]",
        "file.yaml:1: a: the tag !!python/object/apply:os.system is not allowed here; allowed: plain values",
    ),
    ("a: !secret b", "file.yaml:1: a: the tag !secret is not allowed here; allowed: plain values"),
    ("a: .nan", "file.yaml:1: a: .nan is not a finite number"),
    ("a: [1, -.Inf]", "file.yaml:1: a[1]: -.Inf is not a finite number"),
    ("a: 1e999", "file.yaml:1: a: 1e999 is not a finite number"),
    ("a: " + "9" * 5000, "file.yaml:1: a: a number of 5000 digits is too long"),
    ('a: "\\ud800"', "file.yaml:1: a: the text holds half a character (a lone surrogate escape)"),
    (
        "a: {<<: 3}",
        "file.yaml:1: a: '<<' merges something that is no mapping; allowed: an alias of a mapping",
    ),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_a_mistake_is_noted_and_reading_goes_on(read, text, message):
    source = read(f"{text}\nafter: here\n")
    assert [str(p).replace(p.file, "file.yaml") for p in source.problems] == [message]
    assert source.value["after"] == "here"


def test_every_mistake_of_a_file_is_noted_not_the_first(read):
    source = read("a: 1\na: 2\nb: .inf\n3: c\n")
    assert [problem.line for problem in source.problems] == [2, 3, 4]


# --- what values mean ------------------------------------------------------------------------------------------

# YAML 1.2.2, section 10.3.2 and example 10.9; the right column is what the core schema resolves them to.
SCALARS = [
    ("null", None), ("Null", None), ("~", None), ("", None), ("nULL", "nULL"),
    ("true", True), ("FALSE", False), ("yes", "yes"), ("no", "no"), ("on", "on"), ("y", "y"), ("tRUE", "tRUE"),
    ("0", 0), ("012", 12), ("-19", -19), ("+7", 7), ("0o7", 7), ("0x3A", 58), ("1_000", "1_000"), ("0b1", "0b1"),
    ("0.", 0.0), ("-0.0", -0.0), (".5", 0.5), ("+12e03", 12000.0), ("-2E+05", -200000.0), ("1e3", 1000.0),
    ("2026-11-20", "2026-11-20"), ("12:30:45", "12:30:45"), ("1.2.3", "1.2.3"), ("=", "="),
    ("'1'", "1"), ('"true"', "true"), ("!!str 1", "1"), ("! 1", "1"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_scalars_mean_what_the_core_schema_of_yaml_1_2_says(read, text, value):
    found = read(f"key: {text}\n").value["key"]
    assert found == value
    assert type(found) is type(value)


def test_a_version_directive_does_not_bring_back_yaml_1_1(read):
    assert read("%YAML 1.1\n---\na: yes\n").value == {"a": "yes"}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=50), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    document=st.dictionaries(st.text(max_size=50), JSON, max_size=5),
    indent=st.sampled_from([None, 1, 2]),
)
def test_every_json_object_reads_as_itself(read, document, indent):
    """YAML 1.2 is a superset of JSON."""
    source = read(json.dumps(document, indent=indent))
    assert source.value == document
    assert source.problems == ()


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    text=st.text(alphabet="ab:-?[]{}&*!|>'\"%@`#,\\xuU0 \n\t<1.~\ud7ff€") | st.binary(max_size=40)
)
def test_any_bytes_at_all_give_values_or_a_problem_with_a_place(read, text):
    try:
        source = read(text)
    except UsageError as error:
        assert error.problems
    else:
        json.dumps(source.value, allow_nan=False).encode()


def test_a_byte_order_mark_is_no_part_of_the_first_key(read):
    assert read(b"\xef\xbb\xbfsuite: x\n").value == {"suite": "x"}


def test_merge_keys_fill_in_what_is_not_written_in_place(read):
    text = "base: &b {x: 1, y: 2}\nother: {<<: *b, y: 3}\nboth:\n  <<: [*b, {y: 9, z: 4}]\n"
    value = read(text).value
    assert value["other"] == {"x": 1, "y": 3}
    assert value["both"] == {"x": 1, "y": 2, "z": 4}


def test_a_value_that_two_aliases_stand_for_is_two_values(read):
    value = read("a: &x [1]\nb: *x\n").value
    value["b"].append(2)
    assert value["a"] == [1]


# --- where values stand ----------------------------------------------------------------------------------------


def test_every_value_knows_the_line_of_its_key_or_entry(read):
    text = "a:\n  - b: 1\n    c:\n      d: [x,\n          y]\n  - >\n    folded\nbase: &k\n  q: 1\nuse: *k\n"
    lines = read(text).lines
    assert lines.at(("a",)).line == 1
    assert lines.at(("a", 0, "b")).line == 2
    assert lines.at(("a", 0, "c", "d", 1)).line == 5
    assert lines.at(("a", 1)).line == 6
    assert lines.at(("use",)).line == 10
    assert lines.at(("use", "q")).line == 9  # where it is written


def test_a_path_that_is_not_written_has_the_line_of_what_is_around_it(read):
    lines = read("a:\n\n  b: {c: 1}\n").lines
    assert lines.at(("a", "b", "absent", 3)).line == 3


def test_a_block_of_text_knows_its_first_line(read):
    lines = read("a: x\nprompt: |\n  one\n  two\n").lines
    assert lines.at(("prompt",)).text == 3
    assert lines.at(("a",)).text is None


def test_a_file_of_hundreds_of_tasks_is_read_in_a_moment(read):
    task = '  - {name: t%d, dataset: {path: data/x.jsonl}, prompt: "{{ text }}", metrics: [exact_match]}\n'
    source = read("tasks:\n" + "".join(task % n for n in range(500)))
    assert source.lines.at(("tasks", 499, "prompt")).line == 501
