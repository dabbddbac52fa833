"""What an MLflow server is told and what it answers: secrets kept out of sight, refusals in words.

Name and password in the server's address go into MLflow's own environment variables for as long as something is logged,
and nowhere else: not into messages, tags or files. MLflow's reports to its makers are off.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

LONGEST_MESSAGE: Final = 500
"""Characters of what a server says that are shown."""
QUIET: Final[Mapping[str, str]] = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
"""Always set while logging: no reports to MLflow's makers, no output but ours."""
PATIENCE: Final[Mapping[str, str]] = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
}
"""Set while logging unless the user has: MLflow's own would wait minutes for a server that is not there."""


def split_secrets(address: str) -> tuple[str, str | None, str | None]:
    """Return an address without name and password, then these two.

    >>> split_secrets("https://me:s%40cret@mlflow.example:5000/x")
    ('https://mlflow.example:5000/x', 'me', 's@cret')
    """
    parts = urlsplit(address)
    name, at, host = parts.netloc.rpartition("@")
    if not at:
        return address, None, None
    user, _, password = name.partition(":")
    shown = urlunsplit((parts.scheme, host, parts.path, parts.query, parts.fragment))
    return shown, unquote(user), unquote(password)


def in_words(error: Exception, shown: str, password: str | None) -> tuple[str, str]:
    """Return what went wrong at the server, and what to do."""
    status_of: Any = getattr(error, "get_http_status_code", None)
    status = status_of() if status_of else 0
    text = _clean(str(error), password)
    if status in {401, 403} or re.search(r"error code (401|403)\b", text):
        advice = (
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, of a user who may "
            "write there"
        )
        return f"the MLflow server at {shown} refuses this user: {text}", advice
    if "API request to" in text and "failed with" in text:
        return (
            f"the MLflow server at {shown} does not answer: {text}",
            "check the address, and that the server runs",
        )
    return f"the MLflow server at {shown} could not do this: {text}", "see the server's log"


def _clean(text: str, password: str | None) -> str:
    """Return a message in one line of limited length, without whatever could be a secret."""
    text = re.sub(r"://[^/\s@]*@", "://", text)
    text = re.sub(r"\b(Basic|Bearer)\s+\S+", r"\1 …", text, flags=re.IGNORECASE)
    for secret in (password, os.environ.get("MLFLOW_TRACKING_TOKEN")):
        if secret:
            text = text.replace(secret, "…")
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= LONGEST_MESSAGE else f"{line[: LONGEST_MESSAGE - 1]}…"


@contextmanager
def environment(user: str | None, password: str | None) -> Iterator[None]:
    """Set MLflow's environment variables for as long as the block runs."""
    changes: dict[str, str] = dict(QUIET)
    changes |= {key: value for key, value in PATIENCE.items() if key not in os.environ}
    if user is not None:
        changes |= {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password or ""}
    before = {key: os.environ.get(key) for key in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
