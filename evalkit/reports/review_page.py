"""The page on which people rate answers: one file without any network, whatever the answers hold.

Texts of models and files travel as JSON inside a ``<script type="application/json">`` with ``<``, ``>`` and ``&``
escaped, so that no text ends the element or begins another, and reach the page as text nodes alone. The Content
Security Policy names the digests of the page's own style and script: nothing else runs, and nothing is fetched.

**Source**: HTML Living Standard, 4.12.1.3 (restrictions on the contents of script elements); Content Security Policy
Level 3, 2.3.1 (hash sources).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from importlib.resources import files
from typing import Any, Final

from evalkit.records.review import Item, Review

_ESCAPES: Final = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026"}
_PLACE: Final = "{{data}}"
_POLICY: Final = "{{policy}}"


def review_page(review: Review, items: tuple[Item, ...]) -> str:
    """Return the page of a review as ASCII; its key is no part of it."""
    template = _template()
    policy = "; ".join(
        (
            "default-src 'none'",
            f"style-src {_hash(template, 'style')}",
            f"script-src {_hash(template, 'script')}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    # The data go in last: nothing in them is taken for a place of the template.
    return template.replace(_POLICY, policy).replace(_PLACE, embedded(_content(review, items)))


def embedded(content: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return JSON in ASCII that no HTML parser sees an end in.

    >>> embedded({"answer": "</script>"})
    '{"answer": "\\\\u003c/script\\\\u003e"}'
    """
    return json.dumps(content).translate(_ESCAPES)


def _content(review: Review, items: tuple[Item, ...]) -> dict[str, Any]:
    return {
        "review": review.id,
        "tasks": {
            task.task: {
                "question": task.review.question,
                "guide": task.review.guide,
                "ratings": list(task.review.ratings),
            }
            for task in review.tasks
        },
        "items": [item.model_dump(mode="json") for item in items],
    }


@cache
def _template() -> str:
    return files("evalkit.reports").joinpath("review.html").read_text(encoding="ascii")


def _hash(template: str, element: str) -> str:
    """Return the digest of an element's content as a policy names it."""
    found = re.search(rf"<{element}>(.*?)</{element}>", template, re.DOTALL)
    assert found is not None, f"the template has no {element}"
    digest = hashlib.sha256(found[1].encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
