"""Small reviews for tests: suites, rows, tables and ratings without a model."""

from __future__ import annotations

import numpy as np

from evalkit.metrics.base import corpus, mean, rate
from evalkit.records.review import DrawnAnswer, DrawnTask, RatedAnswer, Review
from evalkit.records.suite import GenerateTask, ReviewSpec, SuiteSpec
from evalkit.reviewing import Label
from evalkit.scoring import MetricTable

SCALE = ReviewSpec(question="How good?", scale=(1, 5), pass_at=4)
LABELS = ReviewSpec(question="How good?", labels=("bad", "fair", "good"), pass_at="fair")


def suite(spec=SCALE, **changes):
    task = GenerateTask.model_validate(
        {
            "name": "write",
            "dataset": {"path": "rows.jsonl"},
            "prompt": "{{ text }}",
            "metrics": [{"name": "exact_match"}],
            "review": spec,
            **changes,
        }
    )
    return SuiteSpec(suite="words", version=1, tasks=(task,))


def table(scores, *, metric="exact_match", kind="rate", missing=(), clusters=None, better="higher"):
    """A table of one measure from sample → score."""
    ids = list(scores)
    measure = {
        "rate": rate("", column=0, better=better),
        "mean": mean("", column=0, better=better),
        "corpus": corpus("", lambda sums, n: sums[..., 0] / n, unit="points"),
    }[kind]
    planned = {None: len(ids) + len(missing)}
    return MetricTable(
        task="write",
        metric=metric,
        signature=f"{metric}|v:1|task:abc",
        dataset="d" * 64,
        measures=(measure,),
        sample_ids=ids,
        stats_NK=np.array([[scores[i]] for i in ids], dtype=float).reshape(len(ids), 1),
        binary=kind == "rate",
        clusters=None if clusters is None else [clusters[i] for i in ids],
        attributes={"part": ["odd" if int(i[1:]) % 2 else "even" for i in ids]},
        planned=planned | sliced([*ids, *missing]),
        completed={None: len(ids)} | sliced(ids),
        missing_ids=list(missing),
        missing_clusters=None if clusters is None else [clusters[i] for i in missing],
        missing_attributes={"part": ["odd" if int(i[1:]) % 2 else "even" for i in missing]},
        missing_completed=[False] * len(missing),
    )


def sliced(ids):
    odd = sum(int(i[1:]) % 2 for i in ids)
    return {"part=even": len(ids) - odd, "part=odd": odd}


def review(items, spec=SCALE, draw="uniform"):
    """A review of these items: name → models."""
    answers = [
        DrawnAnswer(item=item, task="write", sample=f"s{n}", models=models)
        for n, (item, models) in enumerate(items.items())
    ]
    return Review(
        id="rev",
        scorecard="c" * 64,
        draw=draw,
        seed=0,
        both=True,
        tasks=(DrawnTask(task="write", review=spec, drawn=len(items), of=len(items)),),
        answers=tuple(answers),
    )


def label(item, rating, annotator="ann", *, file="ann.jsonl", line=1, **changes):
    return Label(file=file, line=line, item=item, rating=rating, annotator=annotator, **changes)


def rated(n, model="candidate", **ratings):
    """One answer of sample n with ratings by name."""
    return RatedAnswer(model=model, task="write", id=f"s{n}", item=f"i{n}{model}", ratings=ratings)
