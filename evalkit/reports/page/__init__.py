"""The scorecard as one HTML file that opens from a mail: no network, no server, whatever models wrote."""

from __future__ import annotations

from evalkit.registry import register
from evalkit.reports.page.frame import scorecard_page
from evalkit.reports.reported import FinishedRun

__all__ = ["ScorecardPage", "scorecard_page"]


@register(
    "reporter",
    "html",
    summary="The scorecard as one page for people: verdict, rules, numbers, samples, plots.",
    example="evalkit report RUN --format html",
)
class ScorecardPage:
    """The reporter "html"."""

    file = "report.html"

    def render(self, run: FinishedRun) -> str:
        """Return the page."""
        return scorecard_page(run)
