"""Keeps the parts that other tests register out of messages and schemas."""

from __future__ import annotations

import pytest

from evalkit import registry


@pytest.fixture(autouse=True)
def only_built_in_parts(monkeypatch):
    """Let each test begin with the built-in parts alone; what it registers is gone afterwards."""
    registry.parts("metric")
    registry.parts("condition")
    held = {
        group: {
            name: part
            for name, part in parts.items()
            if part.make.__module__.startswith("evalkit.")
        }
        for group, parts in registry._parts.items()
    }
    monkeypatch.setattr(registry, "_parts", held)
