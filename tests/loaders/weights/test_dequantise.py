"""Quantised weights are read as the libraries that write them read them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evalkit.loaders.weights.dequantise import Quantised, quantised_weights
from evalkit.loaders.weights.formats import BITS, numpy_type
from evalkit.loaders.weights.headers import read_bytes, read_headers

torch = pytest.importorskip("torch")

Tensors = Mapping[str, Any]
DESCRIBED_BY_FORMAT = {
    str(numpy_type(name)): name for name in BITS if name not in ("F4", "F6_E2M3", "F6_E3M2", "C64")
}


def write(folder: Path, stored: Mapping[str, tuple[str, tuple[int, ...], bytes]]) -> None:
    """Write a safetensors file by its published layout."""
    header, place = {}, 0
    for name, (dtype, shape, numbers) in stored.items():
        ends = [place, place := place + len(numbers)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": ends}
    text = json.dumps(header).encode()
    numbers = b"".join(numbers for _, _, numbers in stored.values())
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + numbers)


def opened(
    folder: Path, config: Mapping[str, Any]
) -> tuple[dict[str, Quantised], dict[str, str], Callable[[str], np.ndarray]]:
    headers, faults = read_headers(folder)
    assert not faults
    found, reasons = quantised_weights(headers, config)

    def load(name: str, start: int, stop: int) -> np.ndarray:
        assert 0 <= start <= stop <= headers[name].rows, "no row is asked for that is not there"
        return read_bytes(headers[name], start, stop)

    def weight(name: str) -> np.ndarray:
        """Read a weight, whole and in every range of rows, which must be the same numbers."""
        whole = found[name].read(load)
        assert whole.dtype == np.float32
        assert whole.flags.c_contiguous
        assert whole.shape == found[name].shape
        step = max(1, len(whole) // 6)
        for start in range(0, len(whole) + 1, step):
            for stop in range(start, len(whole) + 1, step):
                part = found[name].read(load, start, stop)
                assert np.array_equal(part, whole[start:stop], equal_nan=True), (start, stop)
        return whole

    return found, reasons, weight


def read(folder: Path, tensors: Tensors, config: Mapping[str, Any] | None = None) -> np.ndarray:
    """Return the one weight in these tensors; nothing may be left over."""
    from safetensors.torch import save_file

    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()},
        folder / "model.safetensors",
    )
    found, reasons, weight = opened(folder, config or {})
    assert not reasons
    (name,) = found
    assert found[name].members == {name for name in tensors if not name.endswith(".bias")}
    return weight(name)


def of_module(tensors: Tensors, module: str = "model.layers.0.mlp.up_proj") -> dict[str, Any]:
    return {f"{module}.{name}": tensor for name, tensor in tensors.items()}


def arguments(**how: Any) -> Any:
    """Return how compressed-tensors is to quantise."""
    return pytest.importorskip("compressed_tensors.quantization").QuantizationArgs(**how)


def made_by_library(
    format_: str, weight: Any, args: Any, **scales: Any
) -> tuple[Any, Any, dict[str, Any]]:
    """Return what compressed-tensors stores, what it makes of that, and the configuration that it writes."""
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationScheme

    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    library = BaseCompressor.get_value_from_registry(format_)
    stored = library.compress({"weight": weight, **scales}, scheme)
    config = {"quant_method": "compressed-tensors", "format": format_}
    config["config_groups"] = {"group_0": json.loads(scheme.model_dump_json())}
    return stored, library.decompress(stored, scheme)["weight"], {"quantization_config": config}


def scales_of(weight: Any, args: Any) -> dict[str, Any]:
    """Return scales and zero points by the library's own rule."""
    from compressed_tensors.quantization.utils import calculate_qparams

    if args.strategy == "group":
        grouped = weight.unflatten(-1, (-1, args.group_size))
        low, high = grouped.amin(-1), grouped.amax(-1)
    elif args.strategy == "channel":
        low, high = weight.amin(-1, keepdim=True), weight.amax(-1, keepdim=True)
    else:
        low, high = weight.min().reshape(1), weight.max().reshape(1)
    scale, zero = calculate_qparams(low, high, args)
    return {"weight_scale": scale, "weight_zero_point": zero}


@pytest.fixture
def W_RC() -> Any:
    return torch.randn(24, 64, generator=torch.Generator().manual_seed(1))


