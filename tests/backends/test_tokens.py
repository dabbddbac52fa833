"""Tokenisation is checked against transformers, and the cutting of scored text against lm-eval 0.4.13."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_checkpoints
from hypothesis import example, given
from hypothesis import strategies as st

from evalkit.backends.tokens import (
    SERVER_RESERVE,
    Job,
    Tokenizer,
    context_length,
    likelihood_job,
    rolling_jobs,
    scored_jobs,
)
from evalkit.errors import Fault, RunError
from evalkit.records.exchange import Request, Window

BOS, EOS = 1, 2
TEXT = st.text(alphabet=st.sampled_from('abc ehit\n\té🙂東.,{}"'), max_size=40)
DISJOINT = Window(None, 1, "bos")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name, options in {
        "adds bos": {"bos": True},
        "adds none": {"bos": False},
        "words": {"bos": True, "form": "words"},
        "bos by decree": {"bos": False, "add_bos_token": True, "add_eos_token": False},
        "no bos by decree": {"bos": True, "add_bos_token": False},
    }.items():
        made[name] = tmp_path_factory.mktemp("tokenizer")
        tiny_checkpoints.make_tokenizer(made[name], **options)
    return made


@pytest.fixture(scope="module")
def tokenizers(folders: dict[str, Path]) -> dict[str, Tokenizer]:
    return {name: Tokenizer.from_folder(folder) for name, folder in folders.items()}


KINDS = ("adds bos", "adds none", "words", "bos by decree", "no bos by decree")


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_of_transformers(kind: str, folders: Any, tokenizers: Any) -> None:
    from transformers import AutoTokenizer

    truth = AutoTokenizer.from_pretrained(folders[kind])
    ours = tokenizers[kind]
    assert (ours.bos_id, ours.eos_id) == (truth.bos_token_id, truth.eos_token_id) == (BOS, EOS)
    for text in (*tiny_checkpoints.TEXTS, " a", "", "a<|eos|>b"):
        assert ours.encode(text, special=True) == truth.encode(text), text
        assert ours.encode(text, special=False) == truth.encode(text, add_special_tokens=False)


def test_a_text_that_begins_with_bos_is_not_given_a_second_one(tokenizers: Any) -> None:
    ids = tokenizers["adds bos"].encode("<|bos|>The harbour", special=True)
    assert ids.count(BOS) == 1
    assert ids == tokenizers["adds bos"].encode("The harbour", special=True)


def test_an_eos_that_the_tokenizer_appends_is_left_out(tmp_path: Path) -> None:
    from tokenizers import Tokenizer as Encoder
    from tokenizers import processors

    tiny_checkpoints.make_tokenizer(tmp_path, bos=False)
    encoder = Encoder.from_file(str(tmp_path / "tokenizer.json"))
    encoder.post_processor = processors.TemplateProcessing(
        single="<|bos|> $A <|eos|>", special_tokens=[("<|bos|>", BOS), ("<|eos|>", EOS)]
    )
    encoder.enable_truncation(4)
    encoder.enable_padding(length=50)
    encoder.save(str(tmp_path / "tokenizer.json"))
    ids = Tokenizer.from_folder(tmp_path).encode(tiny_checkpoints.TEXTS[0], special=True)
    assert ids[0] == BOS
    assert EOS not in ids
    assert len(ids) > 4, "truncation that a tokenizer.json carries along must not cut texts"


@pytest.mark.parametrize("kind", KINDS)
@given(prompt=TEXT, answer=TEXT)
def test_an_answer_is_decoded_as_it_continues_its_prompt(
    kind: str, tokenizers: Any, prompt: str, answer: str
) -> None:
    tokenizer = tokenizers[kind]
    if kind == "words":  # its alphabet is small: what it does not know is lost, whoever decodes
        prompt, answer = (
            text.translate({ord(c): "a" for c in '🙂東é\t{}"'}) for text in (prompt, answer)
        )
    ids = tokenizer.encode(f"a{prompt}{answer}", special=True)
    for split in range(2, len(ids) + 1):
        head = tokenizer.decode(ids[:split])
        tail = tokenizer.decode(ids[split:], after=ids[:split])
        if "\N{REPLACEMENT CHARACTER}" not in head:
            assert head + tail == f"a{prompt}{answer}"


def test_a_character_of_several_tokens_is_decoded_whole(tokenizers: Any) -> None:
    tokenizer = tokenizers["adds none"]
    ids = tokenizer.encode("🦜", special=False)
    assert len(ids) == 4
    assert tokenizer.decode(ids) == "🦜"
    assert tokenizer.decode([*ids, EOS]) == "🦜", "special tokens are no text"


# --- against lm-eval ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lm_eval_models(folders: dict[str, Path]) -> Any:
    """lm-eval's ``local-completions``, which the numbers of a server are compared with; asks no server."""
    pytest.importorskip("lm_eval")
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    def make(kind: str, add_bos_token: bool) -> Any:
        return LocalCompletionsAPI(
            base_url="http://127.0.0.1:9/v1/completions",
            tokenizer_backend="huggingface",
            tokenizer=str(folders[kind]),
            add_bos_token=add_bos_token,
            max_length=32,
        )

    return {
        "adds bos": make("adds bos", True),
        "adds none": make("adds none", False),
        "words": make("words", True),
    }


