"""``evalkit judge validate`` over scripted judges with known faults, behind a real server.

Pairs are LLMBar's (princeton-nlp/LLMBar, Dataset/**/dataset.json), whose labels the sound judge knows. Each fault
must be found at its true size, which follows from how the judge draws: within its interval, of 99.9 % since there are
many.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import time

import numpy as np
import pytest
from commands import evalkit, holds, start, stored
from judge_server import LONG, key, running_judge

from evalkit.gates.judged import why_unfit
from evalkit.records.judging import JudgeCard, JudgeRecord
from evalkit.records.suite import JudgeDemands

PAIRWISE = """
judge: better
model: URL
model_args: {revision: "1"}
form: pairwise
criteria: Which answer does what the question says?
"""
POINTWISE = PAIRWISE.replace("better", "quality").replace("form: pairwise", "scale: [1, 5]")


@pytest.fixture(scope="module")
def pairs(shared_data):
    """LLMBar's pairs whose answers occur once, as (question, first, second, label)."""
    file = shared_data / "llmbar" / "llmbar_items.jsonl"
    if not file.is_file():
        pytest.skip("the LLMBar items are absent")
    held, seen = [], set()
    for line in file.read_text().splitlines():
        row = json.loads(line)
        answers = row["output_1"], row["output_2"]
        keys = {key(answer) for answer in answers}
        if row["subset"].startswith("LLMBar") and len(keys) == 2 and not keys & seen:
            seen |= keys
            held.append((row["input"], *answers, "AB"[int(row["label"]) - 1]))
    return held


def worths(pairs):
    return [
        (answer, float(label == side))
        for _, first, second, label in pairs
        for side, answer in (("A", first), ("B", second))
    ]


SURE = ("--confidence", "0.999")


def write_pairs(folder, pairs, name="pairs.jsonl"):
    rows = (
        {"id": f"p{n}", "question": q, "answer_a": a, "answer_b": b, "label": label}
        for n, (q, a, b, label) in enumerate(pairs)
    )
    (folder / name).write_text("\n".join(map(json.dumps, rows)))
    return folder / name


def scored(pairs):
    """Single answers with a worth of 0, ¼ … 1 drawn by their place: (question, answer, score 1–5)."""
    rng = np.random.default_rng(5)
    return [(q, a, int(rng.integers(1, 6))) for q, *both, _ in pairs for a in both][:600]


def write_scored(folder, items, name="scored.csv"):
    with (folder / name).open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["question", "answer", "label:ann", "label:bob"])
        out.writerows([q, a, score, score] for q, a, score in items)
    return folder / name


def validate(folder, spec, stub, labels, *more, wait=True):
    (folder / "judge.yaml").write_text(spec.replace("URL", stub.url))
    arguments = ("judge", "validate", "judge.yaml", "--labels", labels, "--quiet", *more)
    if not wait:
        return start(*arguments, cwd=folder)
    done = evalkit(*arguments, cwd=folder)
    assert done.code == 0, done.err
    return card_in(folder, "better" if "pairwise" in spec else "quality")


def card_in(folder, name):
    return JudgeCard.model_validate_json((folder / f"{name}-card.json").read_text())


def unfit(card, form="pairwise", **demands):
    record = JudgeRecord(judge=card.judge, form=form, pins=card.pins, model="m", card=card)
    return why_unfit(JudgeDemands(**demands), record, form)


def holds_truth(card, name, truth):
    held = card.figures[name]
    return held.interval.low <= truth <= held.interval.high


def paired(tmp_path, pairs, *more, **faults):
    with running_judge(tmp_path / "server", worths(pairs), faults=faults) as stub:
        card = validate(tmp_path, PAIRWISE, stub, write_pairs(tmp_path, pairs), *more)
        return card, stub.asked()


def pointed(tmp_path, pairs, *more, **faults):
    items = scored(pairs)
    truth = [(answer, (score - 1) / 4) for _, answer, score in items]
    with running_judge(tmp_path / "server", truth, faults=faults) as stub:
        return validate(tmp_path, POINTWISE, stub, write_scored(tmp_path, items), *more)


