"""A verdict that says pass is believed only where its outcomes and its scorecard let it: nobody writes one by hand."""

from __future__ import annotations

from datetime import date

import pytest
from signed_runs import MARA, NOW, outcome, scorecard, sign, verdict, waived, write_run

from evalkit.records.scorecard import TaskTally
from evalkit.records.suite import WaiverSpec
from evalkit.signing import Policy, open_envelope, run_objections, verified
from evalkit.store.attestations import read_attestations, read_state

BY_HAND = "it was changed by hand"
LAST_DAY = date(2999, 12, 31)


def tally(**changes):
    held = {"model": "candidate", "task": "extract", "kind": "generate", "dataset": "d" * 64}
    return TaskTally(**{**held, "planned": 8, "requests": 8, **changes})


def of_another_rule():
    other = WaiverSpec(rule="speed", owner="mara", reason="another matter", expires=LAST_DAY)
    return waived(LAST_DAY).model_copy(update={"waiver": other})


def of_another_slice():
    waiver = waived(LAST_DAY).waiver.model_copy(update={"slice": "region=eu"})
    return waived(LAST_DAY).model_copy(update={"waiver": waiver})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"outcomes": ()}, "it has no outcomes"),
        ({"gates": {}}, "no gate is named in it"),
        ({"exit_code": 1}, "its exit code is 1"),
        ({"exit_code": 4}, "its exit code is 4"),
        ({"outcomes": (outcome(status="fail"),)}, "level on extract/exact_match did not"),
        ({"outcomes": (outcome(status="missing"),)}, "level on extract/exact_match did not"),
        ({"outcomes": (outcome(status="incomparable"),)}, "level on extract/exact_match did not"),
        (
            {"outcomes": (outcome(), outcome(gate="other"), outcome(gate="another"))},
            "it has outcomes of gates that it does not name (another, other)",
        ),
        ({"outcomes": (of_another_rule(),)}, "fair on extract/exact_match did not"),
        ({"outcomes": (of_another_slice(),)}, "fair on extract/exact_match did not"),
    ],
)
def test_a_verdict_that_contradicts_itself_is_believed_of_nobody(tmp_path, changes, told):
    card = scorecard()
    made = write_run(tmp_path, card, verdict(card).model_copy(update=changes))
    expected = [("verdict", f"the verdict says pass, but {told}: {BY_HAND}")]
    assert refused(made) == expected
    assert not_verified(made) == expected


def test_a_run_with_an_incomplete_task_did_not_pass(tmp_path):
    tasks = (tally(complete=False), tally(model="baseline", complete=False), tally(task="chat"))
    made = write_run(tmp_path, card := scorecard(tasks=tasks), verdict(card))
    told = f"the verdict says pass, but the run is incomplete (extract): {BY_HAND}"
    assert refused(made) == not_verified(made) == [("verdict", told)]


def test_what_counts_as_waived_needs_a_waiver(tmp_path):
    card = scorecard()
    bare = outcome(rule="fair", status="fail", counts_as="waived")
    made = write_run(tmp_path, card, verdict(card, [outcome(), bare]))
    told = "fair on extract/exact_match counts as waived, but no waiver is named"
    assert refused(made) == not_verified(made) == [("altered", told)]


@pytest.mark.parametrize(
    "let",
    [
        outcome(status="fail", p_broken=0.04, p_adjusted=0.12),  # Holm's adjustment
        outcome(status="inconclusive"),  # on_inconclusive: pass
        waived(LAST_DAY),
    ],
)
def test_what_a_gate_may_let_pass_is_let_pass(tmp_path, let):
    card = scorecard(tasks=(tally(),))
    made = write_run(tmp_path, card, verdict(card, [let]))
    assert refused(made) == not_verified(made) == []


def refused(made):
    """What 'evalkit sign' has against a run."""
    return [(o.kind, o.message) for o in run_objections(read_state(made.run), NOW.date())]


def not_verified(made):
    """What 'evalkit verify' has against it once somebody who is trusted has signed it all the same."""
    sign(made.run)
    held = read_attestations(made.run).envelopes
    opened = [open_envelope(each, [MARA.public]) for each in held]
    answer = verified(opened, read_state(made.run), None, Policy(NOW))
    assert answer.approvals, "the signature itself is good"
    return [(o.kind, o.message) for o in answer.objections]