class TestCompressedTensors:
    @pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 8])
    @pytest.mark.parametrize("symmetric", [True, False])
    @pytest.mark.parametrize("strategy", ["group", "channel"])
    def test_packed_integers_are_what_the_library_unpacks(
        self, tmp_path, W_RC, bits, symmetric, strategy
    ):
        group = {"group_size": 16} if strategy == "group" else {}
        args = arguments(num_bits=bits, type="int", symmetric=symmetric, strategy=strategy, **group)
        stored, wanted, config = made_by_library(
            "pack-quantized", W_RC, args, **scales_of(W_RC, args)
        )
        assert np.array_equal(read(tmp_path, of_module(stored), config), wanted.numpy())
        assert np.array_equal(read(tmp_path, of_module(stored)), wanted.numpy()), (
            "the shapes alone suffice"
        )

    def test_a_width_that_fills_no_word_is_cut_to_the_shape(self, tmp_path):
        weight = torch.randn(5, 13)
        args = arguments(num_bits=4, type="int", symmetric=False, strategy="channel")
        stored, wanted, config = made_by_library(
            "pack-quantized", weight, args, **scales_of(weight, args)
        )
        assert np.array_equal(read(tmp_path, of_module(stored), config), wanted.numpy())

    @pytest.mark.parametrize("symmetric", [True, False])
    def test_packed_experts_are_what_the_library_unpacks(self, tmp_path, symmetric):
        pack_to_int32 = pytest.importorskip(
            "compressed_tensors.compressors.pack_quantized.helpers"
        ).pack_to_int32
        numbers = torch.randint(-8, 8, (3, 16, 32), dtype=torch.int8)
        zeros = torch.randint(-8, 8, (3, 16, 2), dtype=torch.int8) * (not symmetric)
        scale = torch.rand(3, 16, 2)
        stored = {
            "weight_packed": pack_to_int32(numbers, 4),
            "weight_scale": scale,
            "weight_shape": torch.tensor(numbers.shape),
        }
        if not symmetric:
            stored["weight_zero_point"] = pack_to_int32(zeros, 4, packed_dim=0)
        wanted = (numbers.float() - zeros.repeat_interleave(16, -1)) * scale.repeat_interleave(
            16, -1
        )
        assert np.array_equal(read(tmp_path, of_module(stored)), wanted.numpy())

    @pytest.mark.parametrize("symmetric", [True, False])
    def test_reordered_inputs_take_the_scale_of_the_group_that_their_index_names(
        self, tmp_path, W_RC, symmetric
    ):
        args = arguments(
            num_bits=4, type="int", symmetric=symmetric, strategy="group", group_size=16
        )
        order = torch.randperm(64)  # place i of the ordered inputs is input order[i]
        ordered = W_RC[:, order]
        stored, in_order, config = made_by_library(
            "pack-quantized", ordered, args, **scales_of(ordered, args)
        )
        from compressed_tensors.compressors.pack_quantized.helpers import (
            pack_to_int32,
            unpack_from_int32,
        )

        numbers = unpack_from_int32(stored["weight_packed"], 4, torch.Size(W_RC.shape))
        back = torch.argsort(order)
        stored["weight_packed"] = pack_to_int32(numbers[:, back].contiguous(), 4)
        stored["weight_g_idx"] = (torch.arange(64) // 16)[back].to(torch.int32)
        assert np.array_equal(read(tmp_path, of_module(stored), config), in_order[:, back].numpy())

    def test_an_index_that_was_never_filled_leaves_inputs_in_order(self, tmp_path, W_RC):
        """compressed-tensors 0.9 wrote −1 there where it had not reordered."""
        args = arguments(num_bits=4, type="int", symmetric=True, strategy="group", group_size=16)
        stored, wanted, config = made_by_library(
            "pack-quantized", W_RC, args, **scales_of(W_RC, args)
        )
        stored["weight_g_idx"] = torch.full((64,), -1, dtype=torch.int32)
        assert np.array_equal(read(tmp_path, of_module(stored), config), wanted.numpy())

    @pytest.mark.parametrize(
        ("type_", "symmetric", "strategy"),
        [
            (t, s, how)
            for t, s in [("int", True), ("int", False), ("float", True)]
            for how in ("tensor", "channel", "group")
        ],
    )
    def test_one_byte_for_each_weight_is_what_the_library_scales(
        self, tmp_path, W_RC, type_, symmetric, strategy
    ):
        group = {"group_size": 16} if strategy == "group" else {}
        args = arguments(num_bits=8, type=type_, symmetric=symmetric, strategy=strategy, **group)
        stored, wanted, config = made_by_library(
            f"{type_}-quantized", W_RC, args, **scales_of(W_RC, args)
        )
        assert np.array_equal(read(tmp_path, of_module(stored), config), wanted.numpy())

    def test_blocks_may_be_short_at_the_edges_where_their_size_is_declared(self, tmp_path):
        weight, scale = torch.randn(20, 50), torch.rand(3, 4) + 0.5
        args = arguments(num_bits=8, type="float", strategy="block", block_structure=[8, 16])
        stored, wanted, config = made_by_library(
            "float-quantized", weight, args, weight_scale=scale
        )
        assert np.array_equal(read(tmp_path, of_module(stored), config), wanted.numpy())

    def test_powers_of_two_scale_mxfp8(self, tmp_path, W_RC):
        args = arguments(
            num_bits=8, type="float", strategy="group", group_size=32, scale_dtype="torch.uint8"
        )
        scale = 2.0 ** torch.randint(-9, 3, (24, 2))
        stored, wanted, config = made_by_library("mxfp8-quantized", W_RC, args, weight_scale=scale)
        assert stored["weight_scale"].dtype == torch.uint8
        assert np.array_equal(read(tmp_path, of_module(stored), config), wanted.float().numpy())

    def test_scales_of_bfloat16_agree_once_rounded(self, tmp_path, W_RC):
        weight = W_RC.bfloat16()
        args = arguments(num_bits=4, type="int", symmetric=False, strategy="group", group_size=16)
        stored, wanted, config = made_by_library(
            "pack-quantized", weight, args, **scales_of(weight, args)
        )
        assert stored["weight_scale"].dtype == wanted.dtype == torch.bfloat16
        got = torch.from_numpy(read(tmp_path, of_module(stored), config))
        assert torch.equal(got.bfloat16(), wanted)

    def test_4_bit_floats_with_powers_of_two_are_the_librarys(self, tmp_path, W_RC):
        args = arguments(
            num_bits=4, type="float", strategy="group", group_size=32, scale_dtype="torch.uint8"
        )
        scale = 2.0 ** torch.randint(-4, 2, (24, 2))
        stored, wanted, config = made_by_library(
            "mxfp4-pack-quantized", W_RC, args, weight_scale=scale
        )
        assert np.array_equal(read(tmp_path, of_module(stored), config), wanted.float().numpy())

    @pytest.mark.parametrize("writer", ["compressed-tensors", "ModelOpt"])
    def test_4_bit_floats_with_two_scales_are_the_librarys(self, tmp_path, W_RC, writer):
        from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8
        from compressed_tensors.quantization.lifecycle.forward import dequantize

        args = arguments(num_bits=4, type="float", strategy="tensor_group", group_size=16)
        whole = torch.tensor([400.0])
        scale = (W_RC.unflatten(-1, (-1, 16)).abs().amax(-1) / 6 * whole).to(torch.float8_e4m3fn)
        stored, _, config = made_by_library(
            "nvfp4-pack-quantized",
            W_RC,
            args,
            weight_scale=scale.float(),
            weight_global_scale=whole,
        )
        numbers = unpack_fp4_from_uint8(stored["weight_packed"], 24, 64, torch.float32)
        wanted = dequantize(
            numbers, scale.float(), args=args, global_scale=whole, dtype=torch.float32
        )
        if writer == "ModelOpt":
            stored["weight"], stored["weight_scale_2"] = (
                stored.pop("weight_packed"),
                1 / stored.pop("weight_global_scale"),
            )
            config = {"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}}
        np.testing.assert_allclose(
            read(tmp_path, of_module(stored), config), wanted.numpy(), rtol=3e-7
        )


class TestBlocksOfFloat8:
    def test_deepseeks_blocks_of_128_are_the_librarys(self, tmp_path):
        converters = pytest.importorskip("compressed_tensors.entrypoints.convert.converters")

        weight = torch.randn(300, 200).to(torch.float8_e4m3fn)
        stored = of_module({"weight": weight, "weight_scale_inv": torch.rand(3, 2)})
        library = converters.FP8BlockDequantizer(targets=["re:.*"], dtype=torch.float32)
        wanted = library.process(dict(stored))["model.layers.0.mlp.up_proj.weight"]
        config = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}
        assert np.array_equal(read(tmp_path, stored, config), wanted.numpy())

    def test_a_block_that_does_not_divide_the_weight_needs_a_declaration(self, tmp_path):
        tensors = {
            "weight": torch.ones(300, 128).to(torch.float8_e4m3fn),
            "weight_scale_inv": torch.ones(3, 1),
        }
        assert "does not fit" in only_reason(tmp_path, of_module(tensors))

    def test_stacked_experts_without_the_word_weight_have_scales_beside_them(self, tmp_path):
        from transformers.integrations.finegrained_fp8 import _dequantize_fp8_weight

        numbers, scale = torch.randn(2, 48, 32).to(torch.float8_e4m3fn), torch.rand(2, 3, 2)
        module = "model.layers.0.mlp.experts.gate_up_proj"
        stored = {
            module: numbers,
            f"{module}_scale_inv": scale,
            f"{module}_activation_scale": torch.ones(2),
        }
        config = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [16, 16]}}
        wanted = _dequantize_fp8_weight(numbers, scale, [16, 16], torch.float32)
        assert np.array_equal(read(tmp_path, stored, config), wanted.numpy())

    def test_4_bit_floats_hidden_in_int8_are_what_transformers_unpacks(self, tmp_path):
        from transformers.integrations.finegrained_fp8 import Fp8Dequantize

        packed = torch.randint(-128, 128, (6, 32), dtype=torch.int8)
        scale = torch.randint(120, 132, (6, 2), dtype=torch.uint8)
        wanted = Fp8Dequantize(None)._dequantize_one(packed, scale, torch.float32)
        config = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}
        stored = of_module({"weight": packed, "weight_scale_inv": scale})
        assert np.array_equal(read(tmp_path, stored, config), wanted.numpy())