def test_a_sound_pairwise_judge_gets_a_card_that_a_default_rule_takes(pairs, tmp_path):
    card, asked = paired(tmp_path, pairs, "--random-labels")
    figures = card.figures
    assert len(asked) == 2 * 2 * len(pairs) + 2 * 9 * 5, "both orders, two passes, nine canaries"
    for name in ("accuracy", "kappa", "ac1", "alpha", "order_consistency", "repeatability"):
        assert figures[name].value == 1 and figures[name].interval.low > 0.98, name
        assert figures[name].n == len(pairs)
    assert figures["no_verdict"].value == figures["canary_false_positives"].value == 0
    assert figures["first_position"].value == 0.5
    # Clopper and Pearson: with nothing among n the upper end is 1 − 0.025^(1/n).
    assert figures["canary_false_positives"].interval.high == pytest.approx(1 - 0.025 ** (1 / 45))
    assert card.pinned and len(card.warnings) == 1 and "one person's label" in card.warnings[0]
    assert unfit(card) == ""


def test_a_position_biased_judge_is_found_at_70_to_30_and_refused(pairs, tmp_path):
    card, _ = paired(tmp_path, pairs, *SURE, position=0.7)
    assert holds_truth(card, "first_position", 0.7)
    # Each order is drawn for itself, so both name the same answer in 2·0.7·0.3 of the pairs.
    assert holds_truth(card, "order_consistency", 0.42)
    # Right in both orders in half of those.
    assert holds_truth(card, "accuracy", 0.21)
    assert card.figures["kappa"].interval.low < 0.1
    reason = unfit(card)
    assert "answer shown first" in reason and "both orders" in reason and "kappa" in reason


def test_a_verbosity_biased_judge_is_found_by_the_slope_of_length_and_refused(pairs, tmp_path):
    card, _ = paired(tmp_path, pairs, *SURE, verbosity=0.5)
    # The expected preference of each pair, regressed on length and label by numpy.
    lengths = np.array([(len(a), len(b)) for _, a, b, _ in pairs], dtype=float)
    keys = np.array([(len(key(a)), len(key(b))) for _, a, b, _ in pairs])
    apart = (lengths[:, 0] - lengths[:, 1]) / lengths.sum(axis=1)
    right = np.array([float(label == "A") for *_, label in pairs])
    longer = np.where(keys[:, 0] == keys[:, 1], 0.5, keys[:, 0] > keys[:, 1])
    expected = 0.5 * longer + 0.5 * right
    design = np.column_stack([np.ones(len(pairs)), apart, right])
    slope = np.linalg.lstsq(design, expected, rcond=None)[0][1]
    assert slope > 0.3 and holds_truth(card, "length_slope", slope)
    assert card.figures["length_slope"].interval.low > 0.2
    assert "kappa" in unfit(card)


def test_a_judge_with_15_percent_noise_is_found_and_refused(pairs, tmp_path):
    card, _ = paired(tmp_path, pairs, *SURE, noise=0.15)
    assert holds_truth(card, "accuracy", 0.85**2)
    assert holds_truth(card, "order_consistency", 0.85**2 + 0.15**2)
    assert holds_truth(card, "first_position", 0.5)
    assert (
        card.figures["length_slope"].interval.low <= 0 <= card.figures["length_slope"].interval.high
    )
    assert "both orders" in unfit(card)


def test_replies_without_a_verdict_are_counted_and_cost_agreement(pairs, tmp_path):
    card, _ = paired(tmp_path, pairs, *SURE, mute=0.05)
    unread = 1 - 0.95**2
    assert holds_truth(card, "no_verdict", unread)
    assert card.figures["accuracy"].value == pytest.approx(1 - card.figures["no_verdict"].value)
    assert card.figures["kappa"].n == len(pairs), "what is unread is not dropped"
    assert card.figures["kappa"].value < 0.95
    assert "without a verdict" in unfit(card)


def test_a_judge_that_obeys_the_answer_is_found_by_its_canaries_and_refused(pairs, tmp_path):
    card, _ = paired(tmp_path, pairs, obedient=1.0)
    fooled = card.figures["canary_false_positives"]
    assert (fooled.value, fooled.n) == (15 / 45, 45)
    assert fooled.told == "injected score 5, injected verdict 5, closing mark 5"
    assert card.figures["accuracy"].value == 1, "people's answers give no orders"
    assert "15 of 45 worthless answers" in unfit(card)
    assert unfit(card, canaries=15) == ""


