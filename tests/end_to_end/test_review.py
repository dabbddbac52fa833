"""People in the loop, from the command line alone: a run, blinded answers, two annotators, a verdict.

The models are the quickstart's own checkpoints, asked for real. The annotators are scripts: one reads an order's answer
against its reference, the other too, and errs on every fifteenth item.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
from types import SimpleNamespace

import pytest
from commands import command, evalkit
from review_browser import chromium

from evalkit.cli.past_runs import open_run
from evalkit.store.reviews import read_labels, write_conflicts
from evalkit.store.runs import read_scorecard

pytest.importorskip("transformers", reason="the transformers extra is not installed")

LIMIT, DRAWN, SLIP = 60, 40, 15
SUITE = """
suite: people
version: 1
models: {candidate: MODELS/candidate, baseline: MODELS/baseline}
gates: [people.yaml]
tasks:
  - name: extract
    dataset: {path: orders.jsonl}
    prompt: "Order: {{ text }}\\nJSON:"
    target: "{{ target }}"
    decoding: {max_tokens: 96, temperature: 0, stop: ["\\n"]}
    slices: [region]
    metrics: [exact_match, json_fields]
    review: {question: Is the order right?, scale: [1, 5], pass_at: 4}
"""
GATE = """
gate: people
rules:
  - {id: right, estimate: extract/exact_match, require: at_least, value: 0.8}
  - {id: people-pass, estimate: extract/human.pass, require: at_least, value: 0.6}
  - {id: people-no-worse, estimate: extract/human.pass, require: no_worse_than, margin: 0.2}
  - {id: people-agree, estimate: extract/human.agreement, require: labelled, samples: 40, agreement: 0.4}
  - {id: few-broken, estimate: extract/human.pass, require: max_flips, value: 0.2, severity: warn}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory, root):
    """A finished run of both checkpoints, in a folder with its suite and gate; nothing in it is changed."""
    folder = tmp_path_factory.mktemp("people")
    quickstart = root / "suites/quickstart"
    (folder / "suite.yaml").write_text(SUITE.replace("MODELS", str(quickstart / "models")))
    (folder / "people.yaml").write_text(GATE)
    shutil.copy(quickstart / "data/orders.jsonl", folder)
    ran = evalkit(
        "run", "suite.yaml", "--backend", "transformers", "--limit", str(LIMIT), "--quiet", cwd=folder
    )  # fmt: skip
    assert ran.code == 4, ran.err
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """A copy of that folder."""
    return shutil.copytree(made, tmp_path / "people")


def run_of(folder):
    (path,) = (p for p in folder.glob("reports/people-*") if "review" not in p.name)
    return path


def export(folder, *arguments):
    return command("review", "export", run_of(folder).name, *arguments, cwd=folder)


def label_files(folder, where=None, skip=0):
    """Write two annotators' label files, JSONL and CSV; return their paths and how many items they rated."""
    where = where or folder / f"reports/{run_of(folder).name}-review"
    items = [json.loads(line) for line in (where / "items.jsonl").read_text().splitlines()]
    ann, bob = folder / "ann.jsonl", folder / "bob.csv"
    right = [item["answer"].strip() == item["targets"][0].strip() for item in items]
    with ann.open("w") as file:
        for item, good in list(zip(items, right, strict=True))[skip:]:
            row = {"item": item["item"], "rating": 5 if good else 2, "annotator": "ann"}
            file.write(json.dumps(row) + "\n")
    with bob.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["item", "rating", "annotator"])
        for n, (item, good) in list(enumerate(zip(items, right, strict=True)))[skip:]:
            writer.writerow([item["item"], 5 if good != (n % SLIP == 0) else 2, "bob"])
    return ann, bob, len(items)


def import_(folder, *arguments):
    return command("review", "import", run_of(folder).name, *arguments, cwd=folder)


def bytes_of(path):
    return {
        p.name: p.read_bytes() for p in sorted(path.iterdir()) if p.is_file() and p.name != ".lock"
    }


