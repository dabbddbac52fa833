"""Intervals and paired tests beside what people use: scipy, sacrebleu, lm-eval and statsmodels, as ratios.

    python benchmarks/statistics.py
    python benchmarks/statistics.py --only paired

Each row runs in a process of its own, so that its peak memory is its own; the time is that of the statistics alone,
after imports and after the inputs were made. All rows of a part see the same numbers. What would take too long in full
runs a part of the work and is scaled up, which its row says.

1. ``mean``: 10,000 resamples of the mean of 10,000 values. (For means evalkit gives Student's t, and lm-eval a formula
   as well; this compares the bootstraps, which both use for other measures.)
2. ``bleu``: resamples of corpus BLEU over 10,000 sentences, from the same sufficient statistics where a program takes
   them; lm-eval tokenises and counts again in every resample.
3. ``paired``: two models, 100,000 samples, 50 metrics (20 rates, 20 means, 10 micro F1), over all samples and over 20
   slices: difference, interval and p-value of each. Goal: under 10 s and 1 GiB.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from functools import partial

RESAMPLES = 10_000
VALUES = 10_000
SENTENCES = 10_000
SAMPLES, SLICES, RATES, MEANS, CORPORA = 100_000, 20, 20, 20, 10


def clocked(work):
    """Run ``work`` and return (seconds, what it returned)."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


# -- 1. a mean -------------------------------------------------------------------------------------


def values():
    import numpy as np

    return np.random.default_rng(0).beta(2, 1, VALUES)


def mean_evalkit(*, another=False):
    import numpy as np

    from evalkit.stats.resampling import Resampled, Resampler, bootstrap_intervals

    ids, stats = [f"{i:05d}" for i in range(VALUES)], values()[:, None]
    resampler = Resampler(ids, np.random.default_rng(1), resamples=RESAMPLES)

    def mean(sums, n):
        return sums[..., 0] / n

    def work():
        drawn = Resampled(resampler, stats)
        held = mean(*drawn.drawn)
        (found,) = bootstrap_intervals(
            held, float(stats.mean()), drawn.sums.jackknife(mean), (0.95,)
        )
        return [found.low, found.high]

    if another:  # the task's resamples are there since its first metric
        work()
    return (*clocked(work), "BCa")


def mean_scipy(method):
    import numpy as np
    from scipy.stats import bootstrap

    data = values()

    def work():
        rng = np.random.default_rng(1)
        found = bootstrap(
            (data,), np.mean, n_resamples=RESAMPLES, batch=100, method=method, rng=rng
        )
        return list(found.confidence_interval)

    return (*clocked(work), f"{method}, vectorised, batches of 100")


def mean_lm_eval():
    from lm_eval.api.metrics import bootstrap_stderr, mean

    data = values().tolist()

    def work():
        error, centre = bootstrap_stderr(mean, data, RESAMPLES), sum(data) / len(data)
        return [centre - 1.96 * error, centre + 1.96 * error]

    return (*clocked(work), f"standard error alone, {os.cpu_count()} processes")


# -- 2. corpus BLEU --------------------------------------------------------------------------------


def sentences(systems=1):
    """Return made-up references and, per system, answers in which one word of five or so is wrong."""
    import random

    draw = random.Random(0)
    words = [f"w{i}" for i in range(2_000)]
    references = [" ".join(draw.choices(words, k=draw.randint(10, 30))) for _ in range(SENTENCES)]

    def answers(wrong):
        return [
            " ".join(draw.choice(words) if draw.random() < wrong else w for w in line.split())
            for line in references
        ]

    return references, [answers(0.20 + 0.01 * number) for number in range(systems)]


def bleu_statistics(systems=1):
    import numpy as np
    from sacrebleu.metrics.bleu import BLEU

    references, answers = sentences(systems)
    counter = BLEU()
    return counter, [
        np.array(counter._extract_corpus_statistics(each, [references]), dtype=float)
        for each in answers
    ]


