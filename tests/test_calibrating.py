"""A model against itself: noise floors equal other programs' numbers, alarms are counted pair by pair."""

from __future__ import annotations

import math
import statistics
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from evalkit.calibrating import (
    AnswerPrints,
    Repetition,
    answer_noise,
    calibrate,
    repetition_digest,
    rule_alarms,
    verdict_alarms,
)
from evalkit.errors import UsageError
from evalkit.metrics.base import corpus, mean, rate, ratio
from evalkit.records.scorecard import Circumstances, Comparison, ModelRecord, Provenance, TaskTally
from evalkit.records.suite import GateSpec, RuleSpec
from evalkit.records.verdict import Outcome, Verdict
from evalkit.reports.calibration import noise_note, sentences, why_unfit
from evalkit.scoring import MetricTable
from evalkit.store.calibrations import kept_salt, read_calibration, write_calibration

MEASURES = (
    rate("valid", column=0),
    mean("score", column=1),
    corpus("micro", lambda s, n: ratio(s[..., 1], s[..., 2]), unit="fraction"),
)
N = 40
PROVENANCE = Provenance(
    suite="orders",
    suite_version=1,
    suite_digest="0" * 64,
    models={"baseline": ModelRecord(digest="m" * 64, pinned=True, files={}, engine={})},
    datasets={"extract": "d" * 64},
    seed=0,
    versions={},
)
CIRCUMSTANCES = Circumstances(
    started="2026-01-01T00:00:00Z",
    finished="2026-01-01T00:00:01Z",
    command=("evalkit",),
    git_commit=None,
    hardware={},
    host={},
    asked=0,
    reused=0,
    seconds=1.0,
)


def tally(planned, scored, model="baseline"):
    return TaskTally(
        model=model,
        task="extract",
        kind="generate",
        dataset="d" * 64,
        planned=planned,
        requests=planned,
        complete=scored >= 0.95 * planned,
    )


