"""From rows to requests: a pure function of suite, samples and model. Same in, same bytes out.

A request's id is SHA-256 over what could change its answer: the model's identity, the kind of request, the
decoding or window, and the rendered text. The sample, the task and the place in the run are no part of it, so
the same question is asked once however often it occurs. Two exceptions: a sampled answer carries a seed derived
from its sample and replicate, so that equal prompts get independent draws; and a model made of recorded answers
(``Model.per_sample``) answers samples, not prompts.
"""

from evalkit.planning.planner import (
    MISSING,
    PlannedSample,
    TaskPlanner,
    attribute_of,
    attributes_of,
    needs_of,
    replicates_of,
)
from evalkit.planning.templates import Row, RowTemplate

__all__ = [
    "MISSING",
    "PlannedSample",
    "Row",
    "RowTemplate",
    "TaskPlanner",
    "attribute_of",
    "attributes_of",
    "needs_of",
    "replicates_of",
]