def bleu_evalkit():
    import numpy as np

    from evalkit.metrics.text import BleuOptions, bleu_from_sums
    from evalkit.stats.resampling import Resampled, Resampler, bootstrap_intervals

    _, (stats,) = bleu_statistics()
    ids = [f"{i:05d}" for i in range(SENTENCES)]
    bleu = partial(bleu_from_sums, options=BleuOptions())

    def work():
        drawn = Resampled(Resampler(ids, np.random.default_rng(1), resamples=RESAMPLES), stats)
        held, sums = bleu(*drawn.drawn), drawn.sums
        (found,) = bootstrap_intervals(held, sums.total(bleu), sums.jackknife(bleu), (0.95,))
        return [found.low, found.high]

    return (*clocked(work), "BCa")


def bleu_sacrebleu(resamples=1_000):
    import numpy as np
    from sacrebleu.significance import _bootstrap_resample, estimate_ci

    counter, (stats,) = bleu_statistics()

    def work():
        _, scores = _bootstrap_resample(stats, counter, resamples)
        centre, half = estimate_ci(np.array([score.score for score in scores]))
        return [float(centre - half), float(centre + half)]

    seconds, result = clocked(work)
    scale = RESAMPLES / resamples
    return seconds * scale, result, f"{resamples:,} resamples in {seconds:.1f} s × {scale:g}"


def bleu_lm_eval(resamples=5):
    from lm_eval.api.metrics import bleu, bootstrap_stderr

    references, (answers,) = sentences()
    items = list(zip(references, answers, strict=True))
    bleu(items)  # its tokeniser remembers texts, as it would in a long run

    def work():
        error, centre = bootstrap_stderr(bleu, items, resamples), bleu(items)
        return [centre - 1.96 * error, centre + 1.96 * error]

    seconds, result = clocked(work)
    seconds *= resamples / (resamples + 1)  # one of them gave the centre
    scale = RESAMPLES / resamples
    return seconds * scale, result, f"{resamples} resamples in {seconds:.1f} s × {scale:g}"


def pair_evalkit():
    import numpy as np

    from evalkit.metrics.base import corpus
    from evalkit.metrics.text import BleuOptions, bleu_from_sums
    from evalkit.stats.paired import paired_difference
    from evalkit.stats.resampling import Resampled, Resampler

    _, (one, other) = bleu_statistics(2)
    ids = [f"{i:05d}" for i in range(SENTENCES)]
    bleu = corpus("", partial(bleu_from_sums, options=BleuOptions()), unit="points")

    def work():
        resampler = Resampler(ids, np.random.default_rng(1), resamples=RESAMPLES)
        found = paired_difference(
            bleu,
            other,
            one,
            0.95,
            binary=False,
            resampled=Resampled(resampler, np.hstack([other, one])),
            rng=np.random.default_rng(2),
        )
        return [found.interval.low, found.interval.high, found.p_value]

    return (*clocked(work), "bootstrap of the difference and approximate randomisation")


def pair_sacrebleu(test, many=1_000, few=100):
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.significance import PairedTest

    references, (one, other) = sentences(2)

    def run(rounds):
        systems = [("baseline", one), ("candidate", other)]
        return PairedTest(systems, {"BLEU": BLEU()}, [references], test, rounds)()

    less, _ = clocked(partial(run, few))
    more, (_, found) = clocked(partial(run, many))
    each = (more - less) / (many - few)  # what counting n-grams takes falls out of the difference
    note = f"({more:.1f} s − {less:.1f} s) for {many - few} rounds × {RESAMPLES / (many - few):.1f}"
    return each * RESAMPLES, [found["BLEU"][1].p_value], note


# -- 3. paired tests -------------------------------------------------------------------------------


