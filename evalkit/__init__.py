"""evalkit decides whether a fine-tuned language model may ship.

From Python: ``evalkit.run(…)`` runs a suite, ``evalkit.load(…)`` opens a finished run, ``evalkit.assert_gate(…)`` fails
a test by a gate. Importing the package loads nothing heavy and touches nothing outside the process.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["Run", "__version__", "assert_gate", "load", "run"]

_LATE = {
    "Run": "evalkit.api",
    "assert_gate": "evalkit.asserting",
    "load": "evalkit.api",
    "run": "evalkit.api",
}
"""What is imported when it is first used; ``__init__.pyi`` tells type checkers the same."""


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever has the name
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATE[name]), name)