@pytest.mark.parametrize("kind", ["adds bos", "adds none", "words"])
@given(prompt=TEXT, continuation=TEXT.filter(lambda text: text.strip()))
@example(prompt="Answer:", continuation=" Paris")
@example(prompt="Answer: ", continuation="Paris")
@example(prompt="the har", continuation="bour was")
@example(prompt="a\n\n ", continuation="b")
@example(prompt="", continuation="Paris")
@example(prompt="  ", continuation="Paris")
def test_pairs_are_cut_as_lm_eval_cuts_them(
    kind: str, tokenizers: Any, lm_eval_models: Any, prompt: str, continuation: str
) -> None:
    theirs = lm_eval_models[kind]
    seen: list[Any] = []
    theirs._loglikelihood_tokens = lambda requests, **_: seen.extend(requests)  # asks nobody
    theirs.loglikelihood([_Instance((prompt, continuation))], disable_tqdm=True)
    ((_, context, scored),) = seen
    if not scored:
        with pytest.raises(Fault, match="adds no token"):
            likelihood_job(tokenizers[kind], prompt, continuation)
        return
    ours = likelihood_job(tokenizers[kind], prompt, continuation)
    # lm-eval has no context at all, and fails, where only white space precedes and no BOS is added.
    assert ours == (context or [BOS], scored)


@pytest.mark.parametrize("kind", ["adds bos", "adds none", "words"])
@pytest.mark.parametrize("repeats", [1, 2, 5])
def test_texts_are_cut_as_lm_eval_cuts_them(
    kind: str, repeats: int, tokenizers: Any, folders: Any, lm_eval_models: Any
) -> None:
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    theirs = LocalCompletionsAPI(  # BOS is not added by default; with it, lm-eval reads and scores it twice
        base_url="http://127.0.0.1:9/v1/completions",
        tokenizer_backend="huggingface",
        tokenizer=str(folders[kind]),
        max_length=32,
    )
    seen: list[Any] = []

    def note(requests: Any, **_: Any) -> list[tuple[float, bool]]:
        seen.extend(requests)
        return [(0.0, True)] * len(requests)

    theirs._loglikelihood_tokens = note
    text = " ".join(tiny_checkpoints.TEXTS[:2] * repeats)
    theirs.loglikelihood_rolling([_Instance((text,))], disable_tqdm=True)
    expected = [Job((*context, *scored), len(scored)) for _, context, scored in seen]
    assert rolling_jobs(tokenizers[kind], text, DISJOINT, context_length=32) == expected


class _Instance:
    def __init__(self, args: tuple[str, ...]) -> None:
        self.args = args


# --- windows ------------------------------------------------------------------------------------


@given(
    text=TEXT,
    length=st.integers(3, 40),
    context=st.integers(1, 10),
    prefix=st.sampled_from(["bos", "none"]),
)
def test_windows_score_every_token_once_and_fit_every_server(
    tokenizers: Any, text: str, length: int, context: int, prefix: Any
) -> None:
    tokenizer = tokenizers["adds bos"]
    context = min(context, length - SERVER_RESERVE)
    jobs = rolling_jobs(tokenizer, text, Window(None, context, prefix), length)
    ids = tokenizer.encode(text, special=False)
    scored = [token for job in jobs for token in job.ids[len(job.ids) - job.n_scored :]]
    assert scored == (ids if prefix == "bos" else ids[1:])
    assert all(len(job.ids) > job.n_scored for job in jobs), "something predicts the first token"
    assert all(len(job.ids) + 1 <= length for job in jobs), "a server reads all and writes one more"


def test_a_text_that_begins_with_bos_is_predicted_from_it_once(tokenizers: Any) -> None:
    bare = rolling_jobs(tokenizers["adds bos"], "The harbour", DISJOINT)
    begun = rolling_jobs(tokenizers["adds bos"], "<|bos|>The harbour", DISJOINT)
    assert begun == bare
    assert bare[0].ids.count(BOS) == 1


