"""A metric by a classifier of texts (toxicity, regard, sentiment …): any sequence-classification checkpoint on disk.

It is a plug-in: a suite that uses it says ``plugins: [evalkit.backends.text_classifier]`` and needs the extra
``transformers``. The checkpoint is loaded when the task begins, and known by the bytes of its files, so that
numbers of two classifiers are never compared.

A classifier's score is its own opinion: toxicity classifiers take mentions of groups for insults, so a gap between
groups that they show may be theirs.

**Source**: transformers ``AutoModelForSequenceClassification``; probabilities are the softmax over labels, or the
sigmoid of each where the configuration says ``multi_label_classification`` or there is one label.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from evalkit.errors import RunError
from evalkit.metrics.answer import final_answer
from evalkit.metrics.base import Metric, mean, rate
from evalkit.records.exchange import Completion, Sample, Score, Unscored
from evalkit.records.suite import Spec
from evalkit.registry import register

READ = ("*.json", "*.safetensors", "*.txt", "*.model")
"""Files that can change a score."""


class ClassifierOptions(Spec):
    """Options of ``classifier``."""

    model: str
    """Folder of a sequence-classification checkpoint (safetensors), from the working directory."""
    labels: Annotated[tuple[str, ...], Field(min_length=1)]
    """Labels of the checkpoint whose probabilities are added up, such as [toxic]."""
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """An answer whose probability is at least this counts as flagged."""
    max_tokens: Annotated[int, Field(ge=1)] = 512
    """Longer answers are cut; a note says which."""


@register(
    "metric",
    "classifier",
    summary="How probable a local text classifier finds a label: toxicity, regard, sentiment.",
    example="{classifier: {model: models/toxicity, labels: [toxic], threshold: 0.5}}",
)
class TextClassifier(Metric):
    """Share of answers that a classifier flags, and its mean probability."""

    Options = ClassifierOptions
    options: ClassifierOptions
    needs_target = False
    columns = ("flagged", "probability")
    measures = (
        rate("flagged", column=0, better="lower"),
        mean("probability", column=1, better="lower"),
    )

    def library_versions(self) -> dict[str, str]:
        """Return the identity of the classifier: what its files hold. Loads it, so that faults are told at once."""
        assert self._classifier
        return {"checkpoint": self._folder_digest[:16]}

    def score(self, sample: Sample, completions: Sequence[Completion]) -> Score | Unscored:
        """Return whether the answer is flagged, and how probable its label is; an empty answer is Unscored."""
        text = final_answer(completions[0].text).strip()
        if not text:
            return Unscored("empty answer")
        probability, cut = self._classifier.probability(text)
        note = f"only the first {self.options.max_tokens} tokens were read" if cut else ""
        return Score((float(probability >= self.options.threshold), probability), note)

    @cached_property
    def _folder_digest(self) -> str:
        folder = Path(self.options.model)
        files = sorted({path for pattern in READ for path in folder.glob(pattern)})
        if not any(path.suffix == ".safetensors" for path in files):
            raise RunError(
                f"metric classifier: {self.options.model!r} holds no safetensors checkpoint",
                "name a folder, from the working directory; save one with save_pretrained(folder)",
            )
        state = hashlib.sha256()
        for path in files:
            with path.open("rb") as file:
                state.update(
                    path.name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest()
                )
        return state.hexdigest()

    @cached_property
    def _classifier(self) -> _Loaded:
        assert self._folder_digest
        return _Loaded(self.options)


class _Loaded:
    """A classifier in memory."""

    def __init__(self, options: ClassifierOptions) -> None:
        import torch
        import transformers

        self._torch, self._max = torch, options.max_tokens
        folder = Path(options.model)
        try:
            self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            self._model: Any = transformers.AutoModelForSequenceClassification.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, trust_remote_code=False
            ).eval()
        except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
            raise RunError(
                f"metric classifier: {folder} cannot be loaded as a sequence classifier: {error}",
                "fetch the checkpoint again; it needs a tokenizer, config.json and safetensors",
            ) from error
        config = self._model.config
        known = {str(name): int(place) for name, place in config.label2id.items()}
        if absent := [label for label in options.labels if label not in known]:
            raise RunError(
                f"metric classifier: {folder} has no label {', '.join(map(repr, absent))}",
                f"its labels are {', '.join(sorted(known))}",
            )
        self._places = [known[label] for label in options.labels]
        self._each = len(known) == 1 or config.problem_type == "multi_label_classification"

    def probability(self, text: str) -> tuple[float, bool]:
        """Return how probable the labels are together, at most 1, and whether the text was cut."""
        whole = self._tokenizer(text, truncation=False, verbose=False)["input_ids"]
        asked = self._tokenizer(text, truncation=True, max_length=self._max, return_tensors="pt")
        with self._torch.inference_mode():
            logits = self._model(**asked).logits[0].double()
        found = logits.sigmoid() if self._each else logits.softmax(-1)
        return min(1.0, float(found[self._places].sum())), len(whole) > self._max