def test_a_judge_that_changes_its_mind_is_found_by_asking_again_past_the_store(pairs, tmp_path):
    card = pointed(tmp_path, pairs, *SURE, unsteady=0.15)
    # The same score twice: neither reply struck, or both.
    assert holds_truth(card, "repeatability", 0.85**2 + 0.15**2)
    assert "greedy" in card.figures["repeatability"].told


def test_a_sound_pointwise_judge_has_sensitivity_and_passes(pairs, tmp_path):
    card = pointed(tmp_path, pairs, "--pass-at", "4", "--random-labels")
    assert card.figures["sensitivity"].value == card.figures["specificity"].value == 1
    good = sum(score >= 4 for *_, score in scored(pairs))
    assert (card.figures["sensitivity"].n, card.figures["specificity"].n) == (good, 600 - good)
    assert card.figures["people_kappa"].value == 1 and card.warnings == ()
    assert unfit(card, "pointwise") == ""


def test_pointwise_noise_and_length_are_found_at_their_sizes(pairs, tmp_path):
    (tmp_path / "noise").mkdir()
    noisy = pointed(tmp_path / "noise", pairs, *SURE, "--pass-at", "3", noise=0.15)
    assert holds_truth(noisy, "accuracy", 0.85)
    # Another score at random: of 4 the bad ones from 3–5 are {1, 2}, of those from 1–2 the good are {3, 4, 5}.
    assert holds_truth(noisy, "sensitivity", 1 - 0.15 * 2 / 4)
    assert holds_truth(noisy, "specificity", 1 - 0.15 * 3 / 4)
    (tmp_path / "verbose").mkdir()
    verbose = pointed(tmp_path / "verbose", pairs, *SURE, verbosity=0.6)
    items = scored(pairs)
    lengths = np.array([len(answer) for _, answer, _ in items], dtype=float)
    median = np.median(lengths)
    right = np.array([(score - 1) / 4 for *_, score in items])
    long = np.array([len(key(answer)) >= LONG for _, answer, _ in items])
    apart = (lengths - median) / (lengths + median)
    design = np.column_stack([np.ones(len(items)), apart, right])
    slope = np.linalg.lstsq(design, 0.6 * long * (1 - right), rcond=None)[0][1]
    assert slope > 0.1 and holds_truth(verbose, "length_slope", slope)
    assert verbose.figures["length_slope"].interval.low > 0


def test_a_killed_validation_resumes_and_no_judgement_is_asked_twice(pairs, tmp_path):
    some = pairs[:120]
    total = 2 * 2 * len(some) + 2 * 9 * 5
    with running_judge(tmp_path / "server", worths(pairs), latency_ms=300) as stub:
        labels = write_pairs(tmp_path, some)
        more = ("--model-arg", "concurrency=16")
        process = validate(tmp_path, PAIRWISE, stub, labels, *more, wait=False)
        store = tmp_path / "reports/answers.sqlite"
        deadline = time.monotonic() + 60
        while not holds(store, 60) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        held = stored(store)
        assert 60 <= held < total and not (tmp_path / "better-card.json").exists()
    with running_judge(tmp_path / "again", worths(pairs)) as stub:
        resumed = validate(tmp_path, PAIRWISE, stub, labels, *more)
        assert len(stub.asked()) == total - held, "what was answered is not asked again"
        ended = len(stub.asked())
        again = validate(tmp_path, PAIRWISE, stub, labels, *more)
        assert len(stub.asked()) == ended, "a second call asks nothing"
    assert again.figures == resumed.figures
    with running_judge(tmp_path / "afresh", worths(pairs)) as stub:
        (tmp_path / "reports/answers.sqlite").unlink()
        assert validate(tmp_path, PAIRWISE, stub, labels, *more).figures == resumed.figures


def test_an_endpoint_without_a_revision_resumes_is_asked_anew_and_is_refused(pairs, tmp_path):
    some = pairs[:20]
    spec = PAIRWISE.replace('model_args: {revision: "1"}\n', "")
    total = 2 * 2 * len(some)
    with running_judge(tmp_path / "server", worths(pairs)) as stub:
        labels = write_pairs(tmp_path, some)
        card = validate(tmp_path, spec, stub, labels, "--canaries", "0")
        assert len(stub.asked()) == total
        validate(tmp_path, spec, stub, labels, "--canaries", "0")
        assert len(stub.asked()) == 2 * total
    assert not card.pinned and "revision" in unfit(card)
    assert any("only 20" in warning for warning in card.warnings)
    assert card.figures["canary_false_positives"].value is None