class TestBitsandbytes:
    @pytest.fixture(autouse=True)
    def eager(self):
        """Keep the library from compiling its rules, which takes half a minute."""
        with torch.compiler.set_stance("force_eager"):
            yield

    @pytest.mark.parametrize("kind", ["nf4", "fp4"])
    @pytest.mark.parametrize("nested", [False, True])
    @pytest.mark.parametrize(
        ("storage", "shape"),
        [
            ("uint8", (24, 64)),
            ("uint8", (7, 11)),
            ("bfloat16", (10, 30)),
            ("float32", (600, 130)),
            ("uint8", (601, 130)),
        ],
    )
    def test_4_bit_weights_are_what_the_library_dequantises(
        self, tmp_path, kind, nested, storage, shape
    ):
        bnb = pytest.importorskip("bitsandbytes")
        how = {
            "quant_type": kind,
            "compress_statistics": nested,
            "quant_storage": getattr(torch, storage),
        }
        layer = bnb.nn.Linear4bit(shape[1], shape[0], **how)
        layer.weight = bnb.nn.Params4bit(torch.randn(shape), requires_grad=False, **how)
        layer = layer.to("cpu")
        stored = of_module(layer.state_dict())
        wanted = bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        got = read(tmp_path, stored, {"quantization_config": {"quant_method": "bitsandbytes"}})
        assert np.array_equal(got, wanted.float().numpy())

    def test_int8_weights_are_what_the_library_dequantises(self, tmp_path):
        bnb = pytest.importorskip("bitsandbytes")
        layer = bnb.nn.Linear8bitLt(64, 24, has_fp16_weights=False)
        layer.weight = bnb.nn.Int8Params(
            torch.randn(24, 64), has_fp16_weights=False, requires_grad=False
        )
        stored = layer.to("cpu").state_dict()
        wanted = bnb.functional.int8_vectorwise_dequant(stored["weight"], stored["SCB"])
        np.testing.assert_allclose(read(tmp_path, of_module(stored)), wanted.numpy(), rtol=2e-7)


