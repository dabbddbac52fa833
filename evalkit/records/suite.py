"""What a suite file and a gate file declare. These classes are the only definition of both formats.

YAML is validated against them once, where it enters; the JSON Schemas for editors are generated from them.
Equal files give equal digests: a ``SuiteSpec`` holds everything a file says, with the documents it points to
(JSON Schemas) read in, and nothing about where it lay.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from evalkit.records.declared import Declared

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80)]
"""A name people write in files and read in reports."""


class Spec(Declared):
    """Base of everything a file declares: frozen, unknown keys refused, no NaN or infinity."""


class JsonFile:
    """Marks a field that a file may fill with a path: the loader puts the parsed document in its place."""


JsonDocument = Annotated[dict[str, Any] | bool | str, JsonFile()]
"""A JSON document, written in place or as a path relative to the file that names it."""


class DatasetSpec(Spec):
    """Where a task's samples come from: a local file or a Hugging Face data set."""

    path: str | None = None
    """A JSONL, CSV or Parquet file, relative to the suite file."""
    name: str | None = None
    """A Hugging Face ``datasets`` name, such as ``squad`` (needs the ``datasets`` extra)."""
    config: str | None = None
    """The data set's configuration; only with ``name``."""
    revision: str | None = None
    """The data set's git revision; only with ``name``."""
    split: str = "test"
    """The split to read; only with ``name``."""
    format: Literal["jsonl", "csv", "parquet"] | None = None
    """The file's format, where its ending does not say."""
    id: str | None = None
    """The field that identifies a sample; ``id`` where every row has it, else the row number."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Read only the first so many rows."""

    @model_validator(mode="after")
    def _one_source(self) -> DatasetSpec:
        if (self.path is None) == (self.name is None):
            raise ValueError(
                "a data set needs exactly one of 'path' (a file) and 'name' (Hugging Face)"
            )
        return self


class FewShotSpec(Spec):
    """Worked examples put before every prompt, rendered with the task's own prompt and target."""

    dataset: DatasetSpec
    """Where the examples come from; never the rows under test."""
    count: Annotated[int, Field(ge=1, le=64)] = 3
    """How many examples."""
    separator: str = "\n\n"
    """What stands between examples in a text prompt."""


class MessageSpec(Spec):
    """One chat message; its content is a template."""

    role: Literal["system", "user", "assistant"]
    """Who speaks."""
    content: str
    """A Jinja2 template over the sample's fields."""


class DecodingSpec(Spec):
    """How answers are drawn."""

    max_tokens: Annotated[int, Field(ge=1)] = 256
    """The most tokens an answer may have."""
    temperature: Annotated[float, Field(ge=0)] = 0.0
    """0 takes the most likely token each time (greedy)."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus sampling: the smallest set of tokens with this much probability."""
    stop: tuple[str, ...] = ()
    """Texts that end an answer; they are not part of it."""
    seed: int = 0
    """Seed of sampled answers; each sample and replicate derives its own from it."""
    replicates: Annotated[int, Field(ge=1, le=1000)] = 1
    """How many answers per sample; more than one needs a temperature above 0."""

    @model_validator(mode="after")
    def _replicates_differ(self) -> DecodingSpec:
        if self.replicates > 1 and self.temperature == 0:
            raise ValueError("replicates > 1 at temperature 0 would ask the same question again")
        return self


class MetricSpec(Spec):
    """A metric by name with its options; written ``name`` or ``{name: {option: value}}``."""

    name: str
    """A name from ``evalkit list metrics``."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The metric's own options, checked against its declaration."""


class TaskBase(Spec):
    """What every kind of task declares."""

    name: Name
    """Unique in the suite; estimates are named ``task/metric``."""
    dataset: DatasetSpec
    """Where the samples come from."""
    slices: tuple[str, ...] = ()
    """Fields whose values split the samples: each value gets estimates of its own."""
    cluster: str | None = None
    """Field naming samples that are not independent (a customer, a document); widens intervals."""
    min_coverage: Annotated[float, Field(ge=0, le=1)] = 0.95
    """Least share of planned samples that must be scored for the run to count as complete."""
    stop: Literal["full", "early"] = "full"
    """``early``: samples are drawn in a random order (from the suite's seed) and the task ends as soon as every rule on
    it is decided, by tests that hold at any look."""


