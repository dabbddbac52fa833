"""Make the example scorecards anew, with pictures of them: `make example`.

What may differ between two runs (the machine, its paths, when) is left out of them, so that making them again changes
nothing but what evalkit itself says.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import sync_playwright

from evalkit.cli import main as command_line
from evalkit.cli.past_runs import PastRun, open_run
from evalkit.cli.reporting import write_reports
from evalkit.records.scorecard import Scorecard

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MODELS = "suites/quickstart/models"
COMMANDS = {
    "quickstart": "run suites/quickstart/suite.yaml --backend transformers",
    "weights": f"spectral {MODELS}/candidate --base {MODELS}/baseline --spectra --importance --plots",
}
"""Example → the command that makes it."""
LOOKS = {
    "desktop": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"},
}
PICTURES = {
    "quickstart": {
        "desktop-verdict": "",
        "desktop-flips": "#flips",
        "desktop-fairness": "#fairness",
        "dark-verdict": "",
        "phone-verdict": "",
    },
    "weights": {
        "desktop-importance": "[data-plot*=importance]",
        "desktop-alpha": "[data-plot*=alpha]",
    },
}
"""Example → picture, whose name begins with its look → what of the page it shows: an anchor or an element."""


def neutral(card: Scorecard, command: str) -> Scorecard:
    """The scorecard without the machine it was made on; its digest does not cover this."""
    facts = card.circumstances.model_copy(
        update={
            "started": "2026-01-01T12:00:00+00:00",
            "finished": "2026-01-01T12:00:30+00:00",
            "command": ("evalkit", *command.split()),
            "git_commit": None,
            "hardware": {},
            "host": {},
            "seconds": 30.0,
            "locations": {
                role: f"{MODELS}/{Path(place).name}"
                for role, place in card.circumstances.locations.items()
            },
        }
    )
    return card.model_copy(update={"circumstances": facts})


def main() -> None:
    """Make each example's run, write its reports here, and picture its page."""
    for example, command in COMMANDS.items():
        target = HERE / example
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        with TemporaryDirectory() as folder, contextlib.chdir(ROOT):
            code = command_line.run([*command.split(), "--out", folder])
            assert code in (0, 1), f"{command} ended with {code}"
            (made,) = (path for path in Path(folder).iterdir() if path.is_dir())
            run = open_run(made, Path(folder))
            shown = PastRun(run.path, neutral(run.scorecard, command))
            for file in write_reports(shown, target, ["sarif"]):
                text = file.read_text(encoding="utf-8")
                told = text.replace(str(made), f"reports/{made.name}")
                file.write_text(told, encoding="utf-8")
        picture(target / "report.html", PICTURES[example])


def picture(page: Path, pictures: dict[str, str]) -> None:
    """Save pictures of a page beside it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for name, place in pictures.items():
            tab = browser.new_context(**LOOKS[name.partition("-")[0]]).new_page()
            tab.goto(page.as_uri() + (place if place.startswith("#") else ""))
            if place and not place.startswith("#"):
                tab.locator(place).first.scroll_into_view_if_needed()
            tab.wait_for_timeout(1500)  # plots are drawn when they come into view
            if place and not place.startswith("#"):
                tab.locator(place).first.scroll_into_view_if_needed()
            tab.screenshot(path=page.with_name(f"{name}.png"))
        browser.close()


if __name__ == "__main__":
    main()