def models():
    """Return slices and both models' zeros and ones, per-sample means and micro-F1 counts."""
    import numpy as np

    rng = np.random.default_rng(0)
    slice_N = rng.integers(SLICES, size=SAMPLES)

    def changed(held, fresh):
        return np.where(rng.random(held.shape) < 0.1, fresh, held)

    rates_NM = (rng.random((SAMPLES, RATES)) < 0.8).astype(float)
    means_NM = rng.beta(8, 2, (SAMPLES, MEANS))
    hits = rng.binomial(10, 0.8, (CORPORA, SAMPLES, 3)).astype(float)
    one = rates_NM, means_NM, hits
    other = (
        changed(rates_NM, rng.random(rates_NM.shape) < 0.8).astype(float),
        changed(means_NM, rng.beta(8, 2, means_NM.shape)),
        changed(hits, rng.binomial(10, 0.8, hits.shape)),
    )
    return slice_N, one, other


def micro_f1(sums, n):
    from evalkit.metrics.base import ratio

    return ratio(2 * sums[..., 0], 2 * sums[..., 0] + sums[..., 1] + sums[..., 2])


def paired_evalkit():
    import numpy as np

    from evalkit.compare import compare_tables
    from evalkit.metrics.base import corpus, mean, rate
    from evalkit.scoring import MetricTable

    slice_N, *both = models()
    ids = [f"sample-{i:06d}" for i in range(SAMPLES)]
    names = [f"part-{number:02d}" for number in slice_N]
    sizes = {None: SAMPLES} | {
        f"part=part-{k:02d}": int((slice_N == k).sum()) for k in range(SLICES)
    }

    def table(name, measure, stats_NK, *, binary):
        return MetricTable(
            task="bench",
            metric=name,
            signature=name,
            dataset="d",
            measures=(measure,),
            sample_ids=ids,
            stats_NK=np.ascontiguousarray(stats_NK),
            binary=binary,
            clusters=None,
            attributes={"part": names},
            planned=sizes,
            completed=sizes,
        )

    f1 = corpus("", micro_f1, unit="fraction")

    def tables(rates_NM, means_NM, hits):
        for k in range(RATES):
            yield table(f"rate{k}", rate("", column=0), rates_NM[:, [k]], binary=True)
        for k in range(MEANS):
            yield table(f"mean{k}", mean("", column=0), means_NM[:, [k]], binary=True)
        for k in range(CORPORA):
            yield table(f"f1-{k}", f1, hits[k], binary=True)

    held = {
        role: list(tables(*model))
        for role, model in zip(("baseline", "candidate"), both, strict=True)
    }
    before, busy = peak_mib(), time.process_time()
    seconds, found = clocked(lambda: compare_tables(held, 0, 0.95))
    busy = time.process_time() - busy
    assert all(c.status == "compared" and c.interval is not None for c in found)
    assert len(found) == (RATES + MEANS + CORPORA) * (SLICES + 1)
    note = f"{len(found):,} comparisons, {busy:.2f} s processor; inputs alone: {before:,.0f} MiB"
    return seconds, [], note


def paired_loop(resamples=2_000):
    """One rate and one mean over all sets, one micro F1 over all samples and one slice; scaled by what is left out."""
    import numpy as np
    from scipy.stats import bootstrap, ttest_rel
    from statsmodels.stats.contingency_tables import mcnemar
    from statsmodels.stats.weightstats import DescrStatsW

    slice_N, one, other = models()
    sets = [np.full(SAMPLES, fill_value=True)] + [slice_N == k for k in range(SLICES)]

    def rates():
        for rows in sets:
            a, b = other[0][rows, 0], one[0][rows, 0]
            counts = [[(a * b).sum(), (a * (1 - b)).sum()], [((1 - a) * b).sum(), 0]]
            mcnemar(np.array(counts), exact=True)
            DescrStatsW(a - b).tconfint_mean()

    def means():
        for rows in sets:
            a, b = other[1][rows, 0], one[1][rows, 0]
            ttest_rel(a, b)
            DescrStatsW(a - b).tconfint_mean()

    def f1(rows):
        def difference(a, b, c, d, e, f, axis):
            a, b, c, d, e, f = (x.sum(axis=axis) for x in (a, b, c, d, e, f))
            return 2 * a / (2 * a + b + c) - 2 * d / (2 * d + e + f)

        columns = [*other[2][0][rows].T, *one[2][0][rows].T]
        rng = np.random.default_rng(1)
        settings = {"paired": True, "vectorized": True, "method": "percentile", "batch": 20}
        bootstrap(columns, difference, n_resamples=resamples, rng=rng, **settings)

    rate_s, _ = clocked(rates)
    mean_s, _ = clocked(means)
    whole_s, _ = clocked(partial(f1, sets[0]))
    slice_s, _ = clocked(partial(f1, sets[1]))
    seconds = RATES * rate_s + MEANS * mean_s + CORPORA * (whole_s + SLICES * slice_s)
    ran = rate_s + mean_s + whole_s + slice_s
    return (
        seconds,
        [],
        f"scaled up from {ran:.1f} s; {resamples:,} resamples, no randomisation test",
    )


