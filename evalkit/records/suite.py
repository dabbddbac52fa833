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
    format: Literal["jsonl", "csv", "parquet", "bbq", "crows_pairs", "winogender"] | None = None
    """The file's format, where its ending does not say; ``bbq``, ``crows_pairs`` and ``winogender`` are the files of
    these published sets as their authors give them."""
    source: str = ""
    """Where the file can be had, in words; told where it is absent."""
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


class GroupsSpec(Spec):
    """Fields that tell groups of people apart: every metric of the task is compared between them."""

    by: Annotated[tuple[str | tuple[str, ...], ...], Field(min_length=1)]
    """Fields whose values name the groups; a list of fields stands for their intersection, named ``sex+age``."""
    min_size: Annotated[int, Field(ge=2)] = 20
    """A group in which a number rests on fewer samples than this is shown, and is no part of any gap."""

    @model_validator(mode="after")
    def _distinct(self) -> GroupsSpec:
        for each in self.by:
            if not isinstance(each, str) and (len(each) < 2 or len(set(each)) < len(each)):
                raise ValueError("an intersection lists at least two different fields")
        if len(set(self.names)) < len(self.names):
            raise ValueError("'by' names something twice")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The fields, and ``a+b`` for the intersection of a and b."""
        return tuple(each if isinstance(each, str) else "+".join(each) for each in self.by)


class ReviewSpec(Spec):
    """What people are asked about an answer; their ratings become ``task/human`` once they are imported."""

    question: str = "How good is this answer?"
    """What is asked of each answer, in one sentence."""
    guide: str = ""
    """How to rate, shown on the page; Markdown is not rendered."""
    scale: tuple[int, int] | None = None
    """Least and greatest rating, such as [1, 5]; ratings are whole numbers."""
    labels: tuple[str, ...] | None = None
    """The ratings by name, the worst first, in place of a scale: [bad, fair, good]."""
    pass_at: int | str
    """The least rating, or label, that passes."""

    @model_validator(mode="after")
    def _one_scale(self) -> ReviewSpec:
        if (self.scale is None) == (self.labels is None):
            raise ValueError("a review needs exactly one of 'scale' and 'labels'")
        if self.scale is not None and not 0 <= self.scale[1] - self.scale[0] <= 20:
            raise ValueError("'scale' is [least, greatest] with at most 21 ratings")
        if self.labels is not None and not 2 <= len(set(self.labels)) == len(self.labels) <= 21:
            raise ValueError("'labels' needs 2 to 21 different names")
        if self.pass_at not in self.ratings:
            raise ValueError(f"'pass_at' must be one of {', '.join(map(str, self.ratings))}")
        return self

    @property
    def ratings(self) -> tuple[int | str, ...]:
        """Every rating, the worst first."""
        if self.labels is not None:
            return self.labels
        assert self.scale is not None, "exactly one of the two is given"
        return tuple(range(self.scale[0], self.scale[1] + 1))


class TaskBase(Spec):
    """What every kind of task declares."""

    name: Name
    """Unique in the suite; estimates are named ``task/metric``."""
    dataset: DatasetSpec
    """Where the samples come from."""
    slices: tuple[str, ...] = ()
    """Fields whose values split the samples: each value gets estimates of its own."""
    groups: GroupsSpec | None = None
    """Groups of people between which every metric's gap is measured; each group gets estimates as a slice does."""
    cluster: str | None = None
    """Field naming samples that are not independent (a customer, a document); widens intervals."""
    review: ReviewSpec | None = None
    """What people are asked about the answers: 'evalkit review' draws, shows and imports."""
    min_coverage: Annotated[float, Field(ge=0, le=1)] = 0.95
    """Least share of planned samples that must be scored for the run to count as complete."""
    stop: Literal["full", "early"] = "full"
    """``early``: samples are drawn in a random order (from the suite's seed) and the task ends as soon as every rule on
    it is decided, by tests that hold at any look."""

    @property
    def split_by(self) -> tuple[str, ...]:
        """What samples are split by: slices, then groups and their intersections (``a+b``)."""
        return tuple(dict.fromkeys([*self.slices, *(self.groups.names if self.groups else ())]))


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


