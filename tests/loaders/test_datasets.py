"""Data sets: the same rows from every format, and what happens to files that are not what they should be."""

from __future__ import annotations

import csv
import datetime
import decimal
import hashlib
import io
import json
import sys
import tracemalloc
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from evalkit.errors import RunError, UsageError
from evalkit.loaders.datasets import open_dataset
from evalkit.records.suite import DatasetSpec

ROWS = [
    {"id": "a", "text": "one"},
    {"id": "b", "text": 'two, "quoted"\nand é'},
    {"id": "c", "text": "三"},
]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def opened(tmp_path):
    def opened(name: str, content: bytes | str, **spec):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return open_dataset(DatasetSpec(path=name, **spec), tmp_path, sha256)

    return opened


def as_jsonl(rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def as_csv(rows) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_parquet(rows, **columns) -> bytes:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    buffer = io.BytesIO()
    parquet.write_table(
        pa.Table.from_pylist(rows) if rows else pa.table(columns), buffer, row_group_size=2
    )
    return buffer.getvalue()


# --- one contract over every format ----------------------------------------------------------------------------

FORMATS = {"rows.jsonl": as_jsonl, "rows.csv": as_csv, "rows.parquet": as_parquet}


@pytest.fixture(params=FORMATS)
def source(request, opened):
    def source(**spec):
        return opened(request.param, FORMATS[request.param](ROWS), **spec)

    return source


def test_every_format_gives_the_same_rows_as_often_as_asked(source):
    rows = source()
    assert [row for _, row in rows.rows()] == ROWS
    assert [row for _, row in rows.rows()] == ROWS
    assert rows.total == 3


def test_a_limit_takes_the_first_rows_and_is_part_of_the_digest(source):
    assert [row for _, row in source(limit=2).rows()] == ROWS[:2]
    assert [source(limit=n).total for n in (2, 9)] == [2, 3]
    assert len({source().digest, source(limit=2).digest, source(limit=9).digest}) == 3


def test_equal_bytes_give_equal_digests_and_other_bytes_do_not(source, opened):
    assert source().digest == source().digest
    assert source().digest != opened("other.jsonl", as_jsonl(ROWS[:2])).digest


def test_each_row_has_a_place_that_people_find(source):
    places = [place for place, _ in source().rows()]
    name = places[0].split(":")[0]
    # In the CSV the header is line 1 and the second record spans lines 3 and 4.
    expected = {"rows.csv": [2, 3, 5]}.get(name, [1, 2, 3])
    assert places == [f"{name}:{line}" for line in expected]


def test_a_format_can_be_named_where_the_ending_does_not_say_it(opened):
    assert [row for _, row in opened("rows.txt", as_jsonl(ROWS), format="jsonl").rows()] == ROWS
    with pytest.raises(UsageError, match="does not say what it is"):
        opened("rows.dat", as_jsonl(ROWS))


def test_the_way_of_reading_is_part_of_the_digest(opened):
    as_text = opened("rows.jsonl", "{}\n", format="csv")
    assert as_text.digest != opened("rows.jsonl", "{}\n").digest


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match=r"there is no file '.*absent\.csv'"):
        open_dataset(DatasetSpec(path="absent.csv"), tmp_path, sha256)


# --- JSONL -----------------------------------------------------------------------------------------------------

NO_JSON = "this is not JSON: "
NOT_FINITE = "JSON has no NaN, no infinity and no half characters: column "
NOT_ROWS = [
    (b'{"a": 1}\n{"a": \n', 2, NO_JSON),
    (b'{"a": NaN}\n', 1, NOT_FINITE),
    (b'{"a": -Infinity}\n', 1, NOT_FINITE),
    (b'{"a": 1e999}\n', 1, NOT_FINITE),
    (b'{"a": "\\ud800"}\n', 1, NOT_FINITE),
    (b'{}\n{"a": "caf\xe9"}\n', 2, "the byte 0xe9 at column 11 is not UTF-8"),
    ('{"a": 1}\n'.encode("utf-16"), 1, "the byte 0xff at column 1 is not UTF-8"),
    (b"[1, 2]\n", 1, "found a list"),
    (b"[\n{}\n]", 1, NO_JSON),
    (b'"a"\n', 1, "found a text"),
    (b"null\n", 1, "found null"),
    (b"12\n", 1, "found a number"),
    (b'{"a": 1} {"a": 2}\n', 1, NO_JSON),
    (b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}\n", 1, NO_JSON + "depth limit exceeded"),
    (b'{"a":' + b"[" * 1000 + b"1e19" + b"]" * 1000 + b"}\n", 1, "the object is nested too deeply"),
]


