"""A site over many runs: their verdicts, and the history of every number with its interval, promotions marked.

It is made of the parts of the scorecard's page (``reports.page``): files that load nothing, from any network or from
one another, so that the folder may be served, mailed or opened where it lies.
"""

from __future__ import annotations

from evalkit.reports.site.history import Promoted, SiteRun, UnreadRun
from evalkit.reports.site.pages import site_pages

__all__ = ["Promoted", "SiteRun", "UnreadRun", "site_pages"]
