"""What of a model's text is its answer: reasoning between ``<think>`` tags is not."""

from __future__ import annotations

_OPEN, _CLOSE = "<think>", "</think>"


def final_answer(text: str) -> str:
    """Return what stands after the reasoning; text without reasoning is returned as it is.

    Some chat templates write the opening tag themselves, so a closing tag alone ends reasoning too. Reasoning that
    was never closed has no answer after it.

    >>> final_answer("<think>42? No, 41.</think> 41")
    ' 41'
    >>> final_answer("<think>42? No")
    ''
    """
    return text.rpartition(_CLOSE)[2].partition(_OPEN)[0]