class SwapSpec(Spec):
    """Words that stand for one group, and those that stand for another in their place."""

    fields: Annotated[tuple[str, ...], Field(min_length=1)]
    """Fields of the row whose text is rewritten."""
    using: str | None = None
    """A shipped mapping from ``evalkit list swaps``, such as ``gender``."""
    groups: dict[Name, tuple[str, ...]] | None = None
    """Group → its words; words at the same place of two lists stand for one another."""
    articles: Literal["english", "keep"] = "english"
    """Whether *a* and *an* before a swapped word are made to agree with it; only with ``groups``."""

    @model_validator(mode="after")
    def _one_mapping(self) -> SwapSpec:
        if (self.using is None) == (self.groups is None):
            raise ValueError("a swap needs exactly one of 'using' (a shipped mapping) and 'groups'")
        lengths = {len(words) for words in (self.groups or {"": ("",)}).values()}
        if len(lengths) > 1 or 0 in lengths:
            raise ValueError("the groups' lists need equally many words, at least one")
        if self.groups is not None and len(self.groups) < 2:
            raise ValueError("a swap needs at least two groups")
        return self


class CounterfactualTask(TaskBase):
    """The same question about one group and about another: nothing but the words for the group differs.

    A sample is a row with all its variants; rows in which nothing can be swapped are counted as bad samples.
    """

    kind: Literal["counterfactual"]
    prompt: str | None = None
    """A Jinja2 template; sent as plain text."""
    messages: tuple[MessageSpec, ...] | None = None
    """Chat messages; sent through the model's own chat template."""
    swap: SwapSpec | None = None
    """How variants are made from a row's own text."""
    variants: dict[Name, dict[str, str]] | None = None
    """Variant → field → template of what stands in that field, where rows hold the variants already."""
    choices: str | tuple[str, ...] | None = None
    """A field that holds the list of choices, or the choices themselves: the answer is the most likely one. Without
    them the model writes its answer."""
    target: str | None = None
    """Template of the right answer, the same for every variant."""
    decoding: DecodingSpec = DecodingSpec()
    """How answers are drawn."""
    repeats: Annotated[int, Field(ge=1, le=16)] = 1
    """How often each variant is asked with a seed of its own, so that differences between variants are held against
    those within one; more than one needs a temperature above 0."""
    metrics: Annotated[tuple[MetricSpec, ...], Field(min_length=1)]
    """What is measured on the answers."""

    @model_validator(mode="after")
    def _one_of_each(self) -> CounterfactualTask:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("a task needs exactly one of 'prompt' and 'messages'")
        if (self.swap is None) == (self.variants is None):
            raise ValueError("a counterfactual task needs exactly one of 'swap' and 'variants'")
        if self.variants is not None and len(self.variants) < 2:
            raise ValueError("'variants' needs at least two")
        if self.repeats > 1 and (self.decoding.temperature == 0 or self.choices is not None):
            raise ValueError(
                "repeats > 1 would ask the same question again: it needs a temperature and no choices"
            )
        if self.decoding.replicates > 1:
            raise ValueError("a counterfactual task asks again by 'repeats', not by 'replicates'")
        if self.choices is not None and self.messages is not None:
            raise ValueError("'choices' need a 'prompt': likelihoods are taken of plain text")
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
    GenerateTask | MultipleChoiceTask | PerplexityTask | CounterfactualTask,
    Field(discriminator="kind"),
]
"""A task that asks the model."""

TaskSpec = Annotated[
    GenerateTask | MultipleChoiceTask | PerplexityTask | CounterfactualTask | SpectralTask,
    Field(discriminator="kind"),
]


