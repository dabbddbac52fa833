"""People in the loop: which answers they see, what their ratings come to, how far they agree."""

from evalkit.reviewing.agreement import PairAgreement, TaskAgreement, task_agreement
from evalkit.reviewing.drawing import drawn, eligible, planned_ids
from evalkit.reviewing.items import Exported, exported, refuse_unreviewable, shown_answers
from evalkit.reviewing.ratings import Conflict, Label, conflicts, merged
from evalkit.reviewing.tables import (
    AGREEMENT,
    HUMAN,
    NAMES,
    human_comparisons,
    human_estimates,
    human_tables,
    labels_by_place,
)

__all__ = [
    "AGREEMENT",
    "HUMAN",
    "NAMES",
    "Conflict",
    "Exported",
    "Label",
    "PairAgreement",
    "TaskAgreement",
    "conflicts",
    "drawn",
    "eligible",
    "exported",
    "human_comparisons",
    "human_estimates",
    "human_tables",
    "labels_by_place",
    "merged",
    "planned_ids",
    "refuse_unreviewable",
    "shown_answers",
    "task_agreement",
]