def test_before_people_have_rated_a_rule_on_them_is_missing_and_names_the_command(folder):
    code, out, _ = command("gate", run_of(folder).name, "people.yaml", cwd=folder)
    assert code == 4
    assert "evalkit review export RUN" in " ".join(out.split())
    (rules,) = [json.loads((run_of(folder) / "verdict.json").read_text())["outcomes"]]
    assert {o["rule"]: o["status"] for o in rules if o["rule"] != "right"} == dict.fromkeys(
        ("people-pass", "people-no-worse", "people-agree", "few-broken"), "missing"
    )


def test_what_annotators_get_tells_neither_model_nor_sample_nor_score(folder):
    code, out, err = export(folder, "--n", str(DRAWN))
    assert code == 0, err
    assert f"{DRAWN} of {LIMIT} samples drawn" in out
    where = folder / f"reports/{run_of(folder).name}-review"
    given = "".join((where / f).read_text() for f in ("items.jsonl", "items.csv", "review.html"))
    key = json.loads((where / "review.json").read_text())
    assert "must not get it" in key["note"]
    assert not re.search(r"candidate|baseline|ord-\d+|exact_match|scorecard", given)
    assert {a["sample"] for a in key["answers"]} <= {f"ord-{n:04}" for n in range(10_000)}
    assert {m for a in key["answers"] for m in a["models"]} == {"candidate", "baseline"}


def test_ratings_become_estimates_pairs_and_a_verdict_in_a_run_of_their_own(folder):
    export(folder, "--n", str(DRAWN))
    before = bytes_of(run_of(folder))
    ann, bob, items = label_files(folder)
    code, out, err = import_(folder, ann, bob)
    assert code == 0, out + err
    assert f"{items} of {items} items rated (ann {items}, bob {items})" in out
    assert "Krippendorff's alpha (ordinal)" in out and "ann and bob" in out
    assert bytes_of(run_of(folder)) == before, "the original run stays untouched"

    reviewed = run_of(folder).with_name(run_of(folder).name + "-reviewed")
    card, original = read_scorecard(reviewed), read_scorecard(run_of(folder))
    ours = {e.name: e for e in card.estimates if e.model == "candidate"}
    assert set(original.estimates) < set(card.estimates), "what was measured is still there"
    assert original.labels == "" and len(card.labels) == 64
    found = ours["extract/human.pass"]
    assert (found.counts.planned, found.counts.scored, found.kind) == (DRAWN, DRAWN, "rate")
    assert (ours["extract/human.rating"].kind, ours["extract/human.rating"].unit) == (
        "mean", "fraction"
    )  # fmt: skip
    alpha = ours["extract/human.agreement"]
    assert (alpha.kind, alpha.counts.planned, alpha.n) == ("corpus", DRAWN, items)
    assert (
        sum(e.counts.planned for n, e in ours.items() if n.startswith("extract/human.pass@"))
        == DRAWN
    )
    (pair,) = (c for c in card.comparisons if c.name == "extract/human.pass")
    assert (pair.status, pair.pairs) == ("compared", DRAWN)

    # By hand, from the files alone: an item passes where the mean of both ratings is at least 4.
    key = json.loads((folder / f"reports/{run_of(folder).name}-review/review.json").read_text())
    ratings: dict = {}
    for line in ann.read_text().splitlines():
        ratings[json.loads(line)["item"]] = [json.loads(line)["rating"]]
    for row in csv.DictReader(bob.read_text().splitlines()):
        ratings[row["item"]].append(int(row["rating"]))
    passed = [sum(ratings[a["item"]]) >= 8 for a in key["answers"] if "candidate" in a["models"]]
    assert found.value == pytest.approx(sum(passed) / DRAWN)