@pytest.mark.parametrize(("content", "line", "message"), NOT_ROWS)
def test_a_line_that_is_no_row_is_refused_with_its_place(opened, content, line, message):
    with pytest.raises(UsageError) as caught:
        list(opened("rows.jsonl", content).rows())
    (problem,) = caught.value.problems
    assert (Path(problem.file).name, problem.line) == ("rows.jsonl", line)
    assert problem.message.startswith(message)
    assert problem.allowed == "one JSON object per line"


def test_rows_before_a_broken_line_are_given(opened):
    rows = opened("rows.jsonl", '{"a": 1}\n{"a": 2}\nbroken\n').rows()
    assert [row for _, row in islice(rows, 2)] == [{"a": 1}, {"a": 2}]
    with pytest.raises(UsageError):
        next(rows)


def test_a_limit_does_not_read_what_lies_behind_it(opened):
    assert len(list(opened("rows.jsonl", '{"a": 1}\nbroken\n', limit=1).rows())) == 1


def test_byte_order_marks_blank_lines_and_windows_line_ends_are_no_rows(opened):
    source = opened("rows.jsonl", b'\xef\xbb\xbf{"a": 1}\r\n\r\n   \n{"a": 2}')
    assert list(source.rows()) == [("rows.jsonl:1", {"a": 1}), ("rows.jsonl:4", {"a": 2})]
    assert source.total == 2


def test_line_separators_inside_a_text_end_no_line(opened):
    row = {"a": "one\u2028two\u0085three"}
    assert [r for _, r in opened("rows.jsonl", json.dumps(row, ensure_ascii=False)).rows()] == [row]


def test_an_empty_file_has_no_rows(opened):
    source = opened("rows.jsonl", "")
    assert (list(source.rows()), source.total) == ([], 0)


NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=st.lists(st.dictionaries(st.text(), VALUES, max_size=4), max_size=5))
@example(rows=[{"id": 123456789012345678901}])  # beyond 64 bits
@example(rows=[{"a": {"b": [2**64 - 1, 2**64, -(2**63) - 1]}}])
def test_a_row_reads_as_json_says_it_to_the_last_digit(opened, rows):
    found = [row for _, row in opened("rows.jsonl", as_jsonl(rows)).rows()]
    assert json.dumps(found) == json.dumps(rows)


def test_memory_stays_bounded_over_a_large_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    line = json.dumps({"id": "x", "text": "word " * 200}).encode() + b"\n"
    with path.open("wb") as file:
        for _ in range(50):
            file.write(line * 1000)  # 50 MB in all
    source = open_dataset(DatasetSpec(path="rows.jsonl"), tmp_path, lambda path: "0" * 64)
    tracemalloc.start()
    count = sum(1 for _ in source.rows())
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 50_000
    assert peak_bytes < 2_000_000


# --- CSV -------------------------------------------------------------------------------------------------------

NOT_CSV = [
    ("", 1, "the file has no header row"),
    ("a,b,a\n", 1, "the header names a twice"),
    ("a,,b\n", 1, "a column has no name"),
    ("a,b\n1,2\n3\n", 3, "found 1 values for 2 columns"),
    ("a,b\n1,2,3\n", 2, "found 3 values for 2 columns"),
    ('a\n"x\ny"\n"open\n', 4, "this is not CSV: unexpected end of data"),
    ('a\n"x"y\n', 2, "this is not CSV: ',' expected after '\"'"),
    (b"a\nb\ncaf\xe9\n", 3, "the byte 0xe9 at column 4 is not UTF-8"),
]


@pytest.mark.parametrize(("content", "line", "message"), NOT_CSV)
def test_a_record_that_does_not_fit_is_refused_with_its_line(opened, content, line, message):
    source = opened("rows.csv", content)
    with pytest.raises(UsageError) as caught:
        list(source.rows())
    assert [(p.line, p.message) for p in caught.value.problems] == [(line, message)]
    assert source.total is None or source.total >= 0


def test_csv_values_are_texts_and_nothing_is_guessed(opened):
    source = opened("rows.csv", b"\xef\xbb\xbfid,n,ok\r\n007,1e3,true\r\n\r\n8,,NaN\r\n")
    assert list(source.rows()) == [
        ("rows.csv:2", {"id": "007", "n": "1e3", "ok": "true"}),
        ("rows.csv:4", {"id": "8", "n": "", "ok": "NaN"}),
    ]
    assert source.total == 2


def test_a_csv_value_may_be_a_whole_document(opened):
    text = "long " * 100_000
    assert [row for _, row in opened("rows.csv", as_csv([{"text": text}])).rows()] == [
        {"text": text}
    ]


