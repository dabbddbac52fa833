"""GGUF files are read as the gguf library decodes them, under the names and in the layout of the hub's checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evalkit.errors import UsageError
from evalkit.loaders.weights.gguf_file import GgufWeights
from evalkit.loaders.weights.gguf_names import DECODERS, PAIRED, SHIFTED_NORMS, hub_name
from evalkit.records.weights import NO_WEIGHT

gguf = pytest.importorskip("gguf")

KINDS = [kind.name for kind in gguf.GGMLQuantizationType]
WRITTEN = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "TQ1_0", "TQ2_0")
"""Formats that the library can also write."""


def write(path: Path, tensors, architecture="llama", kinds=None, **numbers) -> None:
    """Write a file with the library: floats in their own format, or quantised as ``kinds`` says."""
    writer = gguf.GGUFWriter(path, architecture)
    for key, number in numbers.items():
        writer.add_uint32(f"{architecture}.{key.replace('__', '.')}", number)
    writer.add_token_list([b"a", b"b", b"c"])
    for name, numbers_RC in tensors.items():
        kind = gguf.GGMLQuantizationType[(kinds or {}).get(name, "F32")]
        raw = numbers_RC if numbers_RC.dtype == np.uint8 else gguf.quants.quantize(numbers_RC, kind)
        writer.add_tensor(name, raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def only(weights: GgufWeights) -> np.ndarray:
    """Read the one tensor there is, whole and in every range of rows, which must be the same numbers."""
    (tensor,) = weights.tensors
    return whole(weights, tensor.name)


def whole(weights: GgufWeights, name: str) -> np.ndarray:
    (tensor,) = [tensor for tensor in weights.tensors if tensor.name == name]
    found = weights.read(tensor)
    assert found.shape == tensor.shape
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    for start in range(0, len(found) + 1, 3):
        for stop in range(start, len(found) + 1, 4):
            part = weights.read(tensor, start, stop)
            assert np.array_equal(part, found[start:stop], equal_nan=True), (start, stop)
            assert part.flags.c_contiguous
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_that_the_library_decodes_is_read_and_every_other_has_a_reason(tmp_path, kind):
    number = gguf.GGMLQuantizationType[kind]
    block, block_bytes = gguf.GGML_QUANT_SIZES[number]
    raw = np.random.default_rng(1).integers(
        0, 255, (7, max(1, 64 // block) * block_bytes), dtype=np.uint8
    )
    write(tmp_path / "m.gguf", {"blk.0.ffn_up.weight": raw}, kinds={"blk.0.ffn_up.weight": kind})
    weights = GgufWeights(tmp_path)
    assert not weights.faults
    try:
        with np.errstate(all="ignore"):
            wanted = gguf.dequantize(raw, number)
    except NotImplementedError:
        assert weights.tensors == ()
        assert kind in weights.skipped["blk.0.ffn_up.weight"]
        return
    assert weights.tensors[0].dtype == (
        kind if kind in ("F32", "F16", "BF16") else f"gguf {kind.lower()}"
    )
    assert np.array_equal(only(weights), wanted.astype(np.float32), equal_nan=True)


@pytest.mark.parametrize("kind", WRITTEN)
def test_what_the_library_writes_comes_back_within_the_formats_precision(tmp_path, kind):
    W_RC = np.random.default_rng(2).normal(size=(6, 256)).astype(np.float32)
    write(tmp_path / "m.gguf", {"output.weight": W_RC}, kinds={"output.weight": kind})
    got = only(GgufWeights(tmp_path))
    assert np.corrcoef(got.ravel(), W_RC.ravel())[0, 1] > (0.7 if kind[0] == "T" else 0.99)


def permuted(W_RC: np.ndarray, heads: int) -> np.ndarray:
    """What llama.cpp's ``LlamaModel.permute`` makes of a query or key matrix."""
    halves = W_RC.reshape(heads, 2, W_RC.shape[0] // heads // 2, *W_RC.shape[1:])
    return halves.swapaxes(1, 2).reshape(W_RC.shape)


class TestAgainstTheHubsCheckpoints:
    @pytest.mark.parametrize("architecture", sorted({*DECODERS, "gpt2"}))
    def test_names_are_those_that_the_library_turns_into_the_stored_ones(self, architecture):
        number = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}[architecture]
        back = gguf.get_tensor_name_map(number, 3)
        for kind in gguf.MODEL_TENSORS[number]:
            stored = gguf.TENSOR_NAMES[kind].format(bid=2)
            name = hub_name(f"{stored}.weight", architecture)
            if name == f"{stored}.weight":
                # Nothing that a checkpoint of this architecture holds; experts have names of their own below.
                assert (
                    stored.startswith(("rope", "blk.2.attn_rot_embd"))
                    or "_exps" in stored
                    or stored in UNUSED
                )
                continue
            assert back.get_name(name, try_suffixes=(".weight",)) == f"{stored}.weight"

    @pytest.mark.parametrize("heads_of_keys", [1, 2, 4])
    def test_query_and_key_rows_are_back_in_the_hubs_order(self, tmp_path, heads_of_keys):
        rng = np.random.default_rng(3)
        Q_RC, K_RC = rng.normal(size=(32, 16)), rng.normal(size=(8 * heads_of_keys, 16))
        q_R = rng.normal(size=32).astype(np.float32)
        stored = {
            "blk.0.attn_q.weight": permuted(Q_RC, 4),
            "blk.0.attn_k.weight": permuted(K_RC, heads_of_keys),
            "blk.0.attn_q.bias": permuted(q_R, 4),
        }
        heads = {"attention__head_count": 4, "attention__head_count_kv": heads_of_keys}
        write(tmp_path / "m.gguf", {k: v.astype(np.float32) for k, v in stored.items()}, **heads)
        weights = GgufWeights(tmp_path)
        attention = "model.layers.0.self_attn"
        assert np.array_equal(whole(weights, f"{attention}.q_proj.weight"), Q_RC.astype(np.float32))
        assert np.array_equal(whole(weights, f"{attention}.k_proj.weight"), K_RC.astype(np.float32))
        assert np.array_equal(whole(weights, f"{attention}.q_proj.bias"), q_R)

    def test_transformers_takes_the_same_rows_back(self):
        processor = pytest.importorskip(
            "transformers.modeling_gguf_pytorch_utils"
        ).LlamaTensorProcessor()
        W_RC = np.arange(32 * 2).reshape(32, 2)
        assert np.array_equal(processor._reverse_permute_weights(permuted(W_RC, 2), 4, 2), W_RC)

    def test_rows_that_cannot_be_put_back_are_skipped_with_a_reason(self, tmp_path):
        write(tmp_path / "m.gguf", {"blk.0.attn_q.weight": np.ones((32, 16), np.float32)})
        weights = GgufWeights(tmp_path)
        assert weights.tensors == ()
        assert "how many heads" in weights.skipped["blk.0.attn_q.weight"]

    def test_norms_of_gemma_lose_the_one_that_was_added(self, tmp_path):
        norm_C = np.array([0.25, -0.5, 3.0], np.float32)
        write(tmp_path / "m.gguf", {"blk.1.post_ffw_norm.weight": norm_C + 1}, "gemma2")
        weights = GgufWeights(tmp_path)
        assert np.array_equal(
            whole(weights, "model.layers.1.post_feedforward_layernorm.weight"), norm_C
        )
        assert weights.tensors[0].module == "norm"

    def test_only_known_architectures_are_changed(self):
        assert DECODERS >= PAIRED | SHIFTED_NORMS

    @pytest.mark.parametrize(
        ("architecture", "name"),
        [
            ("qwen3moe", "model.layers.0.mlp.experts.{}.down_proj.weight"),
            ("llama", "model.layers.0.block_sparse_moe.experts.{}.w2.weight"),
            ("dbrx", "blk.0.ffn_down_exps.weight[{}]"),
        ],
    )
    def test_experts_are_tensors_of_their_own(self, tmp_path, architecture, name):
        W_ERC = np.random.default_rng(4).normal(size=(3, 5, 32)).astype(np.float32)
        stored = {"blk.0.ffn_down_exps.weight": W_ERC}
        write(tmp_path / "m.gguf", stored, architecture, {"blk.0.ffn_down_exps.weight": "Q8_0"})
        weights = GgufWeights(tmp_path)
        assert [(t.name, t.expert, t.module, t.form) for t in weights.tensors] == [
            (name.format(expert), expert, "down", "matrix") for expert in range(3)
        ]
        decoded = gguf.dequantize(
            gguf.quantize(W_ERC, gguf.GGMLQuantizationType.Q8_0), gguf.GGMLQuantizationType.Q8_0
        )
        assert np.array_equal(whole(weights, name.format(2)), decoded[2])

    @pytest.mark.parametrize(("stored", "name"), [("gate", "w1"), ("up", "w3"), ("down", "w2")])
    def test_experts_of_mixtral_are_called_as_its_authors_call_them(self, stored, name):
        """llama.cpp ``LlamaModel.modify_tensors`` stacks w1, w2, w3; the library says what becomes of the stacks."""
        back = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 1)
        stacked = back.get_name(f"layers.0.feed_forward.experts.{name}.weight", (".weight",))
        assert stacked == f"blk.0.ffn_{stored}_exps.weight"
        hub = f"model.layers.0.block_sparse_moe.experts.5.{name}.weight"
        assert hub_name(stacked, "llama", 5) == hub

    def test_fused_projections_come_apart(self, tmp_path):
        stored = {
            "blk.0.attn_qkv.weight": np.arange(64.0, dtype=np.float32).reshape(16, 4),
            "blk.0.ffn_up.weight": np.arange(48.0, dtype=np.float32).reshape(12, 4),
        }
        numbers = {
            "attention__head_count": 4,
            "attention__head_count_kv": 2,
            "attention__key_length": 2,
        }
        write(tmp_path / "m.gguf", stored, "phi3", feed_forward_length=6, **numbers)
        weights = GgufWeights(tmp_path)
        qkv, up = (
            "model.layers.0.self_attn.qkv_proj.weight",
            "model.layers.0.mlp.gate_up_proj.weight",
        )
        assert {t.name: (t.module, t.shape, t.part_of) for t in weights.tensors} == {
            f"{qkv}[q]": ("query", (8, 4), qkv),
            f"{qkv}[k]": ("key", (4, 4), qkv),
            f"{qkv}[v]": ("value", (4, 4), qkv),
            f"{up}[gate]": ("gate", (6, 4), up),
            f"{up}[up]": ("up", (6, 4), up),
        }
        assert np.array_equal(whole(weights, f"{qkv}[k]"), stored["blk.0.attn_qkv.weight"][8:12])
        assert np.array_equal(whole(weights, f"{up}[up]"), stored["blk.0.ffn_up.weight"][6:])
        assert [t.name for t in GgufWeights(tmp_path, split=False).tensors] == [qkv, up]

    def test_a_shared_experts_gate_is_a_matrix_of_one_row(self, tmp_path):
        gate_C = np.arange(5, dtype=np.float32)
        write(tmp_path / "m.gguf", {"blk.0.ffn_gate_inp_shexp.weight": gate_C}, "qwen2moe")
        got = whole(GgufWeights(tmp_path), "model.layers.0.mlp.shared_expert_gate.weight")
        assert got.tolist() == [gate_C.tolist()]