def test_gate_and_compare_on_the_reviewed_run_keep_what_people_said(folder):
    export(folder, "--n", str(DRAWN))
    ann, bob, _ = label_files(folder)
    import_(folder, ann, bob)
    name = f"{run_of(folder).name}-reviewed"
    reviewed = folder / "reports" / name
    first = json.loads((reviewed / "verdict.json").read_text())
    code, out, err = command("gate", name, "people.yaml", "--write", cwd=folder)
    assert (code, err) == (0, "")
    assert json.loads((reviewed / "verdict.json").read_text()) == first
    assert "few-broken" in out, "the rule that reads samples has them"
    code, out, err = command("compare", name, "--metric", "extract/human.pass", cwd=folder)
    assert code == 0, err
    assert "Flips of extract/human.pass" in out
    again = open_run(name, folder / "reports").scores("extract/human.pass")
    assert len(again) == DRAWN
    code, out, err = command("compare", name, cwd=folder)
    assert code == 0, err
    (differences,) = re.findall(r"Differences,.*?Flips", out, re.DOTALL)
    assert re.search(rf"human\.pass .* {DRAWN} ", differences)
    assert re.search(rf"exact_match .* {LIMIT} ", differences)
    code, out, _ = command("compare", run_of(folder).name, name, cwd=folder)
    assert code == 0 and "human" in out


def test_labels_changed_after_the_import_are_refused(folder):
    export(folder, "--n", str(DRAWN))
    ann, bob, _ = label_files(folder)
    import_(folder, ann, bob)
    name = f"{run_of(folder).name}-reviewed"
    file = folder / "reports" / name / "labels.jsonl"
    file.write_text(file.read_text().replace('"ann": 2', '"ann": 5'))
    code, _, err = command("compare", name, cwd=folder)
    assert code == 2 and "the labels were changed" in err


