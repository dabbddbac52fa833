"""Finding checkpoints: known by the bytes that can change an answer, whole or refused."""

from __future__ import annotations

import json
import shutil
import struct
import sys
from pathlib import Path

import pytest

from evalkit.errors import UsageError
from evalkit.loaders.checkpoints import (
    check_whole,
    find_adapter,
    find_checkpoint,
    find_weights,
)
from evalkit.loaders.file_digests import FileDigests

DIGEST_FILE = FileDigests(None)


def safetensors(value: int = 0) -> bytes:
    """Return a safetensors file of one tensor: header length, header, data (the format's own README)."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes([value] * 4)


@pytest.fixture
def checkpoint(tmp_path):
    """Write a small whole checkpoint; further files by name."""

    def checkpoint(name: str = "model", **files: bytes | str | None) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        whole: dict[str, bytes | str | None] = {
            "config.json": "{}",
            "tokenizer.json": "{}",
            "model.safetensors": safetensors(),
        }
        for file, content in (whole | files).items():
            if content is not None:
                (folder / file).parent.mkdir(exist_ok=True)
                (folder / file).write_bytes(
                    content if isinstance(content, bytes) else content.encode()
                )
        return folder

    return checkpoint


@pytest.fixture
def find(tmp_path):
    def find(name: str = "model"):
        return find_checkpoint(name, folder=tmp_path, digest_file=DIGEST_FILE)

    return find


# --- identity --------------------------------------------------------------------------------------------------


def test_a_copy_elsewhere_is_the_same_checkpoint(checkpoint, find, tmp_path):
    shutil.copytree(checkpoint(), tmp_path / "copy")
    assert find("copy").digest == find("model").digest
    assert find("copy").location == str(tmp_path / "copy")


@pytest.mark.parametrize(
    "file",
    [
        "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
        "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "qwen.tiktoken",
        "chat_template.jinja", "chat_template.json", "preprocessor_config.json", "modeling_custom.py",
        "quantize_config.json", "tokenizer.model.v3", "dict.txt", "bpe.codes", "source.spm",
        "additional_chat_templates/default.jinja", "custom_generate/generate.py",
    ],
)  # fmt: skip
def test_a_file_that_can_change_an_answer_changes_the_digest(checkpoint, find, file):
    checkpoint(**{file: '{"a": 1}'})
    before = find()
    checkpoint(**{file: '{"a": 2}'})
    assert find().digest != before.digest
    assert file in before.files


def test_other_weights_are_another_checkpoint(checkpoint, find):
    checkpoint()
    before = find().digest
    checkpoint(**{"model.safetensors": safetensors(1)})
    assert find().digest != before


def test_a_file_under_another_name_is_another_checkpoint(checkpoint, find):
    folder = checkpoint(**{"vocab.json": "{}"})
    before = find().digest
    (folder / "vocab.json").rename(folder / "added_tokens.json")
    assert find().digest != before


@pytest.mark.parametrize(
    "file",
    [
        "README.md", "LICENSE", "optimizer.pt", "scheduler.pt", "rng_state_0.pth", "training_args.bin", "train.log",
        "trainer_state.json", "all_results.json", "eval_results.json", ".gitattributes", "pytorch_model.bin",
    ],
)  # fmt: skip
def test_what_a_training_leaves_beside_is_no_part_of_it(checkpoint, find, file):
    checkpoint()
    before = find().digest
    checkpoint(**{file: "anything"})
    assert find().digest == before


def test_folders_inside_are_no_part_of_it(checkpoint, find, tmp_path):
    folder = checkpoint()
    before = find().digest
    shutil.copytree(folder, tmp_path / "inside")
    shutil.move(tmp_path / "inside", folder / "checkpoint-500")
    assert find().digest == before


def test_the_quickstart_checkpoints_are_found_and_differ(root):
    folder = root / "suites" / "quickstart"
    found = [
        find_checkpoint(f"models/{name}", folder=folder, digest_file=DIGEST_FILE)
        for name in ("baseline", "candidate")
    ]
    assert found[0].digest != found[1].digest
    assert {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"} <= found[
        0
    ].files.keys()


def test_a_relative_name_is_looked_up_from_the_suite_and_then_from_here(
    checkpoint, tmp_path, monkeypatch
):
    checkpoint("here")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "suite").mkdir()
    found = find_checkpoint("here", folder=tmp_path / "suite", digest_file=DIGEST_FILE)
    assert found.location == str(tmp_path / "here")


# --- adapters --------------------------------------------------------------------------------------------------


def adapter_of(base: str) -> dict[str, bytes | str | None]:
    return {
        "config.json": None,
        "tokenizer.json": None,
        "model.safetensors": None,
        "adapter_model.safetensors": safetensors(7),
        "adapter_config.json": json.dumps({"base_model_name_or_path": base}),
    }


def test_an_adapter_is_known_by_its_own_bytes_and_its_base_models(checkpoint, find):
    checkpoint("base")
    checkpoint("adapter", **adapter_of("../base"))
    before = find("adapter")
    assert {
        "adapter_model.safetensors",
        "base/model.safetensors",
        "base/config.json",
    } <= before.files.keys()
    checkpoint("base", **{"model.safetensors": safetensors(1)})
    assert find("adapter").digest != before.digest


def test_an_adapter_of_an_adapter_is_refused(checkpoint, find):
    checkpoint("adapter", **adapter_of("../adapter"))
    with pytest.raises(UsageError, match="which is an adapter itself"):
        find("adapter")


def test_an_adapter_without_a_base_is_refused(checkpoint, find):
    checkpoint("adapter", **(adapter_of("") | {"adapter_config.json": "{}"}))
    with pytest.raises(UsageError, match="names no base model"):
        find("adapter")


# --- what is no whole checkpoint -------------------------------------------------------------------------------

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 99\n"  # the format's specification
INDEX = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})

BROKEN = [
    ({"model.safetensors": None}, r"holds no weights \(\*\.safetensors, \*\.gguf\)$"),
    (
        {"model.safetensors": None, "optimizer.pt": "x"},
        r"holds no weights \(\*\.safetensors, \*\.gguf\)$",
    ),
    (
        {"model.safetensors": None, "pytorch_model.bin": "x"},
        r"only pickled ones \(pytorch_model\.bin\), which run code when they are read; convert them: .*"
        r"safe_serialization=True",
    ),
    ({"config.json": None}, "holds weights but no config.json"),
    (
        {
            "model.safetensors": None,
            "model.safetensors.index.json": INDEX,
            "model-1.safetensors": safetensors(),
        },
        r"1 of 2 shards that model\.safetensors\.index\.json names are missing: model-2\.safetensors",
    ),
    ({"model.safetensors.index.json": "{"}, r"index\.json' is not JSON"),
    ({"model.safetensors.index.json": "[]"}, r"index\.json' holds no JSON object"),
    ({"model.safetensors": LFS}, "is a Git LFS pointer, not the weights; run: git lfs pull"),
    ({"model.safetensors": safetensors()[:-1]}, "is cut off: [0-9]+ of [0-9]+ bytes"),
    ({"model.safetensors": safetensors()[:20]}, "is cut off or no safetensors file"),
    ({"model.safetensors": b""}, "is cut off or no safetensors file"),
    ({"model.safetensors": b"\x04" + b"\0" * 7 + b"nope"}, "is damaged or no safetensors file"),
    ({"model.safetensors": b"\x02" + b"\0" * 7 + b"[]"}, "is damaged or no safetensors file"),
]


@pytest.mark.parametrize(("files", "message"), BROKEN)
def test_a_broken_checkpoint_is_refused_with_what_is_wrong(checkpoint, find, files, message):
    checkpoint(**files)
    with pytest.raises(UsageError, match=message):
        find()


DAMAGED = [
    (files, told)
    for files, told in BROKEN
    if "holds no weights" not in told and "pickled" not in told
]


@pytest.mark.parametrize(("files", "message"), DAMAGED)
def test_weights_are_found_damaged_too_so_that_what_is_wrong_can_be_said(
    checkpoint, tmp_path, files, message
):
    """They may not answer, though: asked whether they are whole, they are refused as ever."""
    place = checkpoint(**files)
    found = find_weights("model", folder=tmp_path, digest_file=DIGEST_FILE)
    assert (found.folder, found.adapter) == (place, None)
    again = find_checkpoint("model", folder=tmp_path, digest_file=DIGEST_FILE, whole=False)
    assert found.digest == again.digest
    with pytest.raises(UsageError, match=message):
        check_whole(place)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("shard", ["shards/a.safetensors", "../a.safetensors", "./a.safetensors"])
def test_an_index_that_names_weights_elsewhere_is_refused(checkpoint, tmp_path, shard, whole):
    """Engines read them there, where no digest of this folder sees them change."""
    index = json.dumps({"weight_map": {"w": shard, "v": "model.safetensors"}})
    folder = checkpoint(**{"model.safetensors.index.json": index})
    (folder / shard).parent.mkdir(exist_ok=True)
    (folder / shard).write_bytes(safetensors(1))
    with pytest.raises(UsageError, match=r"names weights outside the folder \('\.?\.?[/a-z]+\."):
        find_checkpoint("model", folder=tmp_path, digest_file=DIGEST_FILE, whole=whole)


def test_an_index_that_names_what_lies_beside_it_is_found(checkpoint, find):
    index = json.dumps({"weight_map": {"w": "model.safetensors"}})
    checkpoint(**{"model.safetensors.index.json": index})
    assert "model.safetensors.index.json" in find().files


@pytest.mark.parametrize("files", [BROKEN[0][0], BROKEN[2][0]])
def test_a_folder_without_weights_is_no_damaged_checkpoint(checkpoint, tmp_path, files):
    checkpoint(**files)
    with pytest.raises(UsageError, match="holds no weights"):
        find_weights("model", folder=tmp_path, digest_file=DIGEST_FILE)


def test_whole_weights_have_the_digest_that_their_checkpoint_has(checkpoint, find, tmp_path):
    checkpoint("base")
    checkpoint("adapter", **adapter_of("../base"))
    for name in ("base", "adapter"):
        found = find_weights(name, folder=tmp_path, digest_file=DIGEST_FILE)
        assert (found.digest, found.files) == (find(name).digest, find(name).files)


def test_an_adapters_weights_are_its_base_models_with_it_on_them(checkpoint, tmp_path):
    base, adapter = checkpoint("base"), checkpoint("adapter", **adapter_of("../base"))
    found = find_weights("adapter", folder=tmp_path, digest_file=DIGEST_FILE)
    assert (found.folder, found.adapter) == (base, adapter)


def test_an_adapter_whose_base_is_nowhere_is_put_on_the_one_that_is_given(checkpoint, tmp_path):
    base, adapter = checkpoint("base"), checkpoint("adapter", **adapter_of("../gone"))
    with pytest.raises(UsageError, match="gone"):
        find_weights("adapter", folder=tmp_path, digest_file=DIGEST_FILE)
    given = find_weights("base", folder=tmp_path, digest_file=DIGEST_FILE)
    found = find_weights("adapter", folder=tmp_path, digest_file=DIGEST_FILE, put_on=given)
    assert (found.folder, found.adapter) == (base, adapter)
    other = checkpoint("other", **{"model.safetensors": safetensors(1)})
    put_on = find_weights(str(other), folder=tmp_path, digest_file=DIGEST_FILE)
    elsewhere = find_weights("adapter", folder=tmp_path, digest_file=DIGEST_FILE, put_on=put_on)
    assert elsewhere.digest != found.digest


def test_an_adapter_stands_by_itself_whatever_became_of_its_base(checkpoint, tmp_path):
    adapter = checkpoint("adapter", **adapter_of("../gone"))
    assert find_adapter("adapter", folder=tmp_path, digest_file=DIGEST_FILE).adapter == adapter
    checkpoint("model")
    with pytest.raises(UsageError, match="is no adapter"):
        find_adapter("model", folder=tmp_path, digest_file=DIGEST_FILE)


def test_an_adapter_on_a_damaged_base_is_not_whole(checkpoint, tmp_path):
    checkpoint("base", **{"model.safetensors": safetensors()[:-1]})
    adapter = checkpoint("adapter", **adapter_of("../base"))
    with pytest.raises(UsageError, match="is cut off"):
        check_whole(adapter)


def test_a_gguf_file_needs_no_configuration(checkpoint, find):
    checkpoint(**{"config.json": None, "model.safetensors": None, "tiny.gguf": b"GGUF"})
    assert "tiny.gguf" in find().files


def test_the_folder_above_the_checkpoints_names_the_last_of_them(checkpoint, find, tmp_path):
    (tmp_path / "run").mkdir()
    checkpoint("run/checkpoint-500")
    with pytest.raises(
        UsageError, match=r"holds no weights .*; did you mean '.*run/checkpoint-500'\?"
    ):
        find("run")


# --- what is not there -----------------------------------------------------------------------------------------


def test_a_misspelt_folder_names_the_nearest_one(checkpoint, find, tmp_path):
    (tmp_path / "models").mkdir()
    checkpoint("models/candidate")
    with pytest.raises(UsageError) as caught:
        find("models/candidat")
    assert str(caught.value) == (
        "no checkpoint 'models/candidat': there is no such folder; did you mean 'models/candidate'?"
    )


def test_a_file_is_no_checkpoint(checkpoint, find):
    checkpoint()
    with pytest.raises(UsageError, match="is a file; a checkpoint is a folder"):
        find("model/config.json")


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "../nowhere", "a b", "a/b/c"])
def test_a_name_that_cannot_be_a_hub_id_is_not_looked_for_there(find, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UsageError, match="there is no such folder"):
        find(name)


@pytest.mark.parametrize("name", ["", "  "])
def test_an_empty_name_is_no_checkpoint(find, checkpoint, name):
    checkpoint(".")
    with pytest.raises(UsageError, match="the name is empty"):
        find(name)


def test_a_name_that_the_file_system_cannot_hold_is_a_usage_error(find):
    with pytest.raises(UsageError, match="File name too long"):
        find("x" * 300)


def test_a_hub_id_without_the_hubs_library_names_the_command_that_installs_it(find, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UsageError, match=r"pip install 'evalkit-gates\[transformers\]'"):
        find("nobody/nothing")


@pytest.fixture
def cache(checkpoint, tmp_path, monkeypatch):
    """A hub cache as a download leaves it, on a machine without a network."""
    pytest.importorskip("huggingface_hub")
    revision = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "hub" / "models--org--tiny"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(revision)
    (repo / "snapshots").mkdir()
    shutil.move(checkpoint(), repo / "snapshots" / revision)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return revision


def test_a_hub_id_is_found_in_the_hubs_cache_without_a_network(cache, find, checkpoint):
    found = find("org/tiny")
    assert found.location.endswith(cache)
    checkpoint()
    assert find("model").digest == found.digest
    assert find(f"org/tiny@{cache}").digest == found.digest


def test_a_hub_id_that_is_not_in_the_cache_is_a_usage_error(cache, find):
    for name in ("org/other", "org/tiny@v2"):
        with pytest.raises(
            UsageError,
            match=rf"no checkpoint '{name}': there is no such folder, and the hub gives none",
        ):
            find(name)