UNUSED = {
    "blk.2.attn_qkv",
    "blk.2.attn_k_norm",
    "blk.2.attn_q_norm",
    "blk.2.ffn_gate_inp",
    "position_embd",
}
"""Tensors that the library knows in an architecture in which no checkpoint on the hub has them."""


class TestTheFile:
    def test_metadata_speak_the_words_of_a_configuration(self, tmp_path):
        stored = {"token_embd.weight": np.ones((5, 8), np.float32)}
        write(tmp_path / "m.gguf", stored, "qwen3", block_count=2, embedding_length=8)
        weights = GgufWeights(tmp_path)
        assert weights.config == {
            "model_type": "qwen3",
            "num_hidden_layers": 2,
            "hidden_size": 8,
            "vocab_size": 5,
            "tie_word_embeddings": True,
        }
        assert weights.vocabulary == 3
        assert weights.tied == {"lm_head.weight": "model.embed_tokens.weight"}

    def test_a_head_of_its_own_is_not_tied(self, tmp_path):
        stored = {
            name: np.ones((5, 8), np.float32) for name in ("token_embd.weight", "output.weight")
        }
        write(tmp_path / "m.gguf", stored)
        weights = GgufWeights(tmp_path)
        assert weights.tied == {}
        assert [(t.name, t.form) for t in weights.tensors] == [
            ("model.embed_tokens.weight", "embedding"),
            ("lm_head.weight", "head"),
        ]

    def test_an_architecture_that_is_not_known_keeps_its_names(self, tmp_path):
        write(
            tmp_path / "m.gguf", {"blk.7.attn_output.weight": np.ones((4, 4), np.float32)}, "mamba"
        )
        (tensor,) = GgufWeights(tmp_path).tensors
        assert (tensor.name, tensor.module, tensor.depth) == (
            "blk.7.attn_output.weight",
            "output",
            7,
        )

    def test_factors_of_positions_are_no_weights(self, tmp_path):
        write(tmp_path / "m.gguf", {"rope_freqs.weight": np.ones(4, np.float32)})
        weights = GgufWeights(tmp_path)
        assert weights.tensors == ()
        assert "computed" in weights.skipped["rope_freqs.weight"]

    def test_a_file_that_is_cut_off_keeps_what_is_whole(self, tmp_path):
        stored = {f"blk.{i}.ffn_up.weight": np.full((8, 8), i, np.float32) for i in range(3)}
        path = tmp_path / "m.gguf"
        write(path, stored)
        path.write_bytes(path.read_bytes()[:-200])
        weights = GgufWeights(tmp_path)
        assert [tensor.depth for tensor in weights.tensors] == [0, 1]
        assert [(fault.check, fault.tensor) for fault in weights.faults] == [
            ("integrity.unreadable", "blk.2.ffn_up.weight")
        ]
        assert whole(weights, "model.layers.1.mlp.up_proj.weight")[7, 7] == 1

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"", "cut off"),
            (b"GGU", "cut off"),
            (b"version https://git-lfs.github.com/spec/v1", "no GGUF file"),
            (b"GGUF\x01\0\0\0", "version 1"),
            (b"GGUF\0\0\0\x03", "byte order"),
            (b"GGUF\x03\0\0\0" + b"\xff" * 24, "too long to be one"),
        ],
    )
    def test_what_is_no_sound_file_is_a_fault_in_words(self, tmp_path, content, said):
        (tmp_path / "m.gguf").write_bytes(content)
        weights = GgufWeights(tmp_path)
        assert weights.tensors == ()
        assert [said in fault.message for fault in weights.faults] == [True]

    def test_a_split_model_is_one_and_a_missing_part_a_fault(self, tmp_path):
        for part in (1, 2):
            stored = {f"blk.{part}.ffn_up.weight": np.full((2, 2), part, np.float32)}
            write(tmp_path / f"m-0000{part}-of-00002.gguf", stored)
        weights = GgufWeights(tmp_path)
        assert [tensor.depth for tensor in weights.tensors] == [1, 2]
        assert not weights.faults
        (tmp_path / "m-00001-of-00002.gguf").unlink()
        assert [fault.message for fault in GgufWeights(tmp_path).faults] == [
            "m: 1 of 2 parts are there"
        ]

    def test_two_models_in_a_folder_are_refused_and_a_projector_is_set_aside(self, tmp_path):
        for name in ("a-Q4_0.gguf", "mmproj-a.gguf"):
            write(tmp_path / name, {"output.weight": np.ones((2, 2), np.float32)})
        assert GgufWeights(tmp_path).skipped == {
            "mmproj-a.gguf": f"{NO_WEIGHT}another model's file"
        }
        write(tmp_path / "a-Q8_0.gguf", {"output.weight": np.ones((2, 2), np.float32)})
        with pytest.raises(UsageError, match=r"several models \(a-Q4_0\.gguf, a-Q8_0\.gguf\)"):
            GgufWeights(tmp_path)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4),
    length=st.integers(0, 2000) | st.none(),
)
def test_whatever_a_file_holds_each_tensor_is_read_or_has_a_reason(tmp_path, changes, length):
    path = tmp_path / "m.gguf"
    if not path.exists():
        stored = {
            "token_embd.weight": np.ones((5, 32), np.float32),
            "blk.0.attn_q.weight": np.ones((8, 32), np.float32),
            "blk.0.ffn_gate_exps.weight": np.ones((2, 3, 32), np.float32),
        }
        kinds = {"blk.0.attn_q.weight": "Q4_0", "token_embd.weight": "F16"}
        write(tmp_path / "sound", stored, "llama", kinds, attention__head_count=2)
    content = bytearray((tmp_path / "sound").read_bytes())
    for place, byte in changes:
        content[place % len(content)] = byte
    path.write_bytes(bytes(content[:length]))
    weights = GgufWeights(tmp_path)
    for tensor in weights.tensors:
        assert weights.read(tensor).shape == tensor.shape
    assert not {tensor.stored for tensor in weights.tensors} & weights.skipped.keys()