def stream(numbers_N: np.ndarray, bits: int) -> np.ndarray:
    """Pack integers into 32-bit words bit by bit: number i has bits i·b to i·b + b − 1 of the stream."""
    words = [0] * math.ceil(len(numbers_N) * bits / 32)
    for i, number in enumerate(numbers_N.tolist()):
        for bit in range(bits):
            place = i * bits + bit
            words[place // 32] |= (number >> bit & 1) << place % 32
    return np.array(words, np.uint32).view(np.int32)


def gptq(
    q_CR: np.ndarray, z_GR: np.ndarray, s_GR: np.ndarray, bits: int, added: int
) -> dict[str, Any]:
    """Pack as AutoGPTQ's ``QuantLinear.pack``: weights down the columns, zero points less ``added`` along the rows."""
    return {
        "qweight": torch.from_numpy(np.stack([stream(q_C, bits) for q_C in q_CR.T], axis=1)),
        "qzeros": torch.from_numpy(
            np.stack([stream(z_R, bits) for z_R in (z_GR - added) % 2**bits])
        ),
        "scales": torch.from_numpy(s_GR),
    }


class TestGptq:
    @pytest.mark.parametrize("bits", [2, 3, 4, 8])
    @pytest.mark.parametrize(("format_", "added"), [("gptq", 1), ("gptq_v2", 0), (None, 1)])
    @pytest.mark.parametrize("indexed", ["none", "in order", "reordered"])
    def test_weights_are_scale_times_number_less_zero_point(
        self, tmp_path, bits, format_, added, indexed
    ):
        rng = np.random.default_rng(bits)
        q_CR, z_GR = rng.integers(0, 2**bits, (64, 32)), rng.integers(0, 2**bits, (4, 32))
        s_GR = rng.random((4, 32)).astype(np.float16)
        group_C = np.arange(64) // 16
        if indexed == "reordered":
            group_C = rng.permutation(group_C)
        stored = gptq(q_CR, z_GR, s_GR, bits, added)
        if indexed != "none":
            stored["g_idx"] = torch.from_numpy(group_C.astype(np.int32))
        config = {
            "quant_method": "gptq",
            "bits": bits,
            "group_size": 16,
            "checkpoint_format": format_,
        }
        wanted = s_GR[group_C].astype(np.float32) * (q_CR - z_GR[group_C])
        got = read(tmp_path, of_module(stored), {"quantization_config": config})
        assert np.array_equal(got, wanted.T.astype(np.float32))

    def test_three_words_of_three_bit_numbers_are_split_as_autogptq_splits_them(self):
        """AutoGPTQ ``pack``: number 10 lies in the last two bits of word 0 and the first of word 1, 21 in 1 and 2."""
        numbers = np.zeros(32, np.int64)
        numbers[10], numbers[21] = 0b101, 0b011
        assert stream(numbers, 3).view(np.uint32).tolist() == [0b01 << 30, 0b1 << 31 | 0b1, 0b01]

    def test_known_values(self, tmp_path):
        """One word for each output: inputs 0 to 7 are 0 to 7 and 7 to 0; zero points 7 + 1; scales 0.5 and 2."""
        stored = {
            "qweight": torch.tensor([[0x76543210, 0x01234567]], dtype=torch.int32),
            "qzeros": torch.tensor([[0x77]], dtype=torch.int32),
            "scales": torch.tensor([[0.5, 2.0]], dtype=torch.float16),
        }
        got = read(
            tmp_path,
            of_module(stored),
            {"quantization_config": {"quant_method": "gptq", "bits": 4}},
        )
        assert got.tolist() == [
            [-4, -3.5, -3, -2.5, -2, -1.5, -1, -0.5],
            [-2, -4, -6, -8, -10, -12, -14, -16],
        ]

    def test_modules_of_other_bits_are_read_by_their_shapes(self, tmp_path):
        rng = np.random.default_rng(0)
        stored = gptq(
            rng.integers(0, 256, (64, 32)),
            rng.integers(0, 256, (4, 32)),
            np.ones((4, 32), np.float16),
            8,
            1,
        )
        said = {
            "quant_method": "gptq",
            "bits": 4,
            "group_size": 128,
            "dynamic": {"+:.*up_proj": {"bits": 8}},
        }
        assert read(tmp_path, of_module(stored), {"quantization_config": said}).shape == (32, 64)

    def test_rows_of_two_weights_may_be_asked_for_by_turns(self, tmp_path):
        """What is kept of the one must not pass for the other."""
        from safetensors.torch import save_file

        ones, twos = (
            gptq(np.full((32, 16), n), np.zeros((2, 16), int), np.ones((2, 16), np.float16), 4, 1)
            for n in (1, 2)
        )
        save_file(
            of_module(ones, "m.one") | of_module(twos, "m.two"), tmp_path / "model.safetensors"
        )
        headers, _ = read_headers(tmp_path)
        found, _ = quantised_weights(headers, {})
        for start in (0, 4, 8):
            for name, number in (("m.one.weight", 1), ("m.two.weight", 2)):
                rows = found[name].read(
                    lambda n, a, b: read_bytes(headers[n], a, b), start, start + 4
                )
                assert np.unique(rows) == number


class TestAwq:
    def test_weights_are_those_of_the_converter_to_compressed_tensors(self, tmp_path):
        converters = pytest.importorskip("compressed_tensors.entrypoints.convert.converters")

        words = torch.randint(-(2**31), 2**31, (64, 4), dtype=torch.int32)
        zeros = torch.randint(-(2**31), 2**31, (2, 4), dtype=torch.int32)
        scales = torch.rand(2, 32).half()
        numbers, scale, zero = converters.AutoAWQConverter(group_size=32)._convert_gemm_module(
            words, scales, zeros
        )
        wanted = (numbers.float() - zero.repeat_interleave(32, 1)) * scale.repeat_interleave(
            32, 1
        ).float()
        stored = of_module({"qweight": words, "qzeros": zeros, "scales": scales})
        config = {
            "quantization_config": {
                "quant_method": "awq",
                "bits": 4,
                "group_size": 32,
                "version": "gemm",
            }
        }
        assert np.array_equal(read(tmp_path, stored, config), wanted.numpy())
        assert np.array_equal(read(tmp_path, stored), wanted.numpy()), "the shapes alone suffice"

    def test_known_values(self, tmp_path):
        """AutoAWQ ``order_map``: from the lowest on, the halves of a word's bytes are columns 0 2 4 6 1 3 5 7."""
        stored = {
            "qweight": torch.tensor([[0x75316420]], dtype=torch.int32),
            "qzeros": torch.tensor([[0]], dtype=torch.int32),
            "scales": torch.ones(1, 8, dtype=torch.float16),
        }
        assert read(tmp_path, of_module(stored)).tolist() == [
            [0],
            [1],
            [2],
            [3],
            [4],
            [5],
            [6],
            [7],
        ]


class TestGptOss:
    @pytest.mark.parametrize("dtype", ["uint8", "float8_e8m0fnu"])
    def test_experts_are_what_transformers_converts(self, tmp_path, dtype):
        from transformers.integrations.mxfp4 import convert_moe_packed_tensors

        blocks = torch.randint(0, 256, (3, 20, 2, 16), dtype=torch.uint8)
        scales = torch.randint(110, 140, (3, 20, 2), dtype=torch.uint8)
        module = "model.layers.0.mlp.experts.gate_up_proj"
        stored = {
            f"{module}_blocks": blocks,
            f"{module}_scales": scales.view(getattr(torch, dtype)),
        }
        wanted = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
        got = read(tmp_path, stored, {"quantization_config": {"quant_method": "mxfp4"}})
        assert got.shape == (3, 64, 20), (
            "as the same model is stored unquantised: (experts, in, out)"
        )
        assert np.array_equal(got, wanted.numpy())

    def test_they_are_the_same_tensors_as_those_stored_unquantised(self, tmp_path):
        from safetensors.torch import save_file
        from transformers.integrations.mxfp4 import convert_moe_packed_tensors

        from evalkit.loaders.weights import open_weights

        module = "model.layers.0.mlp.experts."
        plain, packed = {}, {}
        for name, outputs, groups in (("gate_up_proj", 128, 1), ("down_proj", 32, 2)):
            blocks = torch.randint(0, 256, (2, outputs, groups, 16), dtype=torch.uint8)
            scales = torch.randint(120, 130, (2, outputs, groups), dtype=torch.uint8)
            packed |= {f"{module}{name}_blocks": blocks, f"{module}{name}_scales": scales}
            plain[f"{module}{name}"] = convert_moe_packed_tensors(
                blocks, scales, dtype=torch.float32
            )
        for folder, tensors in (("plain", plain), ("packed", packed)):
            (tmp_path / folder).mkdir()
            save_file(tensors, tmp_path / folder / "model.safetensors")
            config = {"model_type": "gpt_oss", "hidden_size": 32}
            (tmp_path / folder / "config.json").write_text(json.dumps(config))
        wanted, got = open_weights(tmp_path / "plain"), open_weights(tmp_path / "packed")
        assert [tensor.name for tensor in got.tensors] == [tensor.name for tensor in wanted.tensors]
        assert {tensor.dtype for tensor in got.tensors} == {"mxfp4"}
        for own, other in zip(got.tensors, wanted.tensors, strict=True):
            assert np.array_equal(got.read(own), wanted.read(other))


def only_reason(folder: Path, tensors: Tensors, config: Mapping[str, Any] | None = None) -> str:
    """Return the one reason why nothing of these tensors is read; each of them must have it."""
    from safetensors.torch import save_file

    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()},
        folder / "model.safetensors",
    )
    found, reasons, _ = opened(folder, config or {})
    assert not found
    assert reasons.keys() == tensors.keys()
    (reason,) = set(reasons.values())
    return reason