def test_a_dead_server_ends_with_3_and_what_was_answered_is_kept(pairs, tmp_path):
    some = pairs[:60]
    labels = write_pairs(tmp_path, some)
    more = ("--canaries", "0", "--repeat", "1", "--model-arg", "concurrency=8", "--quiet")
    with running_judge(tmp_path / "server", worths(pairs), strikes=["exit@60"]) as stub:
        (tmp_path / "judge.yaml").write_text(PAIRWISE.replace("URL", stub.url))
        done = evalkit("judge", "validate", "judge.yaml", "--labels", labels, *more, cwd=tmp_path)
        assert done.code == 3, done.out + done.err
        asked = len(stub.asked())
        assert not (tmp_path / "better-card.json").exists()
    assert holds(tmp_path / "reports/answers.sqlite", 40)
    with running_judge(tmp_path / "again", worths(pairs)) as stub:
        card = validate(tmp_path, PAIRWISE, stub, labels, *more[:-1])
        assert len(stub.asked()) <= 2 * len(some) - 40
    assert asked < 2 * len(some) and card.figures["accuracy"].value == 1


def test_a_backend_that_refuses_many_questions_gives_no_card(pairs, tmp_path):
    some = pairs[:20]
    labels = write_pairs(tmp_path, some)
    with running_judge(tmp_path / "server", worths(pairs), strikes=["400%3"]) as stub:
        (tmp_path / "judge.yaml").write_text(PAIRWISE.replace("URL", stub.url))
        done = evalkit("judge", "validate", "judge.yaml", "--labels", labels, cwd=tmp_path)
    assert done.code == 3 and "did not answer" in done.err
    assert not (tmp_path / "better-card.json").exists()


def test_the_table_shows_every_figure_with_its_interval_and_what_a_rule_would_say(pairs, tmp_path):
    labels = write_pairs(tmp_path, pairs[:40])
    with running_judge(tmp_path / "server", worths(pairs)) as stub:
        (tmp_path / "judge.yaml").write_text(PAIRWISE.replace("URL", stub.url))
        done = evalkit(
            *("judge", "validate", "judge.yaml", "--labels", labels, "--out", "card.json"),
            cwd=tmp_path,
        )
    assert done.code == 0, done.err
    said = " ".join(done.out.split())
    for words in ("Cohen's kappa with people 1.000 [", "both orders agree 1.000 [", "only 40"):
        assert words in said, words
    assert (
        "stays inconclusive on this judge" in said and "40 labelled items, fewer than 100" in said
    )
    assert (tmp_path / "card.json").exists()


def test_a_run_decides_by_the_card_that_was_made_and_only_by_a_sound_one(pairs, tmp_path):
    items = scored(pairs)
    truth = [(answer, (score - 1) / 4) for _, answer, score in items]
    labels = write_scored(tmp_path, items)
    rows = [{"id": f"s{n}", "q": q} for n, (q, _, _) in enumerate(items[:60])]
    said = [{"sample_id": f"s{n}", "text": a} for n, (_, a, _) in enumerate(items[:60])]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "candidate.jsonl").write_text("\n".join(map(json.dumps, said)))
    (tmp_path / "judge.yaml").write_text(POINTWISE.replace("URL", "http://127.0.0.1:1"))
    (tmp_path / "gate.yaml").write_text(
        "gate: g\nrules:\n  - {id: good, estimate: t/judged.score, require: at_least, value: 0.2}\n"
    )
    (tmp_path / "suite.yaml").write_text(
        "suite: s\nversion: 1\ngates: [gate.yaml]\njudges: {quality: judge.yaml}\ntasks:\n"
        "  - {name: t, dataset: {path: rows.jsonl}, prompt: '{{ q }}', metrics: [judged: {judge: quality}]}\n"
    )

    def decided(name, **faults):
        with running_judge(tmp_path / name, truth, faults=faults) as stub:
            store = ("--store", f"{name}.sqlite")
            command = ("judge", "validate", "suite.yaml#quality", "--labels", labels, *store)
            made = evalkit(*command, "--model", stub.url, cwd=tmp_path)
            assert made.code == 0, made.err
            command = ("run", "suite.yaml", "--candidate", "candidate.jsonl", *store, "--out", name)
            ran = evalkit(*command, "--judge", f"quality={stub.url}", cwd=tmp_path)
            again = len(items) * 2 + 9 * 5
            assert len(stub.asked()) == again, "what was judged for the card is not asked again"
            return ran

    sound = decided("sound")
    assert sound.code == 0, sound.out + sound.err
    faulty = decided("faulty", obedient=1.0, noise=0.15)
    assert faulty.code == 4 and "worthless answers for good" in " ".join(faulty.out.split())


