"""``evalkit compare`` as a user runs it: two runs on recorded answers, one run with itself, and what cannot be."""

from __future__ import annotations

import json

import pytest
from commands import evalkit

from evalkit.cli.main import run

SUITE = """\
suite: {suite}
version: 1
tasks:
  - name: {task}
    dataset: {{path: data.jsonl}}
    prompt: "{{{{ question }}}}"
    target: "{{{{ answer }}}}"
    slices: [region]
    metrics: [exact_match]
"""
SAMPLES = [(f"q{i:02}", "eu" if i % 2 else "us") for i in range(60)]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder where three models answered one suite, and one of them another."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "suite.yaml").write_text(SUITE.format(suite="capitals", task="cities"))
    (folder / "other.yaml").write_text(SUITE.format(suite="other", task="rivers"))
    write(
        folder / "data.jsonl",
        [{"id": i, "question": f"Ask {i}?", "answer": "yes", "region": r} for i, r in SAMPLES],
    )
    lost = {i for i, region in SAMPLES if region == "eu"} - {"q01", "q03"}
    gained = {"q00", "q03"}
    write(
        folder / "old.jsonl",
        [{"id": i, "text": "no" if i in gained else "yes"} for i, _ in SAMPLES],
    )
    write(
        folder / "new.jsonl", [{"id": i, "text": "nay" if i in lost else "yes"} for i, _ in SAMPLES]
    )
    for out, *arguments in (
        ("old", "suite.yaml", "--candidate", "old.jsonl"),
        ("new", "suite.yaml", "--candidate", "new.jsonl"),
        ("pair", "suite.yaml", "--candidate", "new.jsonl", "--baseline", "old.jsonl"),
        ("other", "other.yaml", "--candidate", "old.jsonl"),
    ):
        done = evalkit("run", *arguments, "--out", f"reports-{out}", "--quiet", cwd=folder)
        assert "scorecard:" in done.out, done.out + done.err
        (made,) = (path for path in (folder / f"reports-{out}").iterdir() if path.is_dir())
        made.rename(folder / out)
    return folder


@pytest.fixture(scope="module")
def done(runs):
    """Two runs compared, and written to ``all.json``."""
    finished = evalkit("compare", "./old", "./new", "--json", "all.json", cwd=runs)
    assert finished.code == 0, finished.err
    return finished


def test_two_runs_are_put_side_by_side_with_every_flip(runs, done):
    assert (
        "Of 60 pairs 28 got worse (right → wrong), 2 got better (wrong → right), 30 stayed."
        in done.out
    )
    assert "baseline   old.jsonl" in done.out
    assert "candidate  new.jsonl" in done.out
    first = done.out.index("Worse (right → wrong), 5 of 28")
    assert (
        first < done.out.index("q05  region=eu") < done.out.index("Better (wrong → right), all 2")
    )
    assert "nay" in done.out
    written = json.loads((runs / "all.json").read_text())
    (ledger,) = written["ledgers"]
    assert [held["slice"] for held in ledger["slices"]] == ["region=eu", "region=us"]
    assert [held["finding"] for held in ledger["slices"]] == ["worse", ""]
    (whole,) = (c for c in written["comparisons"] if c["slice"] is None)
    assert whole["difference"] == pytest.approx(-26 / 60)
    assert [e["model"] for e in written["estimates"] if e["slice"] is None] == [
        "baseline",
        "candidate",
    ]
    assert written["differs"][0]["what"] == "model"
    assert ledger["whole"]["worse"][0] == {
        "sample": "q05",
        "baseline": 1.0,
        "candidate": 0.0,
        "slices": {"region": "eu"},
        "question": "Ask q05?",
        "targets": ["yes"],
        "baseline_answers": ["yes"],
        "candidate_answers": ["nay"],
    }


def test_one_run_is_compared_with_its_own_baseline_and_gives_the_same_numbers(runs, done):
    assert evalkit("compare", "./pair", "--json", "within.json", cwd=runs).code == 0
    within, between = (json.loads((runs / f).read_text()) for f in ("within.json", "all.json"))
    for key in ("comparisons", "ledgers", "estimates"):
        assert within[key] == between[key]
    assert (within["baseline"]["role"], between["baseline"]["role"]) == ("baseline", "candidate")
    card = json.loads((runs / "pair" / "scorecard.json").read_text())
    assert sorted(map(json.dumps, card["comparisons"])) == sorted(
        map(json.dumps, within["comparisons"])
    )


def test_samples_are_grouped_by_a_slice_and_limited(runs, monkeypatch, capsys):
    monkeypatch.chdir(runs)
    assert run(["compare", "./old", "./new", "--slice", "region", "--flips", "1"]) == 0
    text = capsys.readouterr().out
    assert "Worse (right → wrong) in region=eu, 1 of 28" in text
    assert "Better (wrong → right) in region=us, all 1" in text
    assert run(["compare", "./old", "./new", "--flips", "0"]) == 0
    text = capsys.readouterr().out
    assert "28 got worse" in text
    assert "Ask q" not in text


def test_a_run_with_itself_differs_in_nothing(runs, monkeypatch, capsys):
    monkeypatch.chdir(runs)
    assert run(["compare", "./old", "./old"]) == 0
    text = capsys.readouterr().out
    assert "whatever differs below is chance" in text
    assert "Of 60 pairs none changed." in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("./old", "./other"), "the runs have no task in common: "),
        (("./old",), "has no baseline of its own: give a second run"),
        (("./old", "./gone"), "gone"),
        (
            ("./old", "./new", "--metric", "cities/exact_mach"),
            "did you mean 'cities/exact_match'?",
        ),
        (("./old", "./new", "--slice", "regio"), "did you mean 'region'?"),
        (("./old", "./new", "--slice", "zzz"), "known: region"),
        (("./old", "./new", "--flips", "-1"), "--flips"),
    ],
)
def test_what_cannot_be_compared_is_told_in_words(runs, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(runs)
    assert run(["compare", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_the_help_says_which_run_is_the_baseline(capsys):
    assert run(["compare", "--help"]) == 0
    assert "OLD is the baseline, NEW the candidate" in " ".join(capsys.readouterr().out.split())
