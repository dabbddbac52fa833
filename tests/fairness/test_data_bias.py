"""What of a gap may come from the data: counts, labels by group, what is missing, what is asked twice."""

from __future__ import annotations

import io
import json
import re

import pytest
from rich.console import Console
from scipy.stats import fisher_exact

from evalkit.cli.data_bias import data_reports
from evalkit.cli.main import run
from evalkit.loaders.suites import load_suite
from evalkit.reports.data_bias import data_lines

SUITE = """\
suite: people
version: 1
tasks:
  - name: decide
    dataset: {{path: rows.jsonl}}
    prompt: "Applicant: {{{{ text }}}}\\nApprove:"
    target: "{{{{ target }}}}"
    groups: {{by: {by}, min_size: {least}}}
    metrics: [exact_match]
"""


def suite_of(folder, rows, by="[sex]", least=20):
    folder.joinpath("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "suite.yaml"
    path.write_text(SUITE.format(by=by, least=least))
    return path


def report_of(folder, rows, against=(), **options):
    loaded = load_suite(suite_of(folder, rows, **options))
    (report,) = data_reports(loaded.spec, loaded.folder, against)
    return report


def people(sex, yes, no, first=0, **more):
    return [
        {"text": f"{sex}{first + n}", "target": "yes" if n < yes else "no", "sex": sex, **more}
        for n in range(yes + no)
    ]


def test_labels_equal_in_all_groups_find_nothing(tmp_path):
    report = report_of(tmp_path, people("f", 30, 30) + people("m", 30, 30))
    assert report.findings == ()
    assert report.groups[0].rows == {"f": 60, "m": 60}
    assert report.labels == {"yes": 60, "no": 60}


def test_the_dependence_of_two_labels_on_two_groups_has_fishers_p_value(tmp_path):
    """Source: scipy.stats.fisher_exact, which for equal groups counts the same arrangements."""
    report = report_of(tmp_path, people("f", 15, 45) + people("m", 33, 27))
    (yes, no) = report.groups[0].label_gaps if report.labels else ()
    theirs = fisher_exact([[15, 45], [33, 27]]).pvalue
    for gap in (yes, no):
        assert gap.p_value == pytest.approx(theirs, rel=1e-9)
        assert gap.gap == pytest.approx(18 / 60)
    assert "label 'yes' depends on sex" in " ".join(report.findings)


def test_rows_without_the_attribute_are_counted_and_are_no_group(tmp_path):
    rows = (
        people("f", 30, 30)
        + people("m", 30, 30)
        + [{"text": f"?{n}", "target": "yes"} for n in range(60)]
    )
    report = report_of(tmp_path, rows)
    assert report.groups[0].missing == 60
    assert set(report.groups[0].rows) == {"f", "m"}
    assert "60 of 180 rows do not say their sex" in report.findings[0]


def test_a_small_group_and_a_label_too_rare_in_one_are_said(tmp_path):
    report = report_of(tmp_path, people("f", 30, 30) + people("m", 55, 5) + people("x", 3, 2))
    told = " ".join(report.findings)
    assert "too small for a gap by sex: x (5)" in told
    assert "sex=m has too few rows labelled 'no'" in told


def test_one_group_alone_gives_no_gap(tmp_path):
    report = report_of(tmp_path, people("f", 30, 30))
    assert report.groups[0].label_gaps == ()
    assert "fewer than two groups" in report.findings[0]


def test_an_intersection_is_counted_by_both_fields(tmp_path):
    rows = people("f", 20, 20, age="old") + people("m", 20, 20, age="young")
    report = report_of(tmp_path, rows, by="[sex, [sex, age]]")
    assert report.groups[1].rows == {"f+old": 40, "m+young": 40}


def test_questions_asked_twice_are_counted_with_those_that_contradict(tmp_path):
    rows = people("f", 30, 30)
    again = [{**rows[0], "text": " F0 "}, {**rows[1], "target": "no"}]
    report = report_of(tmp_path, [*rows, *people("m", 30, 30), *again])
    assert (report.repeated.rows, report.repeated.contradicting) == (2, 1)
    assert report.repeated.examples == (("0", "120"), ("1", "121"))


def test_rows_that_were_trained_on_are_found_whatever_else_they_hold(tmp_path):
    rows = people("f", 30, 30) + people("m", 30, 30)
    train = tmp_path / "train.jsonl"
    seen = [{"text": row["text"], "target": row["target"], "weight": 2} for row in rows[:7]]
    train.write_text("".join(json.dumps(row) + "\n" for row in [*seen, {"other": 1}]))
    report = report_of(tmp_path, rows, [train])
    assert report.elsewhere["train.jsonl"].rows == 7
    assert report.elsewhere["train.jsonl"].examples[0] == ("0", "train.jsonl:1")


def test_the_command_shows_groups_of_any_name_as_text(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    rows = people("[red]f[/red]", 10, 50) + people("\u202em\x1b[31m", 50, 10)
    assert run(["validate", str(suite_of(tmp_path, rows)), "--data"]) == 0
    shown = capsys.readouterr().out
    assert "[red]f[/red]" in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "depends on sex" in shown


def test_a_file_whose_rows_fit_no_task_is_refused(tmp_path, capsys):
    (tmp_path / "train.jsonl").write_text('{"other": 1}\n')
    path = suite_of(tmp_path, people("f", 1, 1))
    assert run(["validate", str(path), "--data", "--against", str(tmp_path / "train.jsonl")]) == 2
    assert "no task can ask its rows" in capsys.readouterr().err


# --- what is printed


def printed(report, width):
    console = Console(width=width, file=io.StringIO())
    for part in data_lines(report):
        console.print(part)
    return console.file.getvalue()


def test_of_two_labels_one_has_a_column_since_the_other_is_what_is_left(tmp_path):
    report = report_of(tmp_path, people("f", 15, 45) + people("m", 33, 27))
    text = printed(report, 80)
    assert re.search(r"^ m +60 +55\.0 %", text, re.MULTILINE)
    assert re.search(r"^ f +60 +25\.0 %", text, re.MULTILINE)
    assert "label no" not in text
    assert re.search(r"^ gap +0\.300", text, re.MULTILINE)


@pytest.mark.parametrize("width", [80, 140])
def test_of_many_labels_those_that_depend_most_on_the_group_have_columns_and_no_number_is_cut(
    tmp_path, width
):
    kinds = [f"kind-{n}" for n in range(8)]
    rows = [
        {"text": f"{sex}{n}", "target": kinds[n % 8], "sex": sex}
        for sex in ("f", "m")
        for n in range(80)
    ]
    for row in rows[:10]:  # all of them of one group, and of the last kind
        row["target"] = "kind-7"
    text = printed(report_of(tmp_path, rows), width)
    assert "label kind-7" in text
    assert text.count("label kind") == 4
    assert "and 4 more labels, which depend less on sex" in text
    assert max(map(len, text.splitlines())) <= width
    # Rates over one label are taken of decisions, and these are none.
    assert "too few rows labelled" not in text


def test_many_groups_are_counted_and_their_names_are_cut_and_made_visible(tmp_path):
    rows = people("f", 30, 30) + people("m", 30, 30)
    for n in range(9):
        rows += people(f"\x1b[31m{n}" + "x" * 60, 1, 1)
    text = printed(report_of(tmp_path, rows), 80)
    assert "\x1b" not in text
    assert "x" * 41 not in text.replace("\n", "")
    assert "and 4 more" in " ".join(text.split())
