"""Make the example scorecards anew, with pictures of them: `make example`.

What may differ between two runs (the machine, its paths, when) is left out of them, so that making them again changes
nothing but what evalkit itself says.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import sync_playwright

import evalkit
from evalkit.cli.past_runs import PastRun
from evalkit.cli.reporting import write_reports
from evalkit.records.scorecard import Scorecard

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SUITE = "suites/quickstart/suite.yaml"
PICTURES = {
    "desktop": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"},
}
PLACES = {"": "verdict", "#flips": "flips", "#fairness": "fairness", "#weights": "weights"}
"""What of the page is pictured on a desktop: its anchor and the picture's name."""


def neutral(card: Scorecard) -> Scorecard:
    """The scorecard without the machine it was made on; its digest does not cover this."""
    facts = card.circumstances.model_copy(
        update={
            "started": "2026-01-01T12:00:00+00:00",
            "finished": "2026-01-01T12:00:30+00:00",
            "command": ("evalkit", "run", SUITE),
            "git_commit": None,
            "hardware": {},
            "host": {},
            "seconds": 30.0,
            "locations": {
                role: f"suites/quickstart/{name}" for role, name in card.circumstances.names.items()
            },
        }
    )
    return card.model_copy(update={"circumstances": facts})


def main() -> None:
    """Run the quickstart, write its reports here, and picture the page."""
    target = HERE / "quickstart"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    with TemporaryDirectory() as folder:
        made = evalkit.run(ROOT / SUITE, out=folder, backend="transformers", quiet=False)
        past = PastRun(made.path, neutral(made.scorecard))
        past.path = Path("reports") / made.path.name  # told in the page
        shown = PastRun(made.path, past.scorecard)
        for file in write_reports(shown, target, ["sarif"]):
            text = file.read_text(encoding="utf-8")
            file.write_text(text.replace(str(made.path), str(past.path)), encoding="utf-8")
    picture(target / "report.html")


def picture(page: Path) -> None:
    """Save the top of the page in each look, and some of its parts."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for look, settings in PICTURES.items():
            tab = browser.new_context(**settings).new_page()
            for anchor, name in PLACES.items() if look == "desktop" else [("", "verdict")]:
                tab.goto(f"{page.as_uri()}{anchor}")
                tab.wait_for_timeout(1500)  # plots are drawn when they come into view
                tab.screenshot(path=page.with_name(f"{look}-{name}.png"))
        browser.close()


if __name__ == "__main__":
    main()