class GenerateTask(TaskBase):
    """The model writes an answer to a prompt; text metrics score it."""

    kind: Literal["generate"] = "generate"
    prompt: str | None = None
    """A Jinja2 template; sent as plain text."""
    messages: tuple[MessageSpec, ...] | None = None
    """Chat messages; sent through the model's own chat template."""
    target: str | tuple[str, ...] | None = None
    """Template of the right answer, or several of them."""
    targets: str | None = None
    """A field that holds a list of right answers."""
    decoding: DecodingSpec = DecodingSpec()
    """How answers are drawn."""
    fewshot: FewShotSpec | None = None
    """Worked examples put before every prompt."""
    metrics: Annotated[tuple[MetricSpec, ...], Field(min_length=1)]
    """What is measured on the answers."""

    @model_validator(mode="after")
    def _one_prompt(self) -> GenerateTask:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("a task needs exactly one of 'prompt' and 'messages'")
        if self.target is not None and self.targets is not None:
            raise ValueError(
                "give 'target' (templates) or 'targets' (a field with a list), not both"
            )
        return self


class MultipleChoiceTask(TaskBase):
    """The model's log-likelihood of each choice after the prompt; the most likely one is its answer."""

    kind: Literal["multiple_choice"]
    prompt: str
    """A Jinja2 template; the choices follow it."""
    choices: str | tuple[str, ...]
    """A field that holds the list of choices, or the choices themselves (templates)."""
    target: str
    """Template of the right choice: its 0-based number or its text."""
    delimiter: str = " "
    """What stands between prompt and choice."""
    fewshot: FewShotSpec | None = None
    """Worked examples put before every prompt."""
    metrics: tuple[MetricSpec, ...] = (MetricSpec(name="multiple_choice"),)
    """What is measured."""


class PerplexityTask(TaskBase):
    """How well the model predicts a text."""

    kind: Literal["perplexity"]
    text: str
    """A Jinja2 template of the text to predict."""
    max_length: Annotated[int, Field(ge=2)] = 1024
    """Window in tokens: the same for every model, so that their numbers compare. A text whose window does not fit a
    model's context is a failure there."""
    context: Annotated[int, Field(ge=1)] = 1
    """Least tokens of context before a window's first scored token; 1 gives disjoint windows."""
    prefix: Literal["bos", "none"] = "bos"
    """What the first token is predicted from: the BOS token (EOS where a model has none), or nothing, which
    leaves the first token unscored."""
    metrics: tuple[MetricSpec, ...] = (MetricSpec(name="perplexity"),)
    """What is measured."""

    @model_validator(mode="after")
    def _context_fits(self) -> PerplexityTask:
        if self.context > self.max_length:
            raise ValueError("'context' must not be longer than 'max_length'")
        return self


class SpectralTask(Spec):
    """Data-free checks of the weights, before anything is asked of the model: integrity, scale and drift from the base
    model in one pass; spectra and importance where they are asked for."""

    kind: Literal["spectral"]
    name: Name
    """Unique in the suite; estimates are named ``task/measure[@tensor=…|@module=…|@depth=…]``."""
    base: str | None = None
    """The model that candidate and baseline were fine-tuned from: a folder relative to the suite file, or a hub id.
    Without it the candidate is held against the baseline."""
    adapter: str | None = None
    """A LoRA adapter that was merged into the candidate; checks that candidate = base + adapter."""
    frozen: tuple[str, ...] = ()
    """Patterns (``*`` matches any text) of tensors that training must not have changed."""
    trained: tuple[str, ...] = ()
    """Patterns of tensors that training must have changed."""
    spectra: bool = False
    """Also eigenvalues: power-law alpha and its kin, intruder dimensions, rotation (advisory; slow for 7 B)."""
    importance: bool = False
    """Also FROG's importance of layers (an unvalidated heuristic)."""
    draws: Annotated[int, Field(ge=0, le=10_000)] = 100
    """Refits behind each alpha's interval and goodness of fit; 0 gives the asymptotic interval and no p-value."""
    traps: bool = False
    """Also correlation traps: eigenvalues that stand out when a matrix's entries are shuffled (seeded)."""
    compatible: bool = False
    """Spectra by WeightWatcher 0.7.7's conventions (its eigenvalue floor, float64, fused matrices whole), so that
    numbers compare with its tables."""


SampledTask = Annotated[
    GenerateTask | MultipleChoiceTask | PerplexityTask, Field(discriminator="kind")
]
"""A task that asks the model."""

