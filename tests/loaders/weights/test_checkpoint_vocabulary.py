"""How many tokens a checkpoint's files hold, against the libraries that write them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.loaders.weights.vocabulary import vocabulary_of

tokenizers = pytest.importorskip("tokenizers")


def written(folder, **files):
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return folder


MODELS = {
    "BPE": lambda: tokenizers.models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]),
    "WordPiece": lambda: tokenizers.models.WordPiece({"a": 0, "##b": 1, "[UNK]": 2}),
    "WordLevel": lambda: tokenizers.models.WordLevel({"a": 0, "b": 1, "c": 2}, unk_token="c"),
    "Unigram": lambda: tokenizers.models.Unigram([("a", -1.0), ("b", -2.0), ("c", -3.0)], 0),
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("added", [0, 5])
def test_a_tokenizers_tokens_are_counted_with_those_that_were_added(tmp_path, kind, added):
    tokenizer = tokenizers.Tokenizer(MODELS[kind]())
    tokenizer.add_special_tokens([f"<{number}>" for number in range(added)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert vocabulary_of(tmp_path) == tokenizer.get_vocab_size() == 3 + added


def test_a_gap_in_the_numbers_still_needs_rows_up_to_the_highest(tmp_path):
    tokenizer = {
        "model": {"vocab": {"a": 0, "b": 9}},
        "added_tokens": [{"id": 20, "content": "<x>"}],
    }
    assert vocabulary_of(written(tmp_path, tokenizer__json=tokenizer)) == 21


def test_tokens_that_the_configuration_adds_are_counted(tmp_path):
    files = {
        "vocab__json": {"a": 0, "b": 1}, "added_tokens__json": {"<x>": 2},
        "tokenizer_config__json": {"added_tokens_decoder": {"3": {"content": "<y>"}}},
    }  # fmt: skip
    assert vocabulary_of(written(tmp_path, **files)) == 4


def test_a_list_of_words_has_one_on_each_line(tmp_path):
    assert vocabulary_of(written(tmp_path, vocab__txt=b"[PAD]\n[UNK]\nthe\n")) == 3


def field(number, kind, content):
    length = bytes([len(content)]) if kind == 2 else b""
    return bytes([number << 3 | kind]) + length + content


def test_the_pieces_of_a_sentencepiece_model_are_counted(tmp_path):
    """ModelProto: pieces (1), trainer_spec (2), normalizer_spec (3); a piece: text (1), score (2), type (3)."""
    score = field(2, 5, b"\0\0\x80\xbf")
    pieces = [
        field(1, 2, field(1, 2, text.encode()) + score + field(3, 0, b"\1")) for text in "abcde"
    ]
    message = (
        b"".join(pieces) + field(2, 2, b"\x0a\x03abc") + field(3, 2, b"") + field(9, 1, bytes(8))
    )
    assert vocabulary_of(written(tmp_path, tokenizer__model=message)) == 5


def test_without_a_tokenizer_there_is_none(tmp_path):
    assert vocabulary_of(tmp_path) is None


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer__json": b"{"}, {"tokenizer__json": {}}, {"tokenizer__json": {"model": {"vocab": 3}}},
        {"vocab__json": []}, {"vocab__json": {"a": "x"}}, {"tokenizer__model": b"\xff\xff"},
        {"tokenizer__model": b""}, {"tokenizer__model": b"\x0a\x09ab"},
        {"vocab__json": {"a": 0}, "added_tokens__json": b"?"},
        {"vocab__json": {"a": 0, "b": -2}}, {"vocab__json": b'{"a": 1e400}'},
        {"tokenizer__json": b'{"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 1e400}]}'},
        {"tokenizer__json": {"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": -1}]}},
    ],
)  # fmt: skip
def test_a_damaged_file_says_its_name(tmp_path, files):
    with pytest.raises(ValueError, match=r"\.(json|model) is damaged"):
        vocabulary_of(written(tmp_path, **files))


@given(st.binary(max_size=60))
def test_any_bytes_are_counted_or_refused(tmp_path_factory, message):
    folder = tmp_path_factory.mktemp("bytes")
    for name in ("tokenizer__json", "tokenizer__model"):
        try:
            assert vocabulary_of(written(folder, **{name: message})) >= 0
        except ValueError as error:
            assert "is damaged" in str(error)
        (folder / name.replace("__", ".")).unlink()
