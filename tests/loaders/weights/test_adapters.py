"""Adapters are read and applied as peft applies them: row blocks of base + update equal the merged checkpoint's."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalkit.errors import RunError, UsageError
from evalkit.loaders.weights import adapted, open_adapter, open_weights
from evalkit.loaders.weights.fitted import fitted

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft"),
]
"""What peft says of the transformers library, and of configurations that these tests are about."""

SIZES = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "vocab_size": 64, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2,
}  # fmt: skip


def model_of(kind: str) -> Any:
    torch.manual_seed(0)
    if kind == "gpt2":
        sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 64, "n_positions": 16}
        config = transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=1)
        return transformers.GPT2LMHeadModel(config)
    if kind == "neox":
        return transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**SIZES))
    if kind == "phi3":
        return transformers.Phi3ForCausalLM(transformers.Phi3Config(**SIZES, num_key_value_heads=2))
    tied = kind == "tied"
    config = transformers.LlamaConfig(**SIZES, num_key_value_heads=2, tie_word_embeddings=tied)
    return transformers.LlamaForCausalLM(config)


def save(folder: Path, model: Any, **how: Any) -> Any:
    """Save a base model and an adapter of it whose numbers are all random; return the model with the adapter."""
    model.save_pretrained(folder / "base")
    how = {"r": 4, "lora_alpha": 10, "task_type": "CAUSAL_LM", **how}
    adapter = peft.get_peft_model(model, peft.LoraConfig(**how))
    for _, numbers in adapter.named_parameters():
        if numbers.requires_grad:
            numbers.data = torch.randn_like(numbers) * 0.3 + (numbers.dim() == 1)
    adapter.save_pretrained(folder / "adapter")
    return adapter


def assert_merged(folder: Path, *, but: tuple[str, ...] = ()) -> Any:
    """Check that base + adapter is what ``merged`` holds, row block by row block; return the adapter."""
    base, adapter = open_weights(folder / "base"), open_adapter(folder / "adapter")
    merged, ours = open_weights(folder / "merged"), adapted(base, adapter)
    assert not ours.faults
    assert {t.name: t.shape for t in ours.tensors} == {t.name: t.shape for t in merged.tensors}
    before = {tensor.name: tensor for tensor in base.tensors}
    changed = {update.name for update in adapter.updates} | {t.name for t in adapter.whole.tensors}
    for tensor in merged.tensors:
        wanted = merged.read(tensor)
        (own,) = [one for one in ours.tensors if one.name == tensor.name]
        for start in range(0, max(tensor.shape[0], 1), 5):
            got = ours.read(own, start, start + 5)
            assert got.dtype == np.float32
            scale = max(np.abs(wanted).max(), 1e-9)
            np.testing.assert_allclose(got / scale, wanted[start : start + 5] / scale, atol=3e-7)
        if not {tensor.name, tensor.part_of} & changed:
            assert np.array_equal(ours.read(own), base.read(before[tensor.name]))
        elif tensor.name not in but:
            assert not np.allclose(wanted, base.read(before[tensor.name]), atol=1e-2), tensor.name
    return adapter


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("llama", {"target_modules": ["q_proj", "v_proj", "down_proj"]}),
        ("llama", {"target_modules": ["q_proj", "o_proj"], "use_rslora": True}),
        (
            "llama",
            {
                "target_modules": ["q_proj", "k_proj", "up_proj", "down_proj"],
                "rank_pattern": {"down_proj": 7, "layers.1.self_attn.q_proj": 2},
                "alpha_pattern": {"^model.layers.0.mlp.up_proj": 32, "k_proj": 5},
            },
        ),
        ("llama", {"target_modules": ["q_proj", "down_proj"], "use_dora": True, "use_rslora": True}),
        ("llama", {"target_modules": ["embed_tokens", "q_proj"]}),
        ("llama", {"target_modules": ["embed_tokens", "lm_head"], "use_dora": True}),
        ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "embed_tokens"]}),
        ("gpt2", {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}),
        ("gpt2", {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True, "use_dora": True}),
        ("gpt2", {"target_modules": ["c_attn"], "fan_in_fan_out": True, "bias": "lora_only"}),
        (
            "gpt2",
            {"target_modules": ["c_attn"], "fan_in_fan_out": True, "bias": "all", "modules_to_save": ["c_fc"]},
        ),
        ("phi3", {"target_modules": ["qkv_proj", "gate_up_proj"]}),
        ("phi3", {"target_modules": ["qkv_proj", "gate_up_proj"], "use_dora": True}),
        ("neox", {"target_modules": ["query_key_value"]}),
        ("neox", {"target_modules": ["dense"], "modules_to_save": ["query_key_value"]}),
    ],
    ids=str,
)  # fmt: skip
def test_base_and_adapter_are_what_peft_merges(tmp_path, kind, how):
    with_adapter = save(tmp_path, model_of(kind), **how)
    scalings = {
        f"{name.removeprefix('base_model.model.')}.weight": (
            module.r["default"],
            module.scaling["default"],
        )
        for name, module in with_adapter.named_modules()
        if isinstance(module, peft.tuners.lora.LoraLayer)
    }
    with_adapter.merge_and_unload().save_pretrained(tmp_path / "merged")
    adapter = assert_merged(tmp_path)
    assert {one.name: (one.rank, one.scale) for one in adapter.updates} == scalings
    assert all(one.dora == how.get("use_dora", False) for one in adapter.updates)


def test_convolutions_are_updated_as_matrices_of_all_their_taps(tmp_path):
    from safetensors.torch import save_file

    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Conv2d(6, 8, 3), torch.nn.Conv1d(8, 5, 3))
    for folder in ("base", "merged"):
        (tmp_path / folder).mkdir()
    save_file(model.state_dict(), tmp_path / "base" / "model.safetensors")
    adapter = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["0", "1"]))
    for name, numbers in adapter.named_parameters():
        if "lora_B" in name:
            numbers.data = torch.randn_like(numbers)
    adapter.save_pretrained(tmp_path / "adapter")
    save_file(adapter.merge_and_unload().state_dict(), tmp_path / "merged" / "model.safetensors")
    read = assert_merged(tmp_path)
    assert [one.shape for one in read.updates] == [(8, 54), (5, 24)]


class TestFactors:
    def test_they_are_the_stored_ones_with_embeddings_turned(self, tmp_path):
        how = {"target_modules": ["embed_tokens", "q_proj"], "use_dora": True}
        with_adapter = save(tmp_path, model_of("llama"), **how)
        stored = {
            name: numbers.detach().numpy() for name, numbers in with_adapter.named_parameters()
        }
        adapter = open_adapter(tmp_path / "adapter")
        updates = {update.name: update for update in adapter.updates}
        table, query = "model.embed_tokens.weight", "model.layers.1.self_attn.q_proj.weight"
        A, B, magnitudes = adapter.factors(updates[query])
        prefix = "base_model.model.model.layers.1.self_attn.q_proj."
        assert np.array_equal(A, stored[f"{prefix}lora_A.default.weight"])
        assert np.array_equal(B, stored[f"{prefix}lora_B.default.weight"])
        assert np.array_equal(magnitudes, stored[f"{prefix}lora_magnitude_vector.default.weight"])
        assert updates[query].shape == (32, 32)
        A, B, magnitudes = adapter.factors(updates[table])
        prefix = "base_model.model.model.embed_tokens."
        assert np.array_equal(A, stored[f"{prefix}lora_embedding_B.default"].T)
        assert np.array_equal(B, stored[f"{prefix}lora_embedding_A.default"].T)
        assert magnitudes.shape == (32,)
        assert updates[table].shape == (64, 32)

    def test_an_adapter_that_never_trained_changes_nothing(self, tmp_path):
        model = model_of("llama")
        model.save_pretrained(tmp_path / "base")
        config = peft.LoraConfig(r=4, target_modules=["q_proj"])
        peft.get_peft_model(model, config).save_pretrained(tmp_path / "adapter")
        base, adapter = open_weights(tmp_path / "base"), open_adapter(tmp_path / "adapter")
        assert all(not adapter.factors(update)[1].any() for update in adapter.updates)
        ours = adapted(base, adapter)
        assert all(np.array_equal(ours.read(t), base.read(t)) for t in base.tensors)

    def test_what_is_not_finite_passes_as_it_is(self, tmp_path):
        with_adapter = save(tmp_path, model_of("llama"), target_modules=["q_proj"], use_dora=True)
        for name, numbers in with_adapter.named_parameters():
            if "lora_B" in name:
                numbers.data[0] = float("nan")
        with_adapter.save_pretrained(tmp_path / "adapter")
        ours = adapted(open_weights(tmp_path / "base"), open_adapter(tmp_path / "adapter"))
        (query,) = [t for t in ours.tensors if t.name == "model.layers.0.self_attn.q_proj.weight"]
        assert np.isnan(ours.read(query)[0]).all()
        assert np.isfinite(ours.read(query)[1:]).all()


class TestTheBase:
    def test_a_tied_head_with_an_update_becomes_a_head_of_its_own(self, tmp_path):
        """peft merges such an update into the embedding as well, which the adapter itself leaves alone."""
        save(tmp_path, model_of("tied"), target_modules=["lm_head"])
        base, adapter = open_weights(tmp_path / "base"), open_adapter(tmp_path / "adapter")
        assert "lm_head.weight" in base.tied
        ours = adapted(base, adapter)
        assert "lm_head.weight" not in ours.tied
        read = {tensor.name: ours.read(tensor) for tensor in ours.tensors}
        A, B, _ = adapter.factors(adapter.updates[0])
        table = read["model.embed_tokens.weight"]
        np.testing.assert_allclose(read["lm_head.weight"], table + 2.5 * B @ A, atol=1e-6)
        assert np.array_equal(table, base.read(base.tensors[0]))
        (head,) = [tensor for tensor in ours.tensors if tensor.name == "lm_head.weight"]
        assert (head.module, head.form) == ("head", "head")

    def test_names_may_have_one_prefix_less_than_the_adapters(self, tmp_path):
        """As GPT-2's own checkpoint on the hub has: h.0… where the model says transformer.h.0…"""
        from safetensors.torch import load_file, save_file

        save(tmp_path, model_of("gpt2"), target_modules=["c_attn"], fan_in_fan_out=True)
        path = tmp_path / "base" / "model.safetensors"
        stored = load_file(path)
        save_file({name.removeprefix("transformer."): n for name, n in stored.items()}, path)
        ours = adapted(open_weights(tmp_path / "base"), open_adapter(tmp_path / "adapter"))
        assert not ours.faults
        changed = [
            t
            for t in ours.tensors
            if not np.array_equal(ours.read(t), open_weights(tmp_path / "base").read(t))
        ]
        assert {tensor.part_of for tensor in changed} == {
            f"h.{i}.attn.c_attn.weight" for i in (0, 1)
        }

    def test_an_update_of_what_the_base_does_not_have_is_a_fault(self, tmp_path):
        save(tmp_path / "wide", model_of("neox"), target_modules=["dense"])
        model_of("llama").save_pretrained(tmp_path / "base")
        ours = adapted(open_weights(tmp_path / "base"), open_adapter(tmp_path / "wide" / "adapter"))
        assert {(f.check, f.tensor) for f in ours.faults} == {
            ("integrity.adapter", f"gpt_neox.layers.{i}.attention.dense.weight") for i in (0, 1)
        }

    def test_an_update_of_another_shape_is_a_fault_and_leaves_the_base_alone(self, tmp_path):
        save(tmp_path, model_of("llama"), target_modules=["q_proj"])
        sizes = {**SIZES, "hidden_size": 16}
        model = transformers.LlamaForCausalLM(
            transformers.LlamaConfig(**sizes, num_key_value_heads=2)
        )
        model.save_pretrained(tmp_path / "narrow")
        base = open_weights(tmp_path / "narrow")
        ours = adapted(base, open_adapter(tmp_path / "adapter"))
        assert [(f.check, "shape" in f.message) for f in ours.faults] == [
            ("integrity.adapter", True)
        ] * 2
        assert all(np.array_equal(ours.read(t), base.read(t)) for t in base.tensors)

    def test_a_resized_embedding_takes_the_place_of_the_bases(self, tmp_path):
        model = model_of("llama")
        model.save_pretrained(tmp_path / "base")
        model.resize_token_embeddings(70)
        config = peft.LoraConfig(
            r=4, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"]
        )
        with_adapter = peft.get_peft_model(model, config)
        with_adapter.save_pretrained(tmp_path / "adapter")
        ours = adapted(open_weights(tmp_path / "base"), open_adapter(tmp_path / "adapter"))
        shapes = {tensor.name: tensor.shape for tensor in ours.tensors}
        assert shapes["model.embed_tokens.weight"] == shapes["lm_head.weight"] == (70, 32)
        assert not ours.faults


