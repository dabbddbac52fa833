"""Headers and bytes of safetensors files, against the library that defines the format."""

from __future__ import annotations

import json
import struct

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from safetensors.torch import save_file

from evalkit.errors import RunError
from evalkit.loaders.weights.formats import BITS, as_float32
from evalkit.loaders.weights.headers import (
    read_bytes,
    read_columns,
    read_file,
    read_float32,
    read_headers,
)
from evalkit.loaders.weights.shards import left_out

torch = pytest.importorskip("torch")

FLOATS = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "F8_E8M0": torch.float8_e8m0fnu,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz, "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
}  # fmt: skip
WHOLE = {
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "U16": torch.uint16, "U32": torch.uint32, "U64": torch.uint64, "BOOL": torch.bool,
}  # fmt: skip


def header_of(path, name="w"):
    headers, faults = read_headers(path)
    assert not faults
    return headers[name]


def written(header, numbers=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + numbers


def messages(path):
    return [fault.message for fault in read_headers(path)[1]]


# --- numbers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_every_number_of_a_float_format_is_torchs(tmp_path, dtype):
    bits = {"F64": None, "F32": None}.get(dtype, BITS[dtype])
    if bits is None:  # too many to try them all
        draws = np.random.default_rng(0).integers(0, 256, (4096, BITS[dtype] // 8), dtype=np.uint8)
        tensor = torch.from_numpy(draws.reshape(-1)).view(FLOATS[dtype])
    else:
        every = np.arange(1 << bits, dtype=np.uint16 if bits == 16 else np.uint8)
        tensor = torch.from_numpy(every).view(FLOATS[dtype])
    save_file({"w": tensor.reshape(16, -1)}, tmp_path / "model.safetensors")
    header = header_of(tmp_path)
    assert (header.dtype, header.shape) == (dtype, (16, tensor.numel() // 16))
    found, expected = read_float32(header), tensor.reshape(16, -1).to(torch.float32).numpy()
    assert found.dtype == np.float32 and found.flags.c_contiguous
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(
        np.signbit(found[found == 0]), np.signbit(expected[expected == 0])
    )


@pytest.mark.parametrize("dtype", [*FLOATS, *WHOLE])
def test_stored_bytes_are_those_that_the_library_reads(tmp_path, dtype):
    draws = np.random.default_rng(1).integers(
        0, 2 if dtype == "BOOL" else 256, 24 * BITS[dtype] // 8
    )
    tensor = torch.from_numpy(draws.astype(np.uint8)).view((FLOATS | WHOLE)[dtype]).reshape(6, 4)
    save_file({"w": tensor}, tmp_path / "model.safetensors")
    found = read_bytes(header_of(tmp_path), 2, 5)
    assert found.shape == (3, 4)
    assert found.tobytes() == tensor[2:5].contiguous().view(torch.uint8).numpy().tobytes()


def test_infinities_and_nan_among_halves_stay_what_they_are():
    halves = np.full(70_000, 0.5, np.float16)
    halves[[3, 4, 69_999]] = np.inf, -np.inf, np.nan
    found = as_float32(halves)
    assert found[3] == np.inf and found[4] == -np.inf and np.isnan(found[69_999])
    assert np.count_nonzero(found == 0.5) == 69_997


def test_a_double_beyond_float32_becomes_infinite_and_does_not_warn():
    assert as_float32(np.array([1e300, -1e300, 1.5])).tolist() == [np.inf, -np.inf, 1.5]


SHAPES = st.lists(st.integers(0, 5), max_size=4).map(tuple)


@settings(max_examples=40)
@given(shape=SHAPES, start=st.integers(0, 6), stop=st.integers(0, 6), narrow=st.booleans())
def test_rows_are_those_of_the_array_whatever_its_shape(
    tmp_path_factory, shape, start, stop, narrow
):
    folder = tmp_path_factory.mktemp("shape")
    array = np.random.default_rng(2).normal(size=shape).astype(np.float16 if narrow else np.float32)
    (folder / "model.safetensors").write_bytes(save({"w": array}))
    header = header_of(folder)
    expected = array if not shape else array[start : max(start, stop)]
    np.testing.assert_array_equal(read_float32(header, start, max(start, stop)), expected)
    np.testing.assert_array_equal(read_float32(header), array)


@pytest.mark.parametrize(("start", "stop"), [(0, 3000), (0, 7), (1200, 2900), (5, 5)])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
def test_columns_are_the_rows_of_the_transpose(tmp_path, start, stop, dtype):
    array = np.random.default_rng(3).normal(size=(400, 3000)).astype(dtype)
    (tmp_path / "model.safetensors").write_bytes(save({"w": array}))
    found = read_columns(header_of(tmp_path), start, stop)
    np.testing.assert_array_equal(found, array[:, start:stop].T.astype(np.float32))
    assert found.flags.c_contiguous


def test_a_file_cut_while_it_is_read_ends_in_advice(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(save({"w": np.ones((8, 8), np.float32)}))
    header = header_of(tmp_path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(RunError, match="ends within w") as caught:
        read_float32(header)
    assert "while it is read" in caught.value.advice
    path.unlink()
    with pytest.raises(RunError, match="cannot be read: No such file"):
        read_bytes(header)


# --- one file's faults -----------------------------------------------------------------------------------------

ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
TWO = {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}

BROKEN = {
    "nothing": (b"", "cut off or no safetensors file"),
    "a length without a header": (struct.pack("<Q", 100), "cut off or no safetensors file"),
    "a header beyond all measure": (struct.pack("<Q", 1 << 60) + b" " * 99, "cut off or no safetensors file"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "no JSON": (written(b"nope"), "damaged or no safetensors file"),
    "no object": (written([]), "damaged or no safetensors file"),
    "a tensor that is no object": (written({"w": 3}), "damaged or no safetensors file"),
    "no offsets": (written({"w": {"dtype": "F32", "shape": [2]}}), "damaged or no safetensors file"),
    "a shape below zero": (written({"w": ONE | {"shape": [-2]}}, bytes(8)), "damaged or no safetensors file"),
    "a shape of fractions": (written({"w": ONE | {"shape": [2.0]}}, bytes(8)), "damaged or no safetensors file"),
    "letters that are none": (written(b'{"\xff": 1}'), "damaged or no safetensors file"),
    "another alphabet's encoding": (written(json.dumps({"w": ONE}).encode("utf-16"), bytes(8)), "damaged"),
    "an abyss of brackets": (written(b'{"w":' + b"[" * 99_999), "damaged or no safetensors file"),
    "too few numbers": (written({"w": ONE}, bytes(7)), "is cut off: "),
    "too many numbers": (written({"w": ONE}, bytes(12)), "has 4 bytes of no tensor"),
    "an unknown format": (written({"w": ONE | {"dtype": "F7"}}, bytes(8)), "unknown number format 'F7'"),
    "a shape that does not fit": (
        written({"w": ONE | {"shape": [3]}}, bytes(8)), "w in model.safetensors has 8 bytes, but 3 of F32 take 12",
    ),
    "a tensor over another": (
        written({"a": ONE, "w": TWO | {"data_offsets": [4, 12]}}, bytes(12)), "overlaps the tensor before it",
    ),
    "a hole": (
        written({"a": ONE, "w": TWO | {"data_offsets": [12, 20]}}, bytes(20)), "lies 4 bytes behind the tensor before",
    ),
    "a name given twice": (
        written(b'{"w": %b, "w": %b}' % ((json.dumps(ONE).encode(),) * 2), bytes(8)), "w stands twice in",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_a_damaged_file_ends_in_a_fault_that_says_what_is_wrong(tmp_path, what):
    content, message = BROKEN[what]
    (tmp_path / "model.safetensors").write_bytes(content)
    _, faults = read_headers(tmp_path)
    assert any(message in fault.message for fault in faults)
    assert {fault.check for fault in faults} == {"integrity.unreadable"}


def library_opens(path):
    try:
        with safe_open(path, framework="np"):
            return True
    except (SafetensorError, OSError):
        return False


WELL = save(
    {"a": np.ones((2, 3), np.float32), "b": np.ones(4, np.float16), "c": np.ones((), np.int8)}
)


@settings(max_examples=300)
@given(place=st.integers(0, len(WELL) - 1), byte=st.integers(0, 255), cut=st.integers(0, 3))
def test_a_damaged_byte_is_a_fault_exactly_where_the_library_refuses_the_file(
    tmp_path_factory, place, byte, cut
):
    path = tmp_path_factory.mktemp("damaged") / "model.safetensors"
    content = bytearray(WELL)
    content[place] = byte
    path.write_bytes(content[: len(content) - cut])
    headers, faults = read_file(path)
    assert library_opens(path) == (not faults)
    for header in headers.values():
        read_bytes(header)


def test_of_a_file_that_is_cut_off_the_whole_tensors_are_read_and_the_others_named(tmp_path):
    names = [f"t{number}" for number in range(8)]
    content = save({name: np.full((4, 4), 1.5, np.float32) for name in names})
    (tmp_path / "model.safetensors").write_bytes(
        content[:-100]
    )  # the last and half of the one before
    headers, faults = read_headers(tmp_path)
    assert sorted(headers) == names[:6]
    assert all((read_float32(header) == 1.5).all() for header in headers.values())
    assert [fault.tensor for fault in faults] == [None, "t6", "t7"]
    assert "is cut off: " in faults[0].message and "it should end at byte" in faults[1].message


# --- shards ----------------------------------------------------------------------------------------------------


def shards(folder, files, index):
    for name, tensors in files.items():
        content = save({tensor: np.ones((2, 2), np.float32) for tensor in tensors})
        (folder / name).write_bytes(content)
    (folder / "model.safetensors.index.json").write_text(
        index if isinstance(index, str) else json.dumps({"weight_map": index})
    )


S1, S2 = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def test_whole_shards_have_no_fault_and_come_in_their_order(tmp_path):
    shards(tmp_path, {S1: ["z"], S2: ["a"]}, {"z": S1, "a": S2})
    headers, faults = read_headers(tmp_path)
    assert (list(headers), faults) == (["z", "a"], [])


def test_a_missing_shard_is_one_fault_that_counts_its_tensors(tmp_path):
    shards(tmp_path, {S1: ["a"]}, {"a": S1, "b": S2, "c": S2})
    assert messages(tmp_path) == [f"{S2} is missing, with 2 tensors"]
    assert list(read_headers(tmp_path)[0]) == ["a"]


def test_a_shard_that_cannot_be_read_at_all_says_how_much_is_lost(tmp_path):
    shards(tmp_path, {S1: ["a"]}, {"a": S1, "b": S2, "c": S2})
    (tmp_path / S2).write_bytes(b"\0" * 100)
    assert messages(tmp_path) == [
        f"{S2} is damaged or no safetensors file; copy it again",
        f"all 2 tensors of {S2} are lost with it",
    ]


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"a": S1, "b": S2, "c": S2}, f"c is promised by the index, but {S2} has none"),
        ({"a": S1}, None),
        ({"a": S1, "b": S1}, f"b is promised by the index, but {S1} has none"),
        ({"a": S2, "b": S2}, f"a is promised by the index, but {S2} has none"),
        ({"a": S1, "b": S2, "x": "../x.safetensors"}, "model.safetensors.index.json places x outside the folder"),
        ("{", "model.safetensors.index.json is damaged or no index"),
        ("[]", "model.safetensors.index.json is damaged or no index"),
        ('{"weight_map": 3}', "model.safetensors.index.json is damaged or no index"),
        ("[" * 100_000, "model.safetensors.index.json is damaged or no index"),
        ({"a": S1, "b": S2, "c": "x" * 300}, f"{'x' * 300} is missing, with 1 tensors"),
    ],
    ids=range(10),
)  # fmt: skip
def test_what_index_and_shards_disagree_on_is_a_fault(tmp_path, index, message):
    shards(tmp_path, {S1: ["a"], S2: ["b"]}, index)
    assert messages(tmp_path) == ([message] if message else [])


def test_a_tensor_in_a_shard_and_not_in_the_index_is_a_fault_and_is_read(tmp_path):
    shards(tmp_path, {S1: ["a", "b"]}, {"a": S1})
    headers, faults = read_headers(tmp_path)
    assert sorted(headers) == ["a", "b"]
    assert [fault.tensor for fault in faults] == ["b"] and "not in the index" in faults[0].message


def test_of_a_tensor_stored_twice_the_one_that_the_index_names_is_read(tmp_path):
    shards(tmp_path, {S1: ["a", "b"], S2: ["b"]}, {"a": S1, "b": S2})
    headers, faults = read_headers(tmp_path)
    assert headers["b"].file.name == S2
    assert [fault.message for fault in faults] == [
        f"b lies in {S1}, but the index says {S2}",
        f"b is stored twice: in {S1} and {S2}",
    ]


def test_shards_without_an_index_are_counted_by_their_names(tmp_path):
    shards(tmp_path, {S1: ["a"]}, "")
    (tmp_path / "model.safetensors.index.json").unlink()
    assert messages(tmp_path) == ["model: 1 of 2 shards are there, and no index lists them"]


def test_one_file_beside_an_index_of_others_is_a_fault_for_loaders_disagree(tmp_path):
    shards(tmp_path, {S1: ["a"], S2: ["b"], "model.safetensors": ["a", "b"]}, {"a": S1, "b": S2})
    assert messages(tmp_path) == [
        "model.safetensors lies beside model.safetensors.index.json: some loaders read it and others the shards"
    ]


def test_files_that_are_no_part_of_the_checkpoint_are_named_with_the_reason(tmp_path):
    files = {
        S1: ["a"],
        S2: ["b"],
        "consolidated.safetensors": ["c"],
        "adapter_model.safetensors": ["d"],
    }
    shards(tmp_path, files, {"a": S1, "b": S2})
    assert sorted(read_headers(tmp_path)[0]) == ["a", "b"]
    assert left_out(tmp_path) == {
        "adapter_model.safetensors": "no weight: an adapter's file",
        "consolidated.safetensors": "no weight: the index does not name this file",
    }