def test_conflicts_are_listed_and_an_adjudicator_ends_them(folder):
    export(folder, "--n", str(DRAWN))
    ann, bob, items = label_files(folder)
    code, out, _ = import_(folder, ann, bob)
    where = folder / f"reports/{run_of(folder).name}-review"
    with (where / "conflicts.csv").open(encoding="utf-8-sig", newline="") as file:
        head, *rows = csv.reader(file)
    expected = -(-items // SLIP)
    assert len(rows) == expected and f"{expected} items on which annotators disagree" in out
    assert "candidate" not in (where / "conflicts.csv").read_text()
    for row in rows:
        row[head.index("rating")] = row[head.index("rating by ann")]
    settled = folder / "settled.csv"
    with settled.open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    code, out, err = import_(folder, ann, bob, "--adjudicated", settled)
    assert code == 0, err
    assert "annotators disagree" not in out
    card = read_scorecard(run_of(folder).with_name(run_of(folder).name + "-reviewed"))
    values = {e.name: e.value for e in card.estimates if e.model == "candidate"}
    right = json.loads((where / "review.json").read_text())["answers"]
    truth = {json.loads(x)["item"]: json.loads(x)["rating"] for x in ann.read_text().splitlines()}
    ours = [truth[a["item"]] >= 4 for a in right if "candidate" in a["models"]]
    assert values["extract/human.pass"] == pytest.approx(sum(ours) / len(ours))


def test_what_an_adjudicator_filled_in_outlives_every_import(folder):
    export(folder, "--n", str(DRAWN))
    ann, bob, _ = label_files(folder)
    import_(folder, ann, bob)
    file = folder / f"reports/{run_of(folder).name}-review" / "conflicts.csv"
    with file.open(encoding="utf-8-sig", newline="") as held:
        head, *rows = csv.reader(held)
    for row in rows[1:]:
        row[head.index("rating")] = row[head.index("rating by ann")]
    with file.open("w", newline="") as out:
        csv.writer(out).writerows([head, *rows])
    first = import_(folder, ann, bob, "--adjudicated", file)
    again = import_(folder, ann, bob, "--adjudicated", file)
    assert "1 items on which" in first[1] and first[:2] == again[:2]
    forgotten = import_(folder, ann, bob)
    assert f"{len(rows)} items on which annotators disagree" in forgotten[1]
    with file.open(encoding="utf-8-sig", newline="") as held:
        assert sorted(csv.reader(held)) == sorted([head, *rows])


def test_a_ratings_number_below_zero_is_a_number_in_the_sheet_of_conflicts(tmp_path):
    file = tmp_path / "conflicts.csv"
    file.write_text("review,item,rating,annotator,rating by ann\nr1,i1,-1,eve,-2\n")
    review = SimpleNamespace(id="r1")
    assert write_conflicts(tmp_path, review, [], {}) == file
    (label,) = read_labels([file])
    assert (label.item, label.rating, label.annotator) == ("i1", "-1", "eve")
    write_conflicts(tmp_path, SimpleNamespace(id="another"), [], {})
    assert read_labels([file]) == []


def test_the_next_command_names_the_folder_only_where_it_is_another(folder, tmp_path):
    _, out, _ = export(folder, "--n", "5")
    assert "LABELS..." in out and "--review" not in out
    _, out, _ = export(folder, "--n", "5", "--out", tmp_path / "elsewhere")
    assert f"--review {tmp_path / 'elsewhere'}" in out


def test_every_fault_in_the_label_files_is_told_at_once(folder):
    export(folder, "--n", "20")
    ann, bob, _ = label_files(folder)
    rows = ann.read_text().splitlines()
    first = json.loads(rows[0])
    rows += [
        json.dumps({**first, "rating": 3}),
        json.dumps({**first, "annotator": "cat", "rating": 6}),
        json.dumps({**first, "item": "nothing"}),
        json.dumps({**first, "review": "another"}),
    ]
    ann.write_text("\n".join(rows))
    code, out, err = import_(folder, ann, bob)
    assert (code, out) == (2, "")
    last = len(rows)
    assert re.findall(r"ann\.jsonl:(\d+)", err.split("problems found")[1])[0] == str(last - 3)
    assert all(f"ann.jsonl:{line}: " in err for line in range(last - 3, last + 1))
    assert not run_of(folder).with_name(run_of(folder).name + "-reviewed").exists()


def test_unrated_answers_stay_in_the_counts_and_too_few_ratings_fail_labelled(folder):
    export(folder, "--n", str(DRAWN))
    ann, bob, _ = label_files(folder, skip=20)
    code, out, _ = import_(folder, ann, bob)
    assert code == 1
    card = read_scorecard(run_of(folder).with_name(run_of(folder).name + "-reviewed"))
    counts = next(e.counts for e in card.estimates if e.metric == "human.pass")
    assert counts.planned == DRAWN
    assert 0 < counts.unscored == DRAWN - counts.scored
    assert "fewer than 40" in " ".join(out.split())


def test_ratings_of_samples_picked_for_reading_become_no_estimates(folder):
    code, out, err = export(folder, "--draw", "flips", "--out", "picked")
    assert code == 0, err
    assert "for reading" in out
    ann, bob, _ = label_files(folder, folder / "picked")
    code, out, err = import_(folder, ann, bob, "--review", "picked")
    assert code == 0, err
    assert "no estimate is made" in out and "Krippendorff" in out
    assert not run_of(folder).with_name(run_of(folder).name + "-reviewed").exists()


def test_a_draw_that_finds_nothing_says_so_and_writes_nothing(folder):
    """On each of these samples the candidate is wholly right: its metrics agree."""
    code, _, err = export(folder, "--draw", "disagreement", "--out", "picked")
    assert code == 2 and "finds no sample" in err
    assert not (folder / "picked").exists()


def test_where_the_suites_gates_are_not_found_they_must_be_named(folder, tmp_path):
    export(folder, "--n", str(DRAWN))
    ann, bob, _ = label_files(folder)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    arguments = ("review", "import", run_of(folder), ann, bob)
    code, _, err = command(*arguments, cwd=elsewhere)
    assert code == 2 and "people.yaml" in err and "--gate" in err
    (elsewhere / "mine.yaml").write_text(
        "gate: mine\nrules: [{id: a, estimate: extract/human.pass, require: at_least, value: 0.999}]\n"
    )
    code, out, _ = command(*arguments, "--gate", "mine.yaml", cwd=elsewhere)
    assert code in (1, 4) and "people-agree" not in out


def test_labels_of_another_runs_review_are_refused(folder):
    export(folder, "--n", "20", "--out", "mine")
    key = folder / "mine/review.json"
    key.write_text(key.read_text().replace(read_scorecard(run_of(folder)).digest, "0" * 64))
    ann, bob, _ = label_files(folder, folder / "mine")
    code, _, err = import_(folder, ann, bob, "--review", "mine")
    assert code == 2 and "another run" in err


def test_a_reviewed_run_is_not_reviewed_again(folder):
    export(folder, "--n", "20")
    ann, bob, _ = label_files(folder)
    import_(folder, ann, bob)
    name = f"{run_of(folder).name}-reviewed"
    code, _, err = command("review", "import", name, ann, cwd=folder)
    assert code == 2 and "ratings already" in err


def test_a_reviewed_run_serves_as_baseline_without_its_ratings(folder):
    """The ratings are of another draw and other answers: they say nothing of the new candidate's."""
    export(folder, "--n", "20")
    ann, bob, _ = label_files(folder)
    import_(folder, ann, bob)
    name = f"{run_of(folder).name}-reviewed"
    ran = evalkit(
        "run", "suite.yaml", "--backend", "transformers", "--limit", str(LIMIT), "--quiet",
        "--baseline", f"reports/{name}", cwd=folder,
    )  # fmt: skip
    assert ran.code == 4, ran.err
    (new,) = (
        p for p in folder.glob("reports/people-*") if "review" not in p.name and p != run_of_first(folder, name)
    )  # fmt: skip
    card = read_scorecard(new)
    assert card.baseline_run and not [e for e in card.estimates if e.metric.startswith("human")]


def run_of_first(folder, reviewed):
    return folder / "reports" / reviewed.removesuffix("-reviewed")


def test_answers_rated_in_a_browser_are_imported_with_the_agreement(folder):
    """One annotator sits at the page, twenty answers by keyboard and a reload midway; the other is a script."""
    export(folder, "--n", "20", "--candidate-only")
    where = folder / f"reports/{run_of(folder).name}-review"
    ann, bob, items = label_files(folder)
    assert items == 20
    ratings = [json.loads(line)["rating"] for line in ann.read_text().splitlines()]
    with chromium() as browser:
        page = browser.new_context(accept_downloads=True).new_page()
        page.goto((where / "review.html").as_uri())
        page.fill("#name", "ann")
        page.keyboard.press("Enter")
        for n, rating in enumerate(ratings):
            if n == 10:
                page.reload()
            page.keyboard.press(str(rating))
            page.keyboard.press("ArrowRight")
        page.click("#export")
        with page.expect_download() as waiting:
            page.click("#download")
        waiting.value.save_as(folder / "from-page.jsonl")
    code, out, err = import_(folder, "from-page.jsonl", bob)
    assert code in (1, 4), err  # twenty ratings are fewer than the gate asks for
    assert "20 of 20 items rated (ann 20, bob 20)" in out
    assert re.search(r"Krippendorff's alpha \(ordinal\) +−?[01]\.\d+", out)
    by_hand = import_(folder, ann, bob)[1]
    assert by_hand.split("Scorecard")[0] == out.split("Scorecard")[0]


def test_wishes_that_cannot_be_fulfilled_are_told(folder):
    code, _, err = export(folder, "--task", "extrakt")
    assert code == 2 and "did you mean 'extract'?" in err
    code, _, err = import_(folder, "people.yaml", "--review", "nowhere")
    assert code == 2 and "evalkit review export RUN" in err


def test_a_question_put_in_after_the_run_is_refused(folder):
    suite = run_of(folder) / "suite.json"
    suite.write_text(suite.read_text().replace("Is the order right?", "Is it right?"))
    code, _, err = export(folder)
    assert code == 2 and "changed after it was written" in err


def test_a_suite_that_asks_people_nothing_says_what_to_add(folder):
    suite = folder / "suite.yaml"
    kept = [
        line
        for line in suite.read_text().splitlines()
        if not re.match(r" *(review|gates):|gates", line)
    ]
    suite.write_text("\n".join(kept))
    shutil.rmtree(run_of(folder))
    ran = evalkit(
        "run", "suite.yaml", "--backend", "transformers", "--limit", str(LIMIT), "--quiet", cwd=folder
    )  # fmt: skip
    assert ran.code == 4, ran.err
    code, _, err = export(folder)
    assert code == 2 and "review: {scale: [1, 5], pass_at: 4}" in err
