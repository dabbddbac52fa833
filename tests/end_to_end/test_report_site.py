"""``evalkit report --site`` over real runs: what is whole is shown, what is damaged or unfinished is told."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from commands import command, evalkit


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two finished runs of the starter suite, one of them promoted, one whose samples were changed, one unfinished."""
    folder = tmp_path_factory.mktemp("evals")
    assert evalkit("init", ".", cwd=folder).code == 0
    for _ in range(2):
        done = evalkit("run", "suite.yaml", "--quiet", cwd=folder)
        assert done.code in (0, 1, 4), done.err
        text = (folder / "suite.yaml").read_text()
        (folder / "suite.yaml").write_text(text.replace("max_tokens: 16", "max_tokens: 24"))
    out = folder / "reports"
    first, second = sorted(
        (path.parent for path in out.glob("*/scorecard.json")),
        key=lambda path: path.stat().st_mtime_ns,
    )
    done = evalkit("promote", first, "--as", "production", "--anyway", cwd=folder)
    assert done.code == 0, done.err
    shutil.copytree(second, out / "damaged")
    (out / "damaged" / "samples.jsonl").write_text("{}\n")
    (out / "unfinished").mkdir()
    (out / "unfinished" / "run.json").write_text("{}")
    return folder, first, second


@pytest.fixture(scope="module")
def site(place):
    folder, *_ = place
    code, out, err = command("report", "--site", "public", cwd=folder)
    assert code == 0, err
    assert out.strip().endswith("index.html")
    return folder / "public"


def test_every_run_has_its_page_and_each_suite_its_history(place, site):
    _, first, second = place
    index = (site / "index.html").read_text(encoding="utf-8")
    for run in (first, second):
        link = f"runs/{run.name}.html"
        assert f'href="{link}"' in index
        assert "</html>" in (site / link).read_text(encoding="utf-8")
    assert 'href="starter.html"' in index
    history = (site / "starter.html").read_text(encoding="utf-8")
    plots = json.loads(re.search(r'id="plots">(.*?)</script>', history, re.DOTALL)[1])
    assert plots
    for plot in plots.values():
        assert [value["number"] for value in plot["data"]["values"]] == [1, 2]


def test_a_change_of_how_it_was_measured_breaks_the_line_and_the_promotion_is_marked(site):
    history = (site / "starter.html").read_text(encoding="utf-8")
    assert "another signature" in history
    assert "Promoted as production" in history


def test_damaged_and_unfinished_runs_are_told_with_their_reasons_and_stop_nothing(site):
    index = (site / "index.html").read_text(encoding="utf-8")
    told = index[index.index('id="unread"') :]
    assert "damaged" in told
    assert "changed" in told
    assert "unfinished" in told
    assert "not finished" in told
    assert not (site / "runs" / "damaged.html").exists()


def test_a_site_over_nothing_that_can_be_read_is_no_site(place):
    folder, *_ = place
    code, _, err = command("report", "reports/damaged", "--site", "none", cwd=folder)
    assert code == 2
    assert "damaged" in err
    assert not (folder / "none" / "index.html").exists()


def test_the_same_runs_give_the_same_bytes(place, site):
    folder, *_ = place
    code, _, err = command("report", "--site", "again", cwd=folder)
    assert code == 0, err
    for path in site.rglob("*.html"):
        assert (folder / "again" / path.relative_to(site)).read_bytes() == path.read_bytes()
