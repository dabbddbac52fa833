"""What of a gap may come from the data: groups, labels by group, missing attributes, questions that occur twice.

A model that only repeats its labels shows a gap wherever labels do. So each label's share is compared between groups
as a metric's gap is: beside its expectation under equal groups and with a permutation test. Rows are read as a stream;
what is kept of each is a digest of its question.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evalkit.identity import canonical_json, derived_seed
from evalkit.planning import MISSING, PlannedSample
from evalkit.records.suite import GroupsSpec
from evalkit.stats.gaps import gap_value
from evalkit.stats.intervals import Array
from evalkit.stats.multiple import holm
from evalkit.stats.permutation import Grouped, gap_under_equality

MOST_LABELS = 20
"""Targets with more values than this are texts, not labels."""
EXAMPLES = 3
"""Ids kept of each thing found."""
NAMED = 5
"""Groups that one finding names; the others are counted."""
LONGEST = 40
"""Characters of a group's name that a finding shows."""
DECISION = 2
"""So many labels make a decision, of which rates over one label are taken."""
SHOWN = 0.05
"""A label whose adjusted p-value is at most this is said to depend on the group."""


@dataclass(frozen=True, slots=True)
class LabelGap:
    """How far one label's share lies apart between groups."""

    label: str
    """The label: a row's first target, or the text of its right choice."""
    shares: Mapping[str, float]
    """Group → share of its rows with this label; only groups large enough."""
    gap: float
    """Greatest share − least."""
    expected: float
    """Mean gap if labels did not depend on the group, by permutation."""
    p_value: float
    """Of no dependence, by permutation; adjusted by Holm over three labels or more."""


@dataclass(frozen=True, slots=True)
class GroupCounts:
    """The groups that one field names, as they stand in the data."""

    by: str
    """The field, or ``a+b``."""
    rows: Mapping[str, int]
    """Group → rows, the largest first; rows without the attribute are no group."""
    missing: int
    """Rows that lack the attribute."""
    small: tuple[str, ...]
    """Groups with fewer rows than a number needs to enter a gap."""
    lacking: Mapping[str, tuple[str, ...]]
    """Group → labels that too few of its rows have: what is taken over these labels alone cannot be estimated there."""
    label_gaps: tuple[LabelGap, ...]
    """One per label, in the order of the labels; empty where targets are no labels, or under two groups are left."""


@dataclass(frozen=True, slots=True)
class Repeats:
    """Rows that ask what another row asks as well."""

    rows: int
    """How many, beyond the first of each question."""
    contradicting: int
    """How many of them have another target than the first."""
    examples: tuple[tuple[str, str], ...]
    """Pairs of places that ask the same: (first, later)."""


@dataclass(frozen=True, slots=True)
class DataReport:
    """What one task's data set holds."""

    task: str
    """The task's name."""
    rows: int
    """Rows that were read."""
    unusable: int
    """Rows that cannot be asked."""
    labels: Mapping[str, int]
    """Label → rows, the most frequent first; empty where targets are no labels."""
    groups: tuple[GroupCounts, ...]
    """One per field that names groups."""
    repeated: Repeats
    """Questions that occur more than once in the data set."""
    elsewhere: Mapping[str, Repeats]
    """Other data set → questions of this one that it holds as well."""

    @property
    def findings(self) -> tuple[str, ...]:
        """What a reader of a gap should know, one sentence each."""
        return tuple(_findings(self))