# --- Parquet ---------------------------------------------------------------------------------------------------


def test_a_table_gives_what_json_can_say(opened):
    pa = pytest.importorskip("pyarrow")
    content = as_parquet(
        [],
        day=pa.array([datetime.date(2026, 11, 20)]),
        at=pa.array([datetime.datetime(2026, 11, 20, 12, 30)]),
        price=pa.array([decimal.Decimal("12.50")]),
        gap=pa.array([float("nan")]),
        many=pa.array([[1, None]]),
        nested=pa.array([{"x": 1.5, "y": ["z"]}]),
        big=pa.array([2**64 - 1], pa.uint64()),
        kind=pa.array(["a"]).dictionary_encode(),
        picture=pa.array([b"\x89PNG"]),
        wrapped=pa.array([{"bytes": b"\x89PNG", "path": "a.png"}]),
    )
    ((place, row),) = opened("rows.parquet", content).rows()
    assert place == "rows.parquet:1"
    assert row == {
        "day": "2026-11-20",
        "at": "2026-11-20T12:30:00",
        "price": "12.50",
        "gap": None,
        "many": [1, None],
        "nested": {"x": 1.5, "y": ["z"]},
        "big": 2**64 - 1,
        "kind": "a",
    }
    json.dumps(row, allow_nan=False)


def test_infinity_in_a_table_is_refused_with_its_row(opened):
    pa = pytest.importorskip("pyarrow")
    source = opened("rows.parquet", as_parquet([], x=pa.array([1.0, float("inf")])))
    with pytest.raises(UsageError, match=r"rows\.parquet:2: JSON has no infinity"):
        list(source.rows())


def test_a_file_that_is_no_parquet_file_is_refused(opened):
    with pytest.raises(UsageError, match="this is no Parquet file"):
        list(opened("rows.parquet", "id,text\n").rows())


def test_a_damaged_parquet_file_is_a_run_error(opened):
    content = bytearray(as_parquet([{"text": "x" * 50} for _ in range(100)]))
    content[10:200] = b"\xff" * 190
    with pytest.raises(RunError, match="is damaged"):
        list(opened("rows.parquet", bytes(content)).rows())


@pytest.mark.parametrize(
    ("spec", "module", "command"),
    [
        ({"path": "rows.parquet"}, "pyarrow", "pip install 'evalkit-gates[parquet]'"),
        ({"name": "squad"}, "datasets", "pip install 'evalkit-gates[datasets]'"),
    ],
)
def test_a_missing_library_is_told_with_the_command_that_installs_it(
    tmp_path, monkeypatch, spec, module, command
):
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RunError, match="not installed") as caught:
        list(open_dataset(DatasetSpec(**spec), tmp_path, sha256).rows())
    assert caught.value.advice == command


# --- Hugging Face data sets ------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "test.jsonl").write_text(as_jsonl(ROWS))

    def hub(name="set", **spec):
        return open_dataset(DatasetSpec(name=name, **spec), tmp_path, sha256)

    return hub


def test_a_hugging_face_data_set_gives_its_rows(hub):
    source = hub()
    assert list(source.rows()) == [(f"set[test]:{n}", row) for n, row in enumerate(ROWS, start=1)]
    assert list(source.rows()) == list(source.rows())
    assert source.total == 3


def test_its_digest_is_that_of_the_rows_not_of_the_download(hub, tmp_path, monkeypatch):
    import datasets

    before = hub().digest
    # Another machine: the same rows in another file, downloaded at another time.
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "other_cache")
    (tmp_path / "set" / "test.jsonl").unlink()
    (tmp_path / "set" / "test-00.jsonl").write_text(
        "".join(json.dumps(row, indent=None) + "\n\n" for row in ROWS)
    )
    assert hub().digest == before
    assert hub(limit=2).digest != before
    assert [row for _, row in hub(limit=2).rows()] == ROWS[:2]
    assert hub(limit=2).total == 2


def test_a_split_that_is_not_there_is_a_usage_error(hub):
    with pytest.raises(
        UsageError, match=r"the data set 'set', split 'train', cannot be loaded: .*test"
    ):
        hub(split="train")


def test_a_configuration_that_is_not_there_is_a_usage_error(hub):
    with pytest.raises(
        UsageError, match=r"the data set 'set' \(large\), split 'test', cannot be loaded"
    ):
        hub(config="large")


def test_a_hub_that_cannot_be_reached_is_a_run_error_with_advice(hub):
    with pytest.raises(
        RunError, match="the data set 'nobody/nothing', split 'test', cannot be loaded"
    ) as caught:
        hub(name="nobody/nothing")
    assert "network" in caught.value.advice