def repetition(stats, ids=None, planned=None, prints=()):
    """A task whose even samples lie in ``region=eu``, the odd ones in ``region=us``."""
    stats = np.asarray(stats, dtype=float)
    ids = list(range(len(stats))) if ids is None else list(ids)
    planned = len(stats) if planned is None else planned
    missing = [i for i in range(planned) if i not in ids]
    regions, lost = (["us" if i % 2 else "eu" for i in numbers] for numbers in (ids, missing))
    whole = {None: planned, "region=eu": (planned + 1) // 2, "region=us": planned // 2}
    table = MetricTable(
        task="extract",
        metric="json",
        signature="json|v:1|task:abc",
        dataset="d" * 64,
        measures=MEASURES,
        sample_ids=[f"s{i:03d}" for i in ids],
        stats_NK=stats,
        binary=True,
        clusters=None,
        attributes={"region": regions},
        planned=whole,
        completed=whole,
        missing_ids=[f"s{i:03d}" for i in missing],
        missing_attributes={"region": lost},
    )
    return Repetition([table], [tally(planned, len(stats))], {"extract": list(prints)})


def noisy(seed, n=N, flips=0.1, repetitions=4):
    """One model's scores, and repetitions in which a share of them changes."""
    rng = np.random.default_rng(seed)
    right, hits = rng.random(n) < 0.8, rng.binomial(10, 0.8, n).astype(float)
    for _ in range(repetitions):
        changed = rng.random(n) < flips
        yield np.column_stack(
            [right ^ changed, np.where(changed, rng.random(n), hits / 10), np.full(n, 10.0)]
        )


def calibrated(stats, gates=(), **changes):
    repetitions = [repetition(each, **changes) for each in stats]
    return calibrate(repetitions, gates, PROVENANCE, CIRCUMSTANCES, 0.95)


def floors(calibration):
    return {(floor.metric, floor.slice): floor for floor in calibration.estimates}


NO_WORSE = GateSpec(
    gate="strict",
    rules=(
        RuleSpec(
            id="no-worse",
            estimate="extract/json.valid",
            require="no_worse_than",
            options={"margin": 0.02},
        ),
        RuleSpec(
            id="half-right",
            estimate="extract/json.valid",
            require="at_least",
            options={"value": 0.3},
        ),
        RuleSpec(
            id="perfect",
            estimate="extract/json.valid*",
            require="at_least",
            options={"value": 0.9999},
            severity="warn",
        ),
    ),
)


# -- the noise floor -------------------------------------------------------------------------------


def test_an_engine_that_repeats_itself_has_no_noise_and_no_flips():
    (same,) = noisy(0, repetitions=1)
    found = calibrated([same, same, same], [NO_WORSE])
    for floor in found.estimates:
        assert floor.range == 0 and floor.sd == 0, "exactly, not but for rounding"
        assert len(set(floor.values)) == 1
        if floor.kind != "corpus":
            assert floor.discordance == 0 and floor.difference_sd == 0
    assert found.verdicts is not None and found.verdicts.flips == 0
    assert len({(r.passed, r.failed, r.undecided) for r in found.rules}) <= 3
    assert all(max(r.passed, r.failed, r.undecided) == found.pairs == 6 for r in found.rules), (
        "every pair gives the same answer"
    )


def test_noise_floors_equal_what_scipy_and_the_statistics_module_say():
    stats = list(noisy(1))
    found = floors(calibrated(stats))
    for slice_, rows in ((None, slice(None)), ("region=eu", slice(0, None, 2))):
        for column, metric in ((0, "json.valid"), (1, "json.score")):
            floor = found[metric, slice_]
            scores = np.array([each[rows, column] for each in stats])
            values = [float(np.mean(row)) for row in scores]
            assert floor.values == pytest.approx(values)
            assert floor.value == pytest.approx(statistics.fmean(values))
            assert floor.sd == pytest.approx(statistics.stdev(values))
            assert floor.range == pytest.approx(max(values) - min(values))
            assert floor.discordance == pytest.approx(pdist(scores, "hamming").mean())
            differences = [(a - b).tolist() for a, b in combinations(scores, 2)]
            assert floor.difference_sd == pytest.approx(
                math.sqrt(statistics.fmean(map(statistics.variance, differences)))
            )
            assert floor.score_sd == pytest.approx(
                math.sqrt(statistics.fmean(map(statistics.variance, scores.tolist())))
            )
    micro = found["json.micro", None]
    assert micro.values == pytest.approx([s[:, 1].sum() / s[:, 2].sum() for s in stats])
    assert (micro.discordance, micro.difference_sd, micro.score_sd) == (None, None, None)


def test_samples_are_paired_by_id_where_a_repetition_lacks_some():
    stats = next(noisy(2, repetitions=1))
    flipped = stats.copy()
    flipped[5, 0] = 1 - flipped[5, 0]
    kept = [i for i in range(N) if i != 3]
    found = calibrate(
        [repetition(stats), repetition(flipped[kept], ids=kept, planned=N)],
        [],
        PROVENANCE,
        CIRCUMSTANCES,
        0.95,
    )
    floor = floors(found)["json.valid", None]
    assert floor.samples == N
    assert floor.discordance == pytest.approx(1 / (N - 1)), "only samples that both scored"


def test_a_metric_that_scored_nothing_has_no_number():
    empty = np.empty((0, 3))
    found = calibrated([empty, empty], planned=10)
    for floor in found.estimates:
        held = (floor.value, floor.sd, floor.range, floor.discordance, floor.difference_sd)
        assert held == (None,) * 5
    assert found.incomplete == (1, 2)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.permutations(range(4)))
def test_the_order_of_repetitions_does_not_matter(seed, order):
    stats = list(noisy(seed))
    ours, theirs = calibrated(stats), calibrated([stats[i] for i in order])
    for one, other in zip(ours.estimates, theirs.estimates, strict=True):
        assert sorted(one.values) == sorted(other.values)
        assert one.range == other.range
        assert one.discordance == pytest.approx(other.discordance)
        assert one.difference_sd == pytest.approx(other.difference_sd)


# -- answers ---------------------------------------------------------------------------------------


def test_answers_are_compared_text_by_text_and_failures_are_no_difference():
    texts = [["a", "b", "c", "d"], ["a", "B", "c", "d"], ["a", "B", "C", None]]
    prints = []
    for said in texts:
        take = AnswerPrints()
        for number, text in enumerate(said):
            answer = {"failed": "timeout"} if text is None else {"text": text}
            take({"task": "t", "id": str(number), "answers": [answer]})
        prints.append(take.of_task)
    (found,) = answer_noise(prints)
    assert found.samples == 4, "the fourth was answered twice"
    assert found.differing == pytest.approx((1 / 4 + 2 / 3 + 1 / 3) / 3)
    assert found.unstable == pytest.approx(2 / 4)