class DataReader:
    """Reads one task's planned samples once; ``report`` tells what they hold."""

    def __init__(self, task: str, groups: GroupsSpec | None, seed: int) -> None:
        """``seed`` is that of the permutations."""
        self._task, self._groups, self._seed = task, groups, seed
        self._rows = self._unusable = 0
        names = groups.names if groups else ()
        self._attributes: dict[str, list[str]] = {name: [] for name in names}
        self._labels: list[str] = []
        self._texts = False
        self.questions: dict[bytes, tuple[str, str]] = {}
        """Digest of each question → (id, label) of the first row that asks it."""
        self._repeats: list[tuple[str, str, bool]] = []

    def add(self, planned: PlannedSample) -> None:
        """Take one row in."""
        self._rows += 1
        if planned.problem:
            self._unusable += 1
            return
        sample = planned.sample
        for name, held in self._attributes.items():
            held.append(sample.attributes[name])
        label = label_of(planned)
        self._texts = self._texts or label is None
        self._labels.append(label or "")
        key = question_of(planned)
        first = self.questions.setdefault(key, (sample.id, label or ""))
        if first[0] != sample.id:
            self._repeats.append((first[0], sample.id, first[1] != (label or "")))

    def report(self, others: Mapping[str, Mapping[bytes, tuple[str, str]]]) -> DataReport:
        """Return what was read; ``others`` are the questions of other data sets, by what they are called."""
        counted = Counter(self._labels)
        labels = {} if self._texts or len(counted) > MOST_LABELS else dict(counted.most_common())
        return DataReport(
            task=self._task,
            rows=self._rows,
            unusable=self._unusable,
            labels=labels,
            groups=tuple(self._counts(name, labels) for name in self._attributes),
            repeated=_repeats(self._repeats),
            elsewhere={
                name: _repeats(
                    (ours, theirs, label != their_label)
                    for key, (ours, label) in self.questions.items()
                    if key in held
                    for theirs, their_label in [held[key]]
                )
                for name, held in others.items()
            },
        )

    def _counts(self, name: str, labels: Mapping[str, int]) -> GroupCounts:
        assert self._groups is not None, "fields are those of the groups"
        values, least = self._attributes[name], self._groups.min_size
        rows = Counter(value for value in values if value != MISSING)
        kept = [group for group, n in rows.most_common() if n >= least]
        both = Counter(zip(values, self._labels, strict=True))
        lacking = {
            group: lacks
            for group in kept
            if (lacks := tuple(label for label in labels if both[group, label] < least))
        }
        return GroupCounts(
            by=name,
            rows=dict(rows.most_common()),
            missing=len(values) - sum(rows.values()),
            small=tuple(group for group, n in rows.most_common() if n < least),
            lacking=lacking,
            label_gaps=self._label_gaps(name, kept, labels)
            if len(kept) > 1 and len(labels) > 1
            else (),
        )

    def _label_gaps(
        self, name: str, kept: Sequence[str], labels: Mapping[str, int]
    ) -> tuple[LabelGap, ...]:
        codes = {group: code for code, group in enumerate(kept)}
        here = [place for place, value in enumerate(self._attributes[name]) if value in codes]
        codes_M = np.array([codes[self._attributes[name][place]] for place in here], dtype=np.intp)
        sizes_G = np.bincount(codes_M, minlength=len(kept))
        found = []
        for label in labels:
            has_M = np.array([self._labels[place] == label for place in here], dtype=np.float64)
            shares_G = np.bincount(codes_M, weights=has_M, minlength=len(kept)) / sizes_G
            gap = gap_value([shares_G], form="difference", joined="worst")
            rng = np.random.default_rng(derived_seed(self._seed, self._task, "data", name, label))
            null = gap_under_equality(
                [Grouped(has_M[:, None], codes_M, _share)],
                gap,
                form="difference",
                joined="worst",
                rng=rng,
            )
            shares = dict(zip(kept, map(float, shares_G), strict=True))
            found.append(LabelGap(label, shares, gap, null.expected, null.p_value))
        p_values = [each.p_value for each in found]
        # Of two labels one is had where the other is not: both tests are the same one.
        adjusted = p_values if len(found) == 2 else holm(p_values)
        return tuple(
            LabelGap(each.label, each.shares, each.gap, each.expected, p)
            for each, p in zip(found, adjusted, strict=True)
        )