class TestInTheBasesTerms:
    def test_a_fused_update_is_one_of_each_part_and_the_rows_are_its_own(self, tmp_path):
        save(tmp_path, model_of("neox"), target_modules=["query_key_value"], use_dora=True)
        base, adapter = open_weights(tmp_path / "base"), open_adapter(tmp_path / "adapter")
        ours = fitted(base, adapter)
        fused = "gpt_neox.layers.{}.attention.query_key_value.weight"
        names = [f"{fused.format(i)}[{part}]" for i in (0, 1) for part in "qkv"]
        assert [(u.name, u.shape, u.rank, u.dora) for u in ours.updates] == [
            (name, (32, 32), 4, True) for name in names
        ]
        A, B, magnitudes = adapter.factors(adapter.updates[0])
        head_by_head = np.arange(96).reshape(
            4, 3, 8
        )  # 4 heads, each with its query, key and value of 8 rows
        for place, update in enumerate(ours.updates[:3]):
            own_A, own_B, own_magnitudes = ours.factors(update)
            rows = head_by_head[:, place].ravel()
            assert np.array_equal(own_A, A)
            assert np.array_equal(own_B, B[rows])
            assert np.array_equal(own_magnitudes, magnitudes[rows])

    def test_tensors_that_are_replaced_come_apart_and_turn_as_the_bases_do(self, tmp_path):
        how = {"target_modules": ["c_proj"], "fan_in_fan_out": True, "modules_to_save": ["c_attn"]}
        save(tmp_path, model_of("gpt2"), **how)
        base, adapter = open_weights(tmp_path / "base"), open_adapter(tmp_path / "adapter")
        ours = fitted(base, adapter).whole
        stored = {tensor.name: adapter.whole.read(tensor) for tensor in adapter.whole.tensors}
        name = "transformer.h.0.attn.c_attn.weight"
        (key,) = [tensor for tensor in ours.tensors if tensor.name == f"{name}[k]"]
        assert (key.part_of, key.module, key.shape) == (name, "key", (32, 32))
        assert np.array_equal(ours.read(key, 3, 9), stored[name].T[35:41])

    def test_doing_it_twice_changes_nothing_more(self, tmp_path):
        save(tmp_path, model_of("phi3"), target_modules=["gate_up_proj"])
        base = open_weights(tmp_path / "base")
        once = fitted(base, open_adapter(tmp_path / "adapter"))
        twice = fitted(base, once)
        assert twice.updates == once.updates
        for update in once.updates:
            for own, other in zip(twice.factors(update), once.factors(update), strict=True):
                assert own is None or np.array_equal(own, other)

    def test_what_fits_nothing_of_the_base_stays_as_it_is(self, tmp_path):
        save(tmp_path / "other", model_of("neox"), target_modules=["query_key_value"])
        model_of("llama").save_pretrained(tmp_path / "base")
        adapter = open_adapter(tmp_path / "other" / "adapter")
        assert fitted(open_weights(tmp_path / "base"), adapter).updates == adapter.updates