TaskSpec = Annotated[
    GenerateTask | MultipleChoiceTask | PerplexityTask | SpectralTask, Field(discriminator="kind")
]


class ModelsSpec(Spec):
    """The checkpoints a suite compares where the command line names none."""

    candidate: str | None = None
    """The model under test: a folder relative to the suite file, a hub id, or a server's URL."""
    baseline: str | None = None
    """The model it must not fall behind."""


class SuiteSpec(Spec):
    """A versioned list of tasks."""

    suite: Name
    """The suite's name."""
    version: int | str
    """Changes whenever the meaning of a number changes."""
    description: str = ""
    """What the suite is for, in a sentence."""
    seed: int = 0
    """Seed of everything drawn (resampling, few-shot order)."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Level of the intervals shown."""
    models: ModelsSpec = ModelsSpec()
    """The checkpoints to compare; overridden by --candidate and --baseline."""
    gates: tuple[str, ...] = ()
    """Gate files, relative to this file."""
    plugins: tuple[str, ...] = ()
    """Python modules that register parts of your own."""
    tasks: Annotated[tuple[TaskSpec, ...], Field(min_length=1)]
    """What is asked and measured."""

    @model_validator(mode="after")
    def _names_unique(self) -> SuiteSpec:
        names = [task.name for task in self.tasks]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"task names must be unique; twice: {', '.join(twice)}")
        return self

    @property
    def sampled(self) -> tuple[GenerateTask | MultipleChoiceTask | PerplexityTask, ...]:
        """The tasks that ask the model."""
        return tuple(task for task in self.tasks if not isinstance(task, SpectralTask))

    @property
    def spectral(self) -> tuple[SpectralTask, ...]:
        """The tasks that read the weights."""
        return tuple(task for task in self.tasks if isinstance(task, SpectralTask))


Severity = Literal["block", "warn", "info"]


class RuleSpec(Spec):
    """What one estimate, or every estimate a pattern matches, must satisfy."""

    id: Name
    """Unique in the gate."""
    estimate: str
    """``task/metric[.measure][@slice]``; ``*`` matches any text, ``@field=*`` every value of a slice."""
    require: str
    """A condition from ``evalkit list conditions``."""
    severity: Severity = "block"
    """``block`` decides the verdict; ``warn`` and ``info`` are shown."""
    on_inconclusive: Literal["inconclusive", "fail", "pass"] = "inconclusive"
    """What an undecided outcome counts as."""
    on_missing: Literal["missing", "fail"] = "missing"
    """What it counts as when nothing matches or nothing was measured; never a pass."""
    why: str = ""
    """The reason for the rule, shown beside its outcome."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The condition's own keys (``value``, ``margin`` …), written beside the others in the file."""


class WaiverSpec(Spec):
    """An owned, dated exception from one rule; it hides no number and is shown in every report."""

    rule: Name
    """The rule's id."""
    slice: str | None = None
    """``field=value``: the exception holds for this slice alone; without it, for all that the rule matches."""
    owner: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
    """Who answers for it."""
    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
    """Why it is granted."""
    expires: date
    """The last day on which it holds, such as 2026-12-31."""


class GateSpec(Spec):
    """A set of rules; all blocking ones must pass."""

    gate: Name
    """The gate's name."""
    description: str = ""
    """What the gate protects, in a sentence."""
    plugins: tuple[str, ...] = ()
    """Python modules that register conditions of your own."""
    family: Literal["all_must_hold", "any_regression"] = "all_must_hold"
    """``all_must_hold``: every blocking rule must be shown to hold; no correction is needed (intersection–union).
    ``any_regression``: a blocking comparison with the baseline fails only where a regression is shown, by Holm at the
    family's alpha; undecided ones do not block."""
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """For ``any_regression``: the chance that an unchanged candidate is blocked by any of the comparisons."""
    waivers: tuple[WaiverSpec, ...] = ()
    """Exceptions from rules."""
    rules: Annotated[tuple[RuleSpec, ...], Field(min_length=1)]
    """The rules."""

    @model_validator(mode="after")
    def _ids_unique(self) -> GateSpec:
        ids = [rule.id for rule in self.rules]
        twice = sorted({i for i in ids if ids.count(i) > 1})
        if twice:
            raise ValueError(f"rule ids must be unique; twice: {', '.join(twice)}")
        return self