def sound() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Return a small weight of each scheme with its configuration; every part of it is needed."""
    rng = np.random.default_rng(0)
    ints = torch.randint(0, 255, (8, 32), dtype=torch.uint8)
    packed = {
        "weight_packed": torch.randint(-99, 99, (16, 4), dtype=torch.int32),
        "weight_scale": torch.rand(16, 2),
        "weight_shape": torch.tensor([16, 32]),
        "weight_zero_point": torch.randint(-99, 99, (2, 2), dtype=torch.int32),
    }
    asymmetric = {
        "config_groups": {"g": {"weights": {"num_bits": 4, "symmetric": False, "group_size": 16}}}
    }
    state = json.dumps(
        {"shape": [8, 16], "blocksize": 64, "nested_blocksize": 256, "nested_offset": 0.5}
    ).encode()
    bnb = {
        "weight": ints.reshape(-1, 1)[:64],
        "weight.absmax": torch.zeros(2, dtype=torch.uint8),
        "weight.quant_map": torch.rand(16),
        "weight.nested_absmax": torch.rand(1),
        "weight.nested_quant_map": torch.rand(256),
        "weight.quant_state.bitsandbytes__nf4": torch.tensor(list(state), dtype=torch.uint8),
    }
    rows = gptq(
        rng.integers(0, 16, (32, 16)),
        rng.integers(0, 16, (2, 16)),
        np.ones((2, 16), np.float16),
        4,
        1,
    )
    return {
        "float8": (
            {"weight": ints.view(torch.float8_e4m3fn), "weight_scale": torch.rand(8, 1)},
            {},
        ),
        "int8": ({"weight": ints.view(torch.int8), "weight_scale": torch.rand(8, 1)}, {}),
        "int8 of bitsandbytes": ({"weight": ints.view(torch.int8), "SCB": torch.rand(8)}, {}),
        "packed": (packed, {"quant_method": "compressed-tensors", **asymmetric}),
        "nvfp4": (
            {
                "weight_packed": ints,
                "weight_scale": torch.rand(8, 4).to(torch.float8_e4m3fn),
                "weight_global_scale": torch.rand(1),
            },
            {"quant_method": "compressed-tensors"},
        ),
        "nf4": (bnb, {"quant_method": "bitsandbytes"}),
        "gptq": (rows, {"quant_method": "gptq"}),
        "awq": (
            {
                "qweight": torch.randint(-99, 99, (32, 2), dtype=torch.int32),
                "qzeros": torch.randint(-99, 99, (2, 2), dtype=torch.int32),
                "scales": torch.rand(2, 16).half(),
            },
            {"quant_method": "awq"},
        ),
        "mxfp4": (
            {
                "weight_blocks": ints.reshape(2, 4, 2, 16),
                "weight_scales": ints.flatten()[:16].reshape(2, 4, 2).clone(),
            },
            {"quant_method": "mxfp4"},
        ),
    }


def test_a_scale_beyond_float32_gives_infinity_and_no_warning(tmp_path):
    tensors, config = sound()["mxfp4"]
    tensors["weight_blocks"][:] = 0x77  # the greatest value, 6, twice in each byte
    tensors["weight_scales"][:] = 254  # 2 ** 127
    got = read(tmp_path, of_module(tensors), {"quantization_config": config})
    assert np.isposinf(got).all()


PARTS = [(scheme, part) for scheme, (tensors, _) in sound().items() for part in tensors]


class TestWhatCannotBeRead:
    @pytest.mark.parametrize("scheme", sound())
    def test_a_sound_weight_is_read(self, tmp_path, scheme):
        """Without which the tests below would prove nothing."""
        tensors, said = sound()[scheme]
        assert read(tmp_path, of_module(tensors), {"quantization_config": said}).size

    @pytest.mark.parametrize(("scheme", "lost"), PARTS)
    def test_a_weight_without_one_of_its_parts_is_listed_with_all_that_is_left_of_it(
        self, tmp_path, scheme, lost
    ):
        tensors, said = sound()[scheme]
        rest = of_module({name: tensor for name, tensor in tensors.items() if name != lost})
        assert only_reason_of(tmp_path, rest, {"quantization_config": said})

    @pytest.mark.parametrize(("scheme", "part"), PARTS)
    def test_a_part_of_another_shape_is_a_reason_and_no_crash(self, tmp_path, scheme, part):
        tensors, said = sound()[scheme]
        doubled = {**tensors, part: torch.cat([tensors[part]] * 3)}
        from safetensors.torch import save_file

        save_file(of_module(doubled), tmp_path / "model.safetensors")
        found, reasons, weight = opened(tmp_path, {"quantization_config": said})
        assert len(found) + bool(reasons) == 1
        if found:  # more bytes than a weight needs are harmless
            assert (scheme, part) == ("nf4", "weight")
            weight(*found)

    def test_a_float8_weight_without_a_scale_says_so(self, tmp_path):
        tensors = of_module({"weight": torch.ones(8, 8).to(torch.float8_e4m3fn)})
        assert "fp8 e4m3 without its scale" in only_reason(tmp_path, tensors)

    def test_the_bias_beside_a_weight_that_cannot_be_read_is_read(self, tmp_path):
        from safetensors.torch import save_file

        tensors = of_module(
            {"weight": torch.ones(8, 8).to(torch.float8_e4m3fn), "bias": torch.ones(8)}
        )
        save_file(tensors, tmp_path / "model.safetensors")
        _, reasons, _ = opened(tmp_path, {})
        assert list(reasons) == [name for name in tensors if name.endswith(".weight")]

    def test_the_index_of_a_group_that_is_not_there_is_a_reason(self, tmp_path):
        for index in ([0] * 31 + [2], [0] * 31 + [-1], [0] * 30):
            tensors, said = sound()["gptq"]
            wrong = {**tensors, "g_idx": torch.tensor(index, dtype=torch.int32)}
            reason = only_reason(tmp_path, of_module(wrong), {"quantization_config": said})
            assert "does not name one of 2 groups for each of 32 inputs" in reason

    @pytest.mark.parametrize("layout", ["marlin", "bitblas"])
    def test_gptq_in_another_layout_is_a_reason(self, tmp_path, layout):
        said = {"quant_method": "gptq", "bits": 4, "checkpoint_format": layout}
        assert layout in only_reason(
            tmp_path, of_module(sound()["gptq"][0]), {"quantization_config": said}
        )

    @pytest.mark.parametrize("version", ["gemv", "gemv_fast", "marlin"])
    def test_awq_in_another_layout_is_a_reason(self, tmp_path, version):
        said = {"quant_method": "awq", "bits": 4, "version": version}
        assert version in only_reason(
            tmp_path, of_module(sound()["awq"][0]), {"quantization_config": said}
        )

    def test_a_method_that_is_not_known_is_named_and_its_scales_are_no_weights(self, tmp_path):
        tensors = of_module(
            {
                "W_q": torch.ones(8, 8, dtype=torch.uint8),
                "scale": torch.ones(8, 1),
                "zero": torch.ones(8, 1),
            }
        )
        reason = only_reason(tmp_path, tensors, {"quantization_config": {"quant_method": "hqq"}})
        assert "the configuration says hqq" in reason

    def test_columns_of_int8_stored_for_another_processor_are_a_reason(self, tmp_path):
        tensors, _ = sound()["int8 of bitsandbytes"]
        turned = {**tensors, "weight_format": torch.tensor(1, dtype=torch.uint8)}
        assert "stored by rows" in only_reason(tmp_path, of_module(turned))

    def test_a_description_that_is_no_json_is_a_reason(self, tmp_path):
        tensors, said = sound()["nf4"]
        for text in (
            b"{",
            b"[]",
            b'{"shape": "no", "blocksize": 64}',
            b'{"shape": [8, 16], "blocksize": 0}',
        ):
            wrong = {
                **tensors,
                "weight.quant_state.bitsandbytes__nf4": torch.tensor(list(text), dtype=torch.uint8),
            }
            assert "quant_state" in only_reason(
                tmp_path, of_module(wrong), {"quantization_config": said}
            )

    def test_scales_of_activations_and_of_the_cache_are_no_loss(self, tmp_path):
        from safetensors.torch import save_file

        tensors = of_module(sound()["float8"][0], "model.layers.0.self_attn.k_proj")
        beside = {
            "model.layers.0.self_attn.k_proj.input_scale": torch.ones(1),
            "model.layers.0.self_attn.k_proj.k_scale": torch.ones(1),
        }
        elsewhere = {"model.layers.0.self_attn.v_scale": torch.ones(1)}
        save_file(tensors | beside | elsewhere, tmp_path / "model.safetensors")
        said = {"quantization_config": {"quant_method": "fp8"}}
        found, reasons, _ = opened(tmp_path, said)
        assert not reasons
        assert found["model.layers.0.self_attn.k_proj.weight"].members == (tensors | beside).keys()

    def test_a_scale_whose_weight_is_lost_is_no_weight(self, tmp_path):
        tensors = of_module({"weight_scale": torch.ones(8, 1)})
        said = {"quantization_config": {"quant_method": "fp8"}}
        assert "a quantised weight that is not there" in only_reason(tmp_path, tensors, said)

    def test_plain_tensors_beside_quantised_ones_are_left_alone(self, tmp_path):
        from safetensors.torch import save_file

        plain = {
            "model.embed_tokens.weight": torch.ones(4, 4),
            "model.layers.0.mlp.up_proj.bias": torch.ones(8),
            "model.layers.0.mlp.up_proj_extra.weight": torch.ones(4, 4),
            "model.embeddings.position_ids": torch.ones(1, 4, dtype=torch.int64),
            "h.0.attn.bias": torch.ones(1, 1, 4, 4, dtype=torch.uint8),
        }
        save_file(plain | of_module(sound()["float8"][0]), tmp_path / "model.safetensors")
        found, reasons, _ = opened(tmp_path, {})
        assert list(found) == ["model.layers.0.mlp.up_proj.weight"]
        assert not reasons
        assert not found["model.layers.0.mlp.up_proj.weight"].members & plain.keys()


def only_reason_of(folder: Path, tensors: Tensors, config: Mapping[str, Any]) -> bool:
    """Return whether nothing is read and every tensor that is left has a reason."""
    from safetensors.torch import save_file

    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()},
        folder / "model.safetensors",
    )
    found, reasons, _ = opened(folder, config)
    return not found and reasons.keys() == tensors.keys()


SHAPES = st.lists(st.integers(0, 9), max_size=4).map(tuple)
FORMATS = st.sampled_from(sorted(BITS.keys() - {"F6_E2M3", "F6_E3M2"}))
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 600) | st.sampled_from(["gptq", "gemm", "gptq_v2", "awq", ""]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["quant_method", "bits", "group_size", "config_groups", "weights", "num_bits", "symmetric",
             "weight_block_size", "block_structure", "checkpoint_format", "format", "dynamic", "a"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), scheme=st.sampled_from(sorted(sound())), said=ANYTHING)
def test_whatever_a_file_holds_each_tensor_is_read_or_has_a_reason_or_is_plain(
    tmp_path, data, scheme, said
):
    stored = {}
    for name, tensor in sound()[scheme][0].items():
        change = data.draw(st.sampled_from(["nothing"] * 5 + ["lost", "changed"]))
        dtype, shape = (
            DESCRIBED_BY_FORMAT[str(tensor.dtype).removeprefix("torch.")],
            tuple(tensor.shape),
        )
        numbers = tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        if change == "changed":
            dtype, shape = data.draw(FORMATS), data.draw(SHAPES)
            length = math.prod(shape) * BITS[dtype]
            shape, length = (shape, length // 8) if length % 8 == 0 else ((), BITS[dtype] // 8)
            dtype, length = (dtype, length) if shape or BITS[dtype] >= 8 else ("U8", 1)
            numbers = (numbers * (length // max(len(numbers), 1) + 1))[:length]
        if change != "lost":
            stored[f"m.{name}"] = (dtype, shape, numbers)
    write(tmp_path, stored)
    found, reasons, weight = opened(tmp_path, {"quantization_config": said})
    taken = {member for quantised in found.values() for member in quantised.members}
    assert not taken & reasons.keys()
    assert taken | reasons.keys() <= stored.keys()
    assert all(reasons.values())
    for name in found:
        with np.errstate(all="ignore"):
            weight(name)