def written(folder: Path, tensors: dict[str, Any], **config: Any) -> Path:
    from safetensors.torch import save_file

    said = {
        "peft_type": "LORA",
        "r": 2,
        "lora_alpha": 4,
        "base_model_name_or_path": "org/base",
        **config,
    }
    (folder / "adapter_config.json").write_text(json.dumps(said))
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def pair(name: str = "m.q_proj", rank: int = 2) -> dict[str, Any]:
    prefix = f"base_model.model.{name}"
    return {
        f"{prefix}.lora_A.weight": torch.ones(rank, 6),
        f"{prefix}.lora_B.weight": torch.ones(4, rank),
    }


class TestWhatIsRefused:
    def test_a_pickled_adapter_with_advice(self, tmp_path):
        written(tmp_path, pair())
        (tmp_path / "adapter_model.safetensors").rename(tmp_path / "adapter_model.bin")
        with pytest.raises(UsageError, match="runs code when it is read; convert it"):
            open_adapter(tmp_path)

    def test_a_folder_without_an_adapter(self, tmp_path):
        with pytest.raises(UsageError, match=r"holds no adapter_config\.json"):
            open_adapter(tmp_path)
        (tmp_path / "adapter_config.json").write_text(
            '{"peft_type": "LORA", "r": 2, "lora_alpha": 4}'
        )
        with pytest.raises(UsageError, match=r"holds no adapter_model\.safetensors"):
            open_adapter(tmp_path)

    @pytest.mark.parametrize("kind", ["IA3", "LOHA", "VERA", "ADALORA", "PREFIX_TUNING"])
    def test_other_kinds_of_adapters_by_name(self, tmp_path, kind):
        with pytest.raises(UsageError, match=f"is a {kind} adapter; LoRA adapters are read"):
            open_adapter(written(tmp_path, pair(), peft_type=kind))

    @pytest.mark.parametrize(
        ("setting", "said"),
        [
            ({"use_qalora": True}, "QA-LoRA"),
            ({"alora_invocation_tokens": [1]}, "activated LoRA"),
            ({"layer_replication": [[0, 4]]}, "layer replication"),
            ({"init_lora_weights": "pissa_niter_4"}, "moves the base's weights"),
            ({"init_lora_weights": "olora"}, "moves the base's weights"),
            ({"r": 0}, "no whole number above 0 as r"),
            ({"r": "8"}, "no whole number above 0 as r"),
            ({"rank_pattern": {"q": 1.5}}, "no whole number above 0 as r"),
            ({"lora_alpha": None}, "no number as lora_alpha"),
            ({"lora_alpha": 10**400}, "no number as lora_alpha"),
            ({"alpha_pattern": {"q": -(10**400)}}, "no number as lora_alpha"),
            ({"use_rslora": "false"}, "neither true nor false as use_rslora"),
            ({"use_dora": 0}, "neither true nor false as use_dora"),
            ({"fan_in_fan_out": "true"}, "neither true nor false as fan_in_fan_out"),
            ({"alpha_pattern": {"(": 4}}, "pattern"),
        ],
    )
    def test_configurations_whose_update_is_not_scale_times_b_a(self, tmp_path, setting, said):
        with pytest.raises(UsageError, match=said):
            open_adapter(written(tmp_path, pair(), **setting))

    @pytest.mark.parametrize("content", ["{", "[]", "[" * 100_000], ids=["cut", "list", "deep"])
    def test_a_configuration_that_is_none(self, tmp_path, content):
        written(tmp_path, pair())
        (tmp_path / "adapter_config.json").write_text(content)
        with pytest.raises(UsageError, match="JSON"):
            open_adapter(tmp_path)

    def test_a_file_that_is_cut_off_in_its_header(self, tmp_path):
        written(tmp_path, pair())
        path = tmp_path / "adapter_model.safetensors"
        path.write_bytes(path.read_bytes()[:40])
        with pytest.raises(RunError, match="cut off"):
            open_adapter(tmp_path)

    def test_a_factor_that_is_cut_off_is_a_fault_and_its_update_is_skipped(self, tmp_path):
        written(tmp_path, pair())
        path = tmp_path / "adapter_model.safetensors"
        path.write_bytes(path.read_bytes()[:-4])
        adapter = open_adapter(tmp_path)
        assert adapter.updates == ()
        assert set(adapter.skipped.values()) == {"m.q_proj has one factor of two"}
        assert [fault.check for fault in adapter.whole.faults] == ["integrity.unreadable"] * 2