def test_log_probabilities_and_replicates_are_answers_too():
    def row(*answers):
        take = AnswerPrints()
        take({"task": "t", "id": "1", "answers": list(answers)})
        return take.of_task["t"][0]

    assert row({"logprob": -1.5, "tokens": 3}) != row({"logprob": -1.5000000001, "tokens": 3})
    assert row({"text": "a"}, {"text": "b"}) != row({"text": "b"}, {"text": "a"})
    assert row({"text": "a"}, {"failed": "timeout"}) == row() == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.sampled_from("ab"), min_size=5, max_size=5), min_size=2, max_size=6))
def test_the_share_of_answers_that_differ_is_the_mean_hamming_distance(said):
    prints = [{"t": [ord(text) for text in texts]} for texts in said]
    (found,) = answer_noise(prints)
    codes = np.array([each["t"] for each in prints], dtype=float)
    assert found.differing == pytest.approx(pdist(codes, "hamming").mean())
    assert found.unstable == pytest.approx((codes != codes[0]).any(axis=0).mean())


def test_nothing_answered_twice_gives_no_share():
    (found,) = answer_noise([{"t": [0, 5]}, {"t": [7, 0]}])
    assert (found.samples, found.differing, found.unstable) == (0, None, None)


# -- alarms ----------------------------------------------------------------------------------------


def test_every_ordered_pair_is_judged_as_a_run_of_its_own():
    # The third repetition got every second answer wrong: as a candidate it fails, as a baseline the others shine.
    right = np.column_stack([np.ones(N), np.ones(N), np.ones(N)])
    broken = right.copy()
    broken[::2, 0] = 0
    found = calibrated([right, right, broken], [NO_WORSE])
    strict, half, perfect = found.rules
    assert (strict.rule, strict.passed, strict.failed, strict.undecided) == ("no-worse", 2, 2, 2)
    assert (half.passed, half.failed) == (6, 0)
    assert (perfect.failed, perfect.undecided) == (2, 4), "a right model is not shown to be perfect"
    held = found.verdicts
    assert held is not None
    # Right against right is undecided at this n, broken against right fails, right against broken passes.
    assert (held.passed, held.failed, held.inconclusive, held.incomplete) == (2, 2, 2, 0)
    # Against each right baseline one candidate is undecided and one fails; against the broken one both pass.
    assert held.flips == pytest.approx((1 + 1 + 0) / 3)


def test_a_repetition_below_its_coverage_makes_its_pairs_incomplete():
    stats = next(noisy(0, repetitions=1))
    found = calibrate(
        [repetition(stats), repetition(stats), repetition(stats[:20], planned=N)],
        [NO_WORSE],
        PROVENANCE,
        CIRCUMSTANCES,
        0.95,
    )
    assert found.incomplete == (3,)
    assert found.verdicts is not None and found.verdicts.incomplete == 4
    assert any("repetition 3" in sentence for sentence in sentences(found))


def test_verdict_shares_and_flips_by_hand():
    statuses = dict.fromkeys(permutations(range(4), 2), "pass") | {
        (1, 0): "fail",
        (2, 3): "fail",
    }
    found = verdict_alarms(statuses, 0.95)
    assert (found.passed, found.failed) == (10, 2)
    # Against baseline 0 (and 3): fail, pass, pass gives 2 of 3 pairs that differ; against 1 and 2 none.
    assert found.flips == pytest.approx((2 / 3 + 0 + 0 + 2 / 3) / 4)
    # Wilson at 2 of 12, counted as K/2 = 2 trials: (p + z²/2n ± z·sqrt(p(1 − p)/n + z²/4n²))/(1 + z²/n).
    z, p, n = 1.959964, 2 / 12, 2
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    assert found.interval.low == pytest.approx(max(0.0, centre - half), abs=1e-6)
    assert found.interval.high == pytest.approx(centre + half, abs=1e-6)
    assert verdict_alarms({}, 0.95) is None
    assert verdict_alarms({(0, 1): "pass", (1, 0): "fail"}, 0.95).flips is None


def test_a_rule_passes_a_pair_only_where_everything_it_matches_does():
    def outcome(estimate, counts_as):
        return Outcome(
            gate="g",
            rule="r",
            estimate=estimate,
            status="pass",
            counts_as=counts_as,
            severity="block",
            observed=None,
            interval=None,
            required="≥ 1",
            reason="",
        )

    def verdict(*counted):
        outcomes = tuple(outcome(f"t/m{i}", each) for i, each in enumerate(counted))
        return Verdict(
            status="pass", exit_code=0, scorecard="", gates={}, reason="", outcomes=outcomes
        )

    (found,) = rule_alarms(
        [
            verdict("pass", "waived"),
            verdict("pass", "inconclusive"),
            verdict("inconclusive", "fail"),
            verdict("missing"),
        ]
    )
    assert (found.passed, found.failed, found.undecided) == (1, 1, 2)