def test_an_empty_text_holds_nothing_to_score(tokenizers: Any) -> None:
    assert rolling_jobs(tokenizers["adds bos"], "", DISJOINT) == []


def test_a_model_without_bos_and_eos_predicts_no_first_token(tokenizers: Any) -> None:
    known = tokenizers["adds none"]
    bare = Tokenizer(known.encoder, None, None, (), 32)
    for ask in (
        lambda: rolling_jobs(bare, "a b", DISJOINT),
        lambda: likelihood_job(bare, "", "a"),
    ):
        with pytest.raises(Fault, match="neither BOS nor EOS") as caught:
            ask()
        assert caught.value.kind == "bad_sample"
    assert rolling_jobs(bare, "a b", Window(None, 1, "none"))


def test_eos_predicts_the_first_token_where_there_is_no_bos(tokenizers: Any) -> None:
    known = tokenizers["adds none"]
    without_bos = Tokenizer(known.encoder, None, EOS, (), 32)
    assert rolling_jobs(without_bos, "a", DISJOINT)[0].ids[0] == EOS


def _request(
    kind: Any, prompt: str, continuation: str = "", window: Window | None = None
) -> Request:
    return Request("id", "1", "task", kind, prompt, continuation=continuation, window=window)


def test_what_does_not_fit_is_a_fault_and_is_never_cut(tokenizers: Any) -> None:
    tokenizer = tokenizers["adds bos"]
    request = _request("loglikelihood", "a b c", " d e")
    needed = len(scored_jobs(tokenizer, request, context_length=1000)[0].ids) - 1
    assert scored_jobs(tokenizer, request, context_length=needed)
    for limit, reserve in ((needed - 1, 0), (needed + 1, SERVER_RESERVE)):
        with pytest.raises(Fault) as caught:
            scored_jobs(tokenizer, request, context_length=limit, reserve=reserve)
        assert caught.value.kind == "context_length"
    wide = _request("rolling", " ".join("abcdefgh" * 9), window=Window(64, 1, "bos"))
    with pytest.raises(Fault, match="64 positions"):
        scored_jobs(tokenizer, wide, context_length=32)


def test_text_that_is_no_unicode_is_a_bad_request(tokenizers: Any) -> None:
    with pytest.raises(Fault) as caught:
        tokenizers["adds bos"].encode("half a pair: \ud83d", special=True)
    assert caught.value.kind == "bad_request"


# --- files --------------------------------------------------------------------------------------


# max_position_embeddings, n_positions: as lm-eval's HFLM.max_length reads them
@pytest.mark.parametrize(
    ("config", "tokenizer_config", "length"),
    [
        ({"max_position_embeddings": 4096}, {"model_max_length": 128}, 4096),
        ({"n_positions": 1024, "n_ctx": 512}, {}, 1024),
        ({"text_config": {"max_position_embeddings": 77}}, {}, 77),
        ({}, {"model_max_length": 512}, 512),
        ({}, {"model_max_length": 1000000000000000019884624838656}, None),
        ({}, {}, None),
    ],
)
def test_the_context_length_is_what_the_files_tell(
    config: dict[str, Any], tokenizer_config: dict[str, Any], length: int | None
) -> None:
    assert context_length(config, tokenizer_config) == length


def test_special_tokens_that_only_the_model_names_are_found(tmp_path: Path) -> None:
    tiny_checkpoints.make_tokenizer(tmp_path, bos=False)
    (tmp_path / "special_tokens_map.json").unlink(missing_ok=True)  # transformers 4 writes it
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 64}')
    (tmp_path / "config.json").write_text('{"bos_token_id": 2, "eos_token_id": [2, 7]}')
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.context_length) == (2, 2, 64)


def test_a_special_token_that_is_null_is_none_whatever_the_model_says(tmp_path: Path) -> None:
    tiny_checkpoints.make_tokenizer(tmp_path, bos=False)
    options = json.loads((tmp_path / "tokenizer_config.json").read_text()) | {"bos_token": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(options))
    (tmp_path / "config.json").write_text('{"bos_token_id": 1}')
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer.bos_id is None
    assert tokenizer.prefix_id == EOS


def test_a_checkpoint_without_a_fast_tokenizer_is_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no tokenizer\.json") as caught:
        Tokenizer.from_folder(tmp_path)
    assert "use_fast=True" in caught.value.advice
    (tmp_path / "tokenizer.json").write_text('{"model": 3')
    with pytest.raises(RunError, match="cannot be read"):
        Tokenizer.from_folder(tmp_path)


def test_tokenisation_loads_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, evalkit.backends.tokens; print({'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