class TestWhatIsSkipped:
    def skipped(self, folder: Path, tensors: dict[str, Any], **config: Any) -> dict[str, str]:
        """Return reasons by the ends of names; whatever is stored is read or has one."""
        adapter = open_adapter(written(folder, {**pair("m.sound"), **tensors}, **config))
        assert [update.name for update in adapter.updates] == ["m.sound.weight"]
        assert adapter.base == "org/base"
        whole = {tensor.stored for tensor in adapter.whole.tensors}
        sound = pair("m.sound").keys()
        assert adapter.skipped.keys() | whole | sound == {*tensors, *sound}
        return dict(adapter.skipped)

    def test_a_factor_that_is_stored_twice(self, tmp_path):
        twice = pair()
        twice |= {
            name.replace(".weight", ".default.weight"): n.clone() for name, n in twice.items()
        }
        adapter = open_adapter(written(tmp_path, twice))
        assert len(adapter.updates) == 1
        assert [why.endswith("is the same") for why in adapter.skipped.values()] == [True, True]

    def test_half_a_pair(self, tmp_path):
        (name, numbers), _ = pair().items()
        assert set(self.skipped(tmp_path, {name: numbers}).values()) == {
            "m.q_proj has one factor of two"
        }

    def test_another_rank_than_the_one_stated(self, tmp_path):
        reasons = set(self.skipped(tmp_path, pair(rank=3)).values())
        assert reasons == {"m.q_proj has rank 3, but adapter_config.json says 2: it would not load"}

    @pytest.mark.parametrize(
        "shapes",
        [((2, 6), (4, 3)), ((2, 6), (4,)), ((2,), (4, 2)), ((0, 6), (4, 0)), ((2, 0), (4, 2))],
    )
    def test_factors_that_do_not_fit(self, tmp_path, shapes):
        names = list(pair())
        factors = {name: torch.ones(shape) for name, shape in zip(names, shapes, strict=True)}
        assert all("do not fit" in why for why in self.skipped(tmp_path, factors).values())

    def test_magnitudes_that_nothing_reads(self, tmp_path):
        name = "base_model.model.m.sound.lora_magnitude_vector"
        assert "use_dora" in self.skipped(tmp_path, {name: torch.ones(4)})[name]

    def test_biases_of_updates_and_single_tokens(self, tmp_path):
        tensors = {
            "base_model.model.m.sound.lora_B.bias": torch.ones(4),
            "base_model.model.embed.token_adapter.trainable_tokens_delta": torch.ones(1, 4),
            "base_model.model.m.sound.lora_new_kind": torch.ones(4),
        }
        assert self.skipped(tmp_path, tensors).keys() == tensors.keys()

    def test_updates_of_parameters(self, tmp_path):
        reasons = self.skipped(
            tmp_path, pair("m.experts"), target_parameters=["experts.gate_up_proj"]
        )
        assert all("target_parameters" in why for why in reasons.values())

    def test_dora_without_magnitudes(self, tmp_path):
        magnitude = {"base_model.model.m.sound.lora_magnitude_vector": torch.ones(4)}
        adapter = open_adapter(
            written(tmp_path, {**pair("m.sound"), **magnitude, **pair()}, use_dora=True)
        )
        assert [update.name for update in adapter.updates] == ["m.sound.weight"]
        assert set(adapter.skipped.values()) == {
            "m.q_proj lacks the magnitudes that use_dora promises"
        }


def test_a_pattern_names_whole_parts_of_a_modules_path(tmp_path):
    """peft ``get_pattern_key``: ``proj`` is no part of the path m.q_proj."""
    patterns = {"proj": 99, "m.q_proj": 8}
    (update,) = open_adapter(written(tmp_path, pair(), alpha_pattern=patterns)).updates
    assert update.scale == 8 / 2


@pytest.mark.parametrize(("stabilised", "scale"), [(False, 16 / 8), (True, 16 / math.sqrt(8))])
def test_the_scale_is_alpha_over_the_rank_or_its_root(tmp_path, stabilised, scale):
    tensors = {
        "base_model.model.m.q_proj.lora_A.weight": torch.ones(8, 6),
        "base_model.model.m.q_proj.lora_B.weight": torch.ones(4, 8),
    }
    (update,) = open_adapter(
        written(tmp_path, tensors, r=8, lora_alpha=16, use_rslora=stabilised)
    ).updates
    assert update.scale == scale
    assert (update.name, update.rank, update.shape) == ("m.q_proj.weight", 8, (4, 6))