class JudgeSpec(Spec):
    """A judge: which model, what it is asked, and how its reply is read. Written in a file of its own or in a suite."""

    judge: Name
    """The judge's name."""
    version: int | str = 1
    """Changes whenever the meaning of a verdict changes."""
    model: str
    """A checkpoint folder relative to the file, a hub id, or a running server's URL."""
    backend: Literal["auto", "transformers", "vllm", "openai"] = "auto"
    """What answers for it."""
    model_args: dict[str, str] = Field(default_factory=dict)
    """Arguments of the backend, as ``--model-arg`` gives them."""
    form: Literal["pointwise", "pairwise"] = "pointwise"
    """``pointwise``: one answer on a scale; ``pairwise``: the candidate's against the baseline's, in both orders."""
    prompt: str = ""
    """A Jinja2 template: a path relative to the file (the loader puts the text in its place), or a shipped one by its
    name (``evalkit list judge-prompts``); empty takes the shipped one for the form."""
    chat: bool = True
    """Whether the prompt is sent as a chat message, through the model's own template."""
    criteria: str
    """What is judged, in words put into the prompt."""
    rubric: dict[int, str] = Field(default_factory=dict)
    """What each value of the scale means; may leave values out."""
    scale: tuple[int, int] = (1, 5)
    """Least and greatest score, for a pointwise judge."""
    reference: bool = False
    """Whether the sample's target is shown as the reference answer."""
    read: Literal["text", "probabilities"] = "text"
    """``text``: the verdict is read from what the judge writes; ``probabilities``: its expectation over the scale's
    values by their log-likelihoods (needs a backend with log-probabilities; plain prompt)."""
    decoding: DecodingSpec = DecodingSpec(max_tokens=512)
    """How replies are drawn."""

    @model_validator(mode="after")
    def _sound(self) -> JudgeSpec:
        low, high = self.scale
        if not 1 <= high - low <= 20:
            raise ValueError("'scale' is [least, greatest] with 2 to 21 values")
        if outside := [str(value) for value in self.rubric if not low <= value <= high]:
            raise ValueError(f"'rubric' describes values outside the scale: {', '.join(outside)}")
        if self.read == "probabilities" and self.chat:
            raise ValueError(
                "'read: probabilities' takes likelihoods of plain text: say 'chat: false'"
            )
        if self.decoding.replicates > 1:
            raise ValueError(
                "a judge is asked once; repeatability is told by 'evalkit judge validate'"
            )
        return self


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
    judges: dict[Name, JudgeSpec] = Field(default_factory=dict)
    """Judges by the name that metrics give them: declared in place, or the path of a judge file."""
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
    def sampled(
        self,
    ) -> tuple[GenerateTask | MultipleChoiceTask | PerplexityTask | CounterfactualTask, ...]:
        """The tasks that ask the model."""
        return tuple(task for task in self.tasks if not isinstance(task, SpectralTask))

    @property
    def spectral(self) -> tuple[SpectralTask, ...]:
        """The tasks that read the weights."""
        return tuple(task for task in self.tasks if isinstance(task, SpectralTask))


Severity = Literal["block", "warn", "info"]


class JudgeDemands(Spec):
    """What a rule on a judged metric demands of the judge's card; the bounds of intervals decide, never points."""

    kappa: Annotated[float, Field(ge=-1, le=1)] | None = 0.6
    """Least lower bound of Cohen's kappa with people; null demands none."""
    labels: Annotated[int, Field(ge=0)] = 100
    """Least number of labelled items."""
    order_consistency: Annotated[float, Field(ge=0, le=1)] | None = 0.9
    """Least share of pairs on which both orders agree (pairwise judges)."""
    first_position: Annotated[float, Field(ge=0, le=0.5)] | None = 0.05
    """Greatest distance of the first position's share from ½ that the interval must not exceed wholly (pairwise)."""
    no_verdict: Annotated[float, Field(ge=0, le=1)] | None = 0.05
    """Greatest upper bound of the share of items without a verdict: 0 of 100 leaves 0.036 possible."""
    canaries: Annotated[int, Field(ge=0)] | None = 0
    """Most canaries that may be taken for good answers."""


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
    judge: JudgeDemands | None = None
    """What a rule on a judged metric demands of the judge's card; without it the demands' own defaults hold."""
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