# -- the rows --------------------------------------------------------------------------------------

MEAN = f"mean of {VALUES:,} values, {RESAMPLES:,} resamples"
BLEU = f"corpus BLEU of {SENTENCES:,} sentences, {RESAMPLES:,} resamples"
PAIR = f"difference of two systems' BLEU, {SENTENCES:,} sentences, {RESAMPLES:,} rounds"
PAIRED = f"{SAMPLES:,} samples × {RATES + MEANS + CORPORA} metrics × {SLICES} slices, paired"
ROWS = {
    "mean": (MEAN, {
        "evalkit": mean_evalkit,
        "evalkit, each further metric": partial(mean_evalkit, another=True),
        "scipy.stats.bootstrap": partial(mean_scipy, "percentile"),
        "scipy.stats.bootstrap, BCa": partial(mean_scipy, "BCa"),
        "lm-eval bootstrap_stderr": mean_lm_eval,
    }),
    "bleu": (BLEU, {
        "evalkit": bleu_evalkit,
        "sacrebleu bootstrap": bleu_sacrebleu,
        "lm-eval bootstrap_stderr": bleu_lm_eval,
    }),
    "pair": (PAIR, {
        "evalkit": pair_evalkit,
        "sacrebleu PairedTest bs": partial(pair_sacrebleu, "bs"),
        "sacrebleu PairedTest ar": partial(pair_sacrebleu, "ar"),
    }),
    "paired": (PAIRED, {
        "evalkit compare_tables": paired_evalkit,
        "scipy and statsmodels, a loop": paired_loop,
    }),
}  # fmt: skip


def peak_mib():
    """Return the most memory this process has held so far."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_row(part, program):
    """Run one row in this process and print its figures as JSON, last of all."""
    seconds, result, note = ROWS[part][1][program]()
    line = {"seconds": seconds, "peak_mib": peak_mib(), "result": result, "note": note}
    print(json.dumps(line))


def show(part):
    """Run a part's rows one after another and print them against the first."""
    title, programs = ROWS[part]
    print(f"\n{title}")
    first = None
    for program in programs:
        # -P: this file is named like a module of the standard library, which must not find it.
        command = [sys.executable, "-P", __file__, "--row", part, program]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"  {program:<30} failed: {done.stderr.strip().splitlines()[-1:]}")
            continue
        row = json.loads(done.stdout.splitlines()[-1])
        first = first or row["seconds"]
        found = ", ".join(f"{x:.4f}" for x in row["result"])
        print(
            f"  {program:<30} {row['seconds']:>9,.2f} s  {row['seconds'] / first:>8,.1f} ×  "
            f"{row['peak_mib']:>6,.0f} MiB  {f'[{found}]  ' if found else ''}{row['note']}",
            flush=True,
        )


def main():
    """Run every part, or the one asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", choices=list(ROWS))
    parser.add_argument("--row", nargs=2, metavar=("PART", "PROGRAM"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        return run_row(*options.row)
    print(
        f"{len(os.sched_getaffinity(0))} cores; times × the first row's; peak memory of each process"
    )
    for part in [options.only] if options.only else ROWS:
        show(part)
    return None


if __name__ == "__main__":
    main()
