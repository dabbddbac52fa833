"""A model that is to be deployed is named as the run named it, and every byte of it is read."""

from __future__ import annotations

import json

import pytest
import tiny_checkpoints

from evalkit.errors import RunError
from evalkit.loaders import deployed
from evalkit.loaders.deployed import deployed_files

pytest.importorskip("transformers", reason="the transformers extra is not installed")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    from tiny_llama import write_adapter, write_llama

    folder = tmp_path_factory.mktemp("models")
    write_adapter(folder / "adapter", write_llama(folder / "base"))
    return folder


def recorded(name, **args):
    """What a run with transformers records of a model."""
    from evalkit.backends.transformers import TransformersArgs, TransformersBackend

    parsed = TransformersArgs(**{key: str(value) for key, value in args.items()})
    return TransformersBackend.from_model(str(name), parsed, tiny_checkpoints.find).model.files


def test_a_checkpoint_is_named_as_the_run_named_it(place):
    files = recorded(place / "base")
    assert deployed_files(place / "base", None, files) == (files, [])


def test_an_adapter_that_was_the_model_is_named_as_the_run_named_it(place):
    pytest.importorskip("peft", reason="peft is not installed")
    files = recorded(place / "adapter")
    assert "adapter/adapter_model.safetensors" in files and "model.safetensors" in files
    assert deployed_files(place / "adapter", None, files) == (files, [])


def test_an_adapter_beside_the_model_is_named_as_the_run_named_it(place):
    pytest.importorskip("peft", reason="peft is not installed")
    files = recorded(place / "base", adapter=place / "adapter")
    assert deployed_files(place / "base", place / "adapter", files) == (files, [])
    found, wrong = deployed_files(place / "base", None, files)
    assert not any(name.startswith("adapter/") for name in found) and not wrong


def test_an_adapter_as_vllm_records_it_is_named_so(place):
    """There the model is the adapter, and what it is put on stands under base/."""
    files = tiny_checkpoints.find(str(place / "adapter")).files
    assert "base/model.safetensors" in files
    assert deployed_files(place / "adapter", None, files) == (files, [])


def test_a_folder_without_weights_says_so_and_names_what_is_there(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    found, wrong = deployed_files(tmp_path, None, ["config.json", "model.safetensors"])
    assert list(found) == ["config.json"]
    assert len(wrong) == 1 and "holds no weights" in wrong[0]


def test_an_adapter_whose_base_is_gone_says_so(tmp_path):
    (tmp_path / "adapter_model.safetensors").write_bytes(b"x")
    base = {"base_model_name_or_path": "./gone"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(base))
    found, wrong = deployed_files(tmp_path, None, ["adapter_config.json"])
    assert list(found) == ["adapter_config.json"] and "gone" in wrong[0]


def test_recorded_answers_are_known_by_their_files(tmp_path):
    from evalkit.backends.replay import ReplayArgs, ReplayBackend

    (tmp_path / "extract.jsonl").write_text('{"id": 1, "text": "x"}\n')
    for place in (tmp_path, tmp_path / "extract.jsonl"):
        files = ReplayBackend.from_model(
            str(place), ReplayArgs(), tiny_checkpoints.find
        ).model.files
        assert deployed_files(place, None, files, replayed=True) == (files, [])


@pytest.mark.parametrize("replayed", [False, True])
def test_no_digest_is_remembered(tmp_path, monkeypatch, replayed):
    """A file that was rewritten with its size and times kept would be believed by a cache, so that none is asked."""
    kept = []

    class Watched(deployed.FileDigests):
        def __init__(self, db_path):
            kept.append(db_path)
            super().__init__(db_path)

    monkeypatch.setattr(deployed, "FileDigests", Watched)
    name = "extract.jsonl" if replayed else "model.safetensors"
    (tmp_path / name).write_bytes(b"one")
    assert list(deployed_files(tmp_path, None, [], replayed=replayed)[0]) == [name]
    assert kept and set(kept) == {None}


@pytest.mark.parametrize("added", ["model.safetensors", "notes.txt", "weights/model.safetensors"])
def test_what_lies_beside_recorded_answers_is_objected_to(tmp_path, added):
    """Else whatever weights stand there would pass for what was signed."""
    (tmp_path / "extract.jsonl").write_text("{}")
    (tmp_path / added).parent.mkdir(exist_ok=True)
    (tmp_path / added).write_bytes(b"weights")
    found, (wrong,) = deployed_files(tmp_path, None, ["extract.jsonl"], replayed=True)
    assert list(found) == ["extract.jsonl"]
    assert "saw no weights" in wrong and f": {added.partition('/')[0]}; sign a run of" in wrong


@pytest.mark.parametrize(
    "added",
    [
        "additional_chat_templates/default.jinja",
        "custom_generate/generate.py",
        "custom_generate/requirements.txt",
        "tokenizer.model.v3",
        "dict.txt",
    ],
)
def test_a_file_that_an_engine_would_read_is_seen_wherever_it_is_added(tmp_path, added):
    (tmp_path / "model.safetensors").write_bytes(b"one")
    before = deployed_files(tmp_path, None, [])[0]
    (tmp_path / added).parent.mkdir(exist_ok=True)
    (tmp_path / added).write_text("anything")
    after, wrong = deployed_files(tmp_path, None, [])
    assert after.keys() - before.keys() == {added} and not wrong


def test_weights_that_an_index_names_elsewhere_are_no_answer(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"one")
    index = {"weight_map": {"w": "shards/model.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    _, (wrong,) = deployed_files(tmp_path, None, ["model.safetensors"])
    assert "names weights outside the folder ('shards/model.safetensors')" in wrong


def test_a_file_that_cannot_be_read_is_no_answer(tmp_path, monkeypatch):
    (tmp_path / "model.safetensors").write_bytes(b"one")

    def refuse(self, *rest, **more):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(RunError, match="cannot be read"):
        deployed_files(tmp_path, None, [])
