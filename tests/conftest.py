"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

# How long an example takes says more about the machine's load than about the code. CI judges the same examples each
# time, so that a change is not refused for what was there before it; everywhere else each run looks for new ones.
hypothesis.settings.register_profile("evalkit", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "evalkit"))

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Published data with known answers, beside the repository; tests say that they skip without it."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the published data folder ../shared/data is absent")
    return folder