def _findings(report: DataReport) -> Iterator[str]:
    if report.unusable:
        yield f"{report.unusable:,} of {report.rows:,} rows cannot be asked"
    for groups in report.groups:
        yield from _of_groups(groups, report.rows - report.unusable, len(report.labels))
    once = report.repeated
    if once.rows:
        yield f"{_rows(once)} a question that an earlier row asks{_shown(once)}"
    for name, found in report.elsewhere.items():
        if found.rows:
            yield f"{_rows(found)} a question that {name} holds too{_shown(found)}"


def _of_groups(found: GroupCounts, rows: int, labels: int) -> Iterator[str]:
    if found.missing:
        yield (
            f"{found.missing:,} of {rows:,} rows do not say their {found.by}: they are in no group, and rules on its "
            "gaps count each as what would be worst"
        )
    if len(found.rows) - len(found.small) < 2:
        yield f"{found.by} names fewer than two groups large enough: no gap can be estimated"
    if found.small:
        small = [f"{_short(group)} ({found.rows[group]:,})" for group in found.small]
        yield f"too small for a gap by {found.by}: {_some(small)}"
    rare: dict[tuple[str, ...], list[str]] = {}
    for group, lacks in found.lacking.items() if labels == DECISION else ():
        rare.setdefault(lacks, []).append(f"{found.by}={_short(group)}")
    for lacks, groups in rare.items():
        shown = " or ".join(map(repr, lacks))
        has = "has" if len(groups) == 1 else "have"
        yield f"{_some(groups)} {has} too few rows labelled {shown}: rates over them are not estimable there"
    for gap in found.label_gaps:
        if gap.p_value <= SHOWN:
            most, least = (
                max(gap.shares, key=gap.shares.__getitem__),
                min(gap.shares, key=gap.shares.__getitem__),
            )
            yield (
                f"label {gap.label!r} depends on {found.by}: {100 * gap.shares[most]:.1f} % of {_short(most)}, "
                f"{100 * gap.shares[least]:.1f} % of {_short(least)} (gap {gap.gap:.3f}, "
                f"{gap.expected:.3f} expected by chance, p {gap.p_value:.2g}); a model that is always right shows this "
                "gap in its selection rates"
            )


def _some(texts: Sequence[str]) -> str:
    more = len(texts) - NAMED
    return ", ".join(texts[:NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _short(group: str) -> str:
    return group if len(group) <= LONGEST else f"{group[: LONGEST - 1]}…"


def _rows(found: Repeats) -> str:
    return f"{found.rows:,} {'row asks' if found.rows == 1 else 'rows ask'}"


def _shown(found: Repeats) -> str:
    places = ", ".join(f"{ours} = {theirs}" for ours, theirs in found.examples)
    more = ", …" if found.rows > len(found.examples) else ""
    against = f"; {found.contradicting:,} with another target" if found.contradicting else ""
    return f" ({places}{more}{against})"


def _share(sums_XK: Array, n_X: Array) -> Array:
    return np.asarray(sums_XK[..., 0] / n_X)


def label_of(planned: PlannedSample) -> str | None:
    """Return a row's label: its right choice's text, else its first target; None where it has neither."""
    sample = planned.sample
    if not sample.targets:
        return None
    target = sample.targets[0]
    return sample.choices[int(target)] if sample.choices and target.isdecimal() else target


def question_of(planned: PlannedSample) -> bytes:
    """Return a digest of what a row asks, white space and case aside; equal rows of any data set have equal digests."""
    asked = [
        [
            request.prompt,
            request.continuation,
            *(f"{m.role}: {m.content}" for m in request.messages or ()),
        ]
        for request in planned.requests[: planned.per_replicate]
    ]
    normal = [[" ".join((part or "").casefold().split()) for part in parts] for parts in asked]
    return hashlib.sha256(canonical_json(normal)).digest()[:16]


def _repeats(found: Iterable[tuple[str, str, bool]]) -> Repeats:
    rows = contradicting = 0
    examples: list[tuple[str, str]] = []
    for ours, theirs, differs in found:
        rows += 1
        contradicting += differs
        if len(examples) < EXAMPLES:
            examples.append((ours, theirs))
    return Repeats(rows, contradicting, tuple(examples))