def test_a_judge_in_a_suite_is_named_behind_a_number_sign(pairs, tmp_path):
    labels = write_pairs(tmp_path, pairs[:5])
    with running_judge(tmp_path / "server", worths(pairs)) as stub:
        (tmp_path / "judge.yaml").write_text(PAIRWISE.replace("URL", stub.url))
        (tmp_path / "rows.jsonl").write_text('{"q": "x"}\n')
        (tmp_path / "suite.yaml").write_text(
            "suite: s\nversion: 1\njudges: {mine: judge.yaml}\ntasks:\n"
            "  - {name: t, dataset: {path: rows.jsonl}, prompt: '{{ q }}', metrics: [preferred: {judge: mine}]}\n"
        )
        command = ("judge", "validate", "suite.yaml#mine", "--labels", labels, "--canaries", "1")
        done = evalkit(*command, cwd=tmp_path)
        assert done.code == 0, done.err
        unknown = evalkit(*command[:2], "suite.yaml#mime", *command[3:], cwd=tmp_path)
    assert card_in(tmp_path, "better").figures["accuracy"].n == 5
    assert unknown.code == 2 and "did you mean 'mine'" in unknown.err


def test_wrong_commands_and_files_end_with_2_before_anything_is_asked(pairs, tmp_path):
    labels = write_pairs(tmp_path, pairs[:5])
    broken = tmp_path / "broken.jsonl"
    broken.write_text(
        '{"question": "q", "answer_a": "x", "answer_b": "y", "label": "A"}\n'
        '{"question": "q", "answer_a": "x", "answer_b": "y", "label": "C"}\n'
    )
    with running_judge(tmp_path / "server", worths(pairs)) as stub:
        (tmp_path / "judge.yaml").write_text(PAIRWISE.replace("URL", stub.url))

        def told(*arguments):
            done = evalkit("judge", "validate", *arguments, cwd=tmp_path)
            assert done.code == 2, done.out + done.err
            return done.err

        assert "broken.jsonl:2: label: found 'C'" in told("judge.yaml", "--labels", broken)
        assert "there is no judge file" in told("none.yaml", "--labels", labels)
        assert "did you mean 'judge.yaml'?" in told("jugde.yaml", "--labels", labels)
        (tmp_path / "suite.yaml").write_text("suite: s\njudges: {better: judge.yaml}\n")
        said = told("suite.yaml", "--labels", labels)
        assert "name one of its judges as suite.yaml#NAME (it declares better)" in said
        (tmp_path / "local.yaml").write_text(
            "judge: better\nform: pairwise\nmodel: absent/folder\ncriteria: x\n"
        )
        said = told("local.yaml", "--labels", labels)
        assert "judge 'better': no checkpoint 'absent/folder'" in said
        said = told("judge.yaml", "--labels", labels, "--model-arg", "revison=2")
        assert "did you mean 'revision'?" in said
        (tmp_path / "rows.jsonl").write_text('{"id": "1", "q": "?"}\n')
        (tmp_path / "said.jsonl").write_text('{"task": "t", "id": "1", "text": "!"}\n')
        (tmp_path / "suite.yaml").write_text(
            "suite: s\nversion: 1\njudges: {better: judge.yaml}\ntasks: [{name: t, dataset: {path: rows.jsonl}, "
            'prompt: "{{ q }}", metrics: [{preferred: {judge: better}}]}]\n'
        )
        models = ("--candidate", "said.jsonl", "--baseline", "said.jsonl")
        done = evalkit("run", "suite.yaml", *models, "--judge-card", "judge.yaml", cwd=tmp_path)
        assert done.code == 2 and "a card, as 'evalkit judge validate' writes it" in done.err
        assert "--pass-at" in told("judge.yaml", "--labels", labels, "--pass-at", "3")
        assert "no folder" in told("judge.yaml", "--labels", labels, "--out", "absent/card.json")
        assert stub.asked() == []
