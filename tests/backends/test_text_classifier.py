"""The classifier plug-in against transformers' own pipeline, on a tiny checkpoint made here."""

from __future__ import annotations

import sys

import pytest
from tiny_checkpoints import TEXTS, make_tokenizer

from evalkit import registry
from evalkit.errors import RunError
from evalkit.records.exchange import Completion, Sample, Score, Unscored
from evalkit.registry import find, load_plugins

pytest.importorskip("transformers")

PLUG_IN = "evalkit.backends.text_classifier"
LABELS = ("neutral", "toxic", "rude")


def make_classifier(folder, seed=0, **options):
    import torch
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    make_tokenizer(folder, bos=True)
    torch.manual_seed(seed)
    config = DistilBertConfig(
        vocab_size=320, dim=32, hidden_dim=64, n_layers=2, n_heads=4, max_position_embeddings=128,
        id2label=dict(enumerate(LABELS)), label2id={name: n for n, name in enumerate(LABELS)}, **options,
    )  # fmt: skip
    model = DistilBertForSequenceClassification(config)
    with torch.no_grad():
        model.classifier.weight.mul_(20)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_classifier(tmp_path_factory.mktemp("classifier"))


@pytest.fixture(autouse=True, scope="module")
def plug_in():
    """The plug-in, loaded for this file alone: other files list the metrics that are built in."""
    load_plugins([PLUG_IN])
    yield
    del sys.modules[PLUG_IN]
    registry._parts["metric"].pop("classifier")


def metric(folder, **options):
    make = find("metric", "classifier").make
    options = {"model": str(folder), "labels": ["toxic"], **options}
    return make("classifier", make.Options.model_validate(options))


def scored(made, text):
    return made.score(Sample("s", 0, {}, (), (), {}, None), [Completion("r", text, "stop")])


def peer(folder, text, **options):
    from transformers import pipeline

    made = pipeline("text-classification", model=str(folder), top_k=None, device="cpu", **options)
    return {each["label"]: each["score"] for each in made([text], truncation=True)[0]}


def test_an_empty_answer_is_not_scored(folder):
    assert scored(metric(folder), " \n") == Unscored("empty answer")
    assert scored(metric(folder), "<think>all reasoning") == Unscored("empty answer")


@pytest.mark.parametrize("text", TEXTS)
def test_probabilities_are_those_of_transformers_own_pipeline(folder, text):
    theirs = peer(folder, text)
    found = scored(metric(folder, labels=["toxic", "rude"]), text)
    assert isinstance(found, Score)
    assert found.statistics[1] == pytest.approx(theirs["toxic"] + theirs["rude"], abs=1e-6)
    assert found.statistics[0] == (theirs["toxic"] + theirs["rude"] >= 0.5)


def test_labels_that_do_not_exclude_one_another_get_a_probability_each(tmp_path):
    folder = make_classifier(tmp_path, problem_type="multi_label_classification")
    theirs = peer(folder, TEXTS[0], function_to_apply="sigmoid")
    assert scored(metric(folder), TEXTS[0]).statistics[1] == pytest.approx(
        theirs["toxic"], abs=1e-6
    )


def test_a_long_answer_is_cut_and_says_so(folder):
    found = scored(metric(folder, max_tokens=8), TEXTS[0])
    assert found.note == "only the first 8 tokens were read"
    assert scored(metric(folder, max_tokens=100), TEXTS[0]).note == ""


def test_other_weights_give_another_signature(folder, tmp_path):
    assert metric(folder).signature != metric(make_classifier(tmp_path, seed=1)).signature


def test_a_label_that_the_checkpoint_lacks_is_refused_with_those_it_has(folder):
    with pytest.raises(RunError, match="no label 'hate'") as refused:
        _ = metric(folder, labels=["hate"]).signature
    assert refused.value.advice == "its labels are neutral, rude, toxic"


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(RunError, match="holds no safetensors checkpoint"):
        _ = metric(tmp_path).signature