@pytest.mark.slow
@pytest.mark.parametrize("count", [5, 10, 20])
@pytest.mark.parametrize(
    ("rule", "truth", "most"),
    [
        # The candidate is an odd one out in a tenth of repetitions, whatever the baseline: K independent trials.
        ("candidate alone", 0.10, 1.0),
        # Either is: as few as K/2 trials, where the interval is as wide as it must be.
        ("either of both", 1 - 0.9**2, 0.995),
    ],
    ids=["candidate", "either"],
)
def test_the_interval_of_the_false_alarm_rate_covers_it(count, rule, truth, most):
    rng = np.random.default_rng(count)
    covered = []
    for _ in range(2_000):
        odd = rng.random(count) < 0.1
        statuses = {
            (i, j): "fail" if odd[i] or (rule == "either of both" and odd[j]) else "pass"
            for i, j in permutations(range(count), 2)
        }
        found = verdict_alarms(statuses, 0.95).interval
        covered.append(found.low <= truth <= found.high)
    share = np.mean(covered)
    print(f"\n  K = {count}, {rule}, false-alarm rate {truth:.2f}: coverage {share:.3f}")
    # Six shares are all that five repetitions can give: Wilson's interval dips there, as over so few trials it does.
    assert 0.90 <= share <= most


# -- the record and its use ------------------------------------------------------------------------


def test_a_calibration_is_read_as_it_was_written_and_not_once_it_was_changed(tmp_path):
    found = calibrated(noisy(3), [NO_WORSE])
    file = write_calibration(tmp_path, found)
    assert file.parent == tmp_path / "calibrations"
    assert file.name == f"orders-{found.digest[:12]}.json"
    assert read_calibration(file) == found
    file.write_text(file.read_text().replace('"failed": 0', '"failed": 1', 1))
    with pytest.raises(UsageError, match="changed after it was written"):
        read_calibration(file)


def test_equal_inputs_give_equal_digests_whatever_the_time():
    later = CIRCUMSTANCES.model_copy(update={"started": "2027-01-01T00:00:00Z"})
    stats = list(noisy(4))
    made = [
        calibrate([repetition(s) for s in stats], [NO_WORSE], PROVENANCE, facts, 0.95)
        for facts in (CIRCUMSTANCES, later)
    ]
    assert made[0].digest == made[1].digest == made[0].computed_digest()


def test_the_salt_of_an_unpinned_model_lasts_until_a_calibration_is_finished(tmp_path):
    with pytest.raises(KeyboardInterrupt), kept_salt(tmp_path, "i" * 64) as first:
        raise KeyboardInterrupt
    with kept_salt(tmp_path, "i" * 64) as resumed:
        assert resumed == first
    with kept_salt(tmp_path, "i" * 64) as anew:
        assert anew != first


def test_each_repetition_has_an_identity_of_its_own():
    made = {repetition_digest(m, i, s) for m in "ab" for i in range(3) for s in ("", "x")}
    assert len(made) == 12


def comparison(difference, metric="json.valid"):
    return Comparison(
        task="extract", metric=metric, slice=None, status="compared", difference=difference
    )


def test_the_note_on_a_difference_names_the_noise_floor():
    base = np.column_stack([np.ones(250), np.ones(250), np.ones(250)])
    other = base.copy()
    other[0, 0] = 0
    found = calibrated([base, other, base])
    note = noise_note(found, comparison(-0.01))
    assert note == (
        "the baseline against itself differs by up to 0.004 on this metric (asked 3 times): "
        "a difference below that is the engine's"
    )
    assert "no larger than the engine's noise" in noise_note(found, comparison(0.002))
    assert "does not differ" in noise_note(found, comparison(0.1, metric="json.score"))
    assert noise_note(found, comparison(0.1, metric="unknown")) == ""
    assert noise_note(found, comparison(None)) == ""


def test_a_calibration_fits_only_runs_of_its_model_and_data():
    found = calibrated(noisy(5))
    assert why_unfit(found, PROVENANCE) == ""
    other = ModelRecord(digest="x" * 64, pinned=True, files={}, engine={})
    changed = PROVENANCE.model_copy(update={"models": {"baseline": other}})
    assert "another model" in why_unfit(found, changed)
    assert "no baseline" in why_unfit(found, PROVENANCE.model_copy(update={"models": {}}))
    elsewhere = PROVENANCE.model_copy(update={"datasets": {"extract": "e" * 64}})
    assert "other data" in why_unfit(found, elsewhere)
