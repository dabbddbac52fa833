"""A site over many runs: every run in its place, numbers joined only where they were measured alike."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_runs import HOSTILE, card, estimate, outcome, verdict

from evalkit.records.scorecard import Counts, Interval
from evalkit.reports.site import SiteRun, UnreadRun, site_pages
from evalkit.reports.site.history import histories, ordered, promoted_run, with_aliases
from evalkit.reports.site.pages import file_name
from evalkit.reports.site.plots import history_plot
from evalkit.store.aliases import Promotion

NONE = Counts(planned=10, completed=10, failed=0, scored=0, unscored=10)


def run(day, value=0.9, *, status="pass", name=None, dataset="e" * 64, suite="orders", **changes):
    """A run that ended on a day of March."""
    estimates = [] if value == "absent" else [estimate(value, **changes)]
    scorecard = card(
        estimates, finished=f"2026-03-{day:02}T09:30:00+00:00", dataset=dataset, suite=suite
    )
    name = name or f"{suite}-{day}"
    return SiteRun(name, scorecard, verdict([outcome()], status), f"runs/{name}.html")


def promotion(run_, alias="production", day=20, **changes):
    held = {
        "time": f"2026-03-{day}T10:00:00+00:00",
        "alias": alias,
        "run": run_.name,
        "scorecard": run_.scorecard.digest,
        "status": "pass",
        "exit_code": 0,
        "by": "kim",
    }
    return Promotion(**(held | changes))


def parts(*runs):
    """Which points of the one number are joined, as the numbers of their parts; and why others are not."""
    (series,) = histories(ordered(runs))
    return [point.part for point in series.points], [point.broken for point in series.points]


def test_numbers_measured_alike_are_joined():
    assert parts(run(1), run(2), run(3)) == ([0, 0, 0], ["", "", ""])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"signature": "exact_match|v:2"}, "another signature"),
        ({"dataset": "0" * 64}, "the data changed"),
    ],
)
def test_a_line_breaks_where_the_measurement_or_the_data_changed_and_says_so(change, told):
    joined, broken = parts(run(1), run(2), run(3, **change), run(4, **change))
    assert joined == [0, 0, 1, 1]
    assert broken[:2] == ["", ""]
    assert told in broken[2]
    assert broken[3] == ""


@pytest.mark.parametrize("value", ["absent", None])
def test_nothing_is_drawn_across_a_run_that_lacks_the_number(value):
    gap = {"counts": NONE} if value is None else {}
    joined, broken = parts(run(1), run(2, value, **gap), run(3))
    assert joined[-1] == 1
    assert "1 run before it lack" in broken[-1]


def test_a_run_whose_number_could_not_be_scored_is_told_and_not_drawn():
    (series,) = histories(ordered([run(1), run(2, None, counts=NONE)]))
    assert series.points[1].broken == "nothing could be scored"
    assert [point["number"] for point in history_plot(series)["data"]["values"]] == [1]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy")), min_size=1, max_size=8))
def test_two_points_of_one_part_were_always_measured_alike(kinds):
    runs = [
        run(day, signature=signature, dataset=data * 64)
        for day, (signature, data) in enumerate(kinds, start=1)
    ]
    joined, broken = parts(*runs)
    held = {}
    for kind, part, why in zip(kinds, joined, broken, strict=True):
        assert held.setdefault(part, kind) == kind
        assert bool(why) == (part > 0 and list(held)[-1] == part and held[part] is kind)
    assert joined == sorted(joined)


def test_runs_stand_in_the_order_in_which_they_ended_whatever_order_they_were_given_in():
    runs = [run(3), run(1), run(2)]
    (series,) = histories(ordered(runs))
    assert [point.run.name for point in series.points] == ["orders-1", "orders-2", "orders-3"]


def test_only_the_candidates_numbers_of_all_samples_have_a_history():
    held = card([estimate(), estimate(model="baseline"), estimate(slice="region=eu")])
    names = [series.name for series in histories([SiteRun("one", held, None)])]
    assert names == ["extract/exact_match"]


def test_an_alias_is_carried_by_the_last_run_promoted_under_it_and_marked_on_every_one():
    runs = [run(1), run(2, 0.8), run(3, 0.7)]
    told = [promotion(runs[0]), promotion(runs[1], "staging"), promotion(runs[1])]
    made = with_aliases(runs, told)
    assert [each.aliases for each in made] == [(), ("production", "staging"), ()]
    assert [each.promoted for each in made] == [("production",), ("staging", "production"), ()]


def test_of_runs_with_equal_numbers_the_one_in_the_promoted_folder_is_meant():
    one, two = run(1, name="first"), run(1, name="second")
    assert one.scorecard.digest == two.scorecard.digest
    assert promoted_run(promotion(two), [one, two]) is two
    assert promoted_run(promotion(run(2, 0.1)), [one, two]) is None


def test_a_plot_stands_in_time_and_in_order_where_times_coincide():
    def across(*runs):
        (series,) = histories(ordered(runs))
        return history_plot(series)["encoding"]["x"]["type"]

    assert across(run(1), run(2)) == "temporal"
    assert across(run(1), run(1, name="again")) == "ordinal"
    assert across(run(1)) == "ordinal"


def test_a_plot_shows_each_value_with_its_interval_and_marks_promotions_with_their_names():
    runs = with_aliases([run(1), run(2, 0.7)], [promotion(run(2, 0.7))])
    (series,) = histories(runs)
    plot = history_plot(series)
    values = plot["data"]["values"]
    assert [(v["low"], v["value"], v["high"]) for v in values] == [
        (pytest.approx(0.85), 0.9, pytest.approx(0.95)),
        (pytest.approx(0.65), 0.7, pytest.approx(0.75)),
    ]
    (marked,) = (layer for layer in plot["layer"] if "data" in layer)
    assert [(v["number"], v["promoted"]) for v in marked["data"]["values"]] == [(2, "production")]


class Page(HTMLParser):
    """The elements of a page, and its texts in order, as an HTML parser sees them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.data, self.links = [], [], {}, []
        self._json = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        held = dict(attrs)
        self.tags.append(tag)
        self._json = held.get("id") if held.get("type") == "application/json" else None
        if tag == "a":
            self.links.append(held.get("href"))

    def handle_data(self, data):
        if self._json:
            self.data[self._json] = json.loads(data)
            self._json = None
        elif self.tags and self.tags[-1] not in ("script", "style"):
            self.texts.append(data)

    @property
    def told(self):
        return " ".join(" ".join(self.texts).split())


def test_the_first_page_tells_every_run_and_leads_to_each_report_and_history():
    runs = [run(1), run(2, status="fail"), run(3, suite="tickets")]
    pages = site_pages(runs, [promotion(runs[0])], [])
    assert set(pages) == {"index.html", "orders.html", "tickets.html"}
    page = Page(pages["index.html"])
    for each in runs:
        assert each.report in page.links
    assert {"orders.html", "tickets.html"} <= set(page.links)
    assert "✗ failed" in page.told
    assert "production , now" in page.told


def test_a_run_that_could_not_be_read_is_told_with_its_reason():
    pages = site_pages([run(1)], [], [UnreadRun("reports/broken", "its samples were changed")])
    told = Page(pages["index.html"]).told
    assert "reports/ broken" in told.replace("reports/broken", "reports/ broken")
    assert "its samples were changed" in told


def test_a_suites_page_holds_every_number_in_a_table_beside_its_plot():
    runs = [run(1), run(2, 0.7, signature="exact_match|v:2", status="fail")]
    page = Page(site_pages(runs, [promotion(runs[0])])["orders.html"])
    for part in (
        "0.900", "[0.850, 0.950]", "0.700", "Promoted as production",
        "Not joined: it was measured in another way",
    ):  # fmt: skip
        assert part in page.told
    assert len(page.data["plots"]) == 1


def test_a_promotion_of_a_run_that_is_not_there_is_told():
    told = Page(site_pages([run(1)], [promotion(run(2, 0.1))])["index.html"]).told
    assert "not among these runs" in told


def test_names_become_plain_file_names_that_do_not_collide():
    names = ["orders", "index", "../up", "a b", "a/b", "CON:", "", "ä", "x" * 300, *HOSTILE[:8]]
    made = [file_name(name) for name in names]
    assert len(set(made)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,80}", name) for name in made)
    assert made[0] == "orders"
    assert made[1] != "index"


@settings(max_examples=25)
@given(
    st.tuples(*[st.sampled_from([text for text in HOSTILE if len(text) < 1000])] * 4),
)
def test_whatever_names_and_reasons_hold_no_element_and_no_hidden_character_arises(texts):
    one, two, three, four = texts
    scorecard = card(
        [estimate(task=one, metric=two, unit=three, signature=four)],
        suite=two,
        names={"candidate": four},
        finished=three,
    )
    runs = [SiteRun(one, scorecard, verdict([outcome()], "fail", reason=three), "runs/x.html")]
    told = [promotion(runs[0], run=f"x{one}".encode("utf-8", "replace").decode())]
    plain = card([estimate()], suite="orders", names={"candidate": "c"})
    expected = site_pages(
        [SiteRun("r", plain, verdict([outcome()], "fail"), "runs/x.html")],
        [promotion(SiteRun("r", plain, None))],
        [UnreadRun("r", "why")],
    )
    pages = site_pages(runs, told, [UnreadRun(four, one)])
    for text, other in zip(pages.values(), expected.values(), strict=True):
        text.encode("utf-8")
        assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\ufeff\x00\x1b]", _outside(text))
        page, plainly = Page(text), Page(other)
        assert _without_wbr(page.tags) == _without_wbr(plainly.tags)
        assert set(page.links) <= {*plainly.links, *pages}


def _without_wbr(tags):
    return [tag for tag in tags if tag != "wbr"]


def _outside(page):
    """A page without the scripts that are the package's own."""
    return re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)


def test_a_long_reason_is_cut():
    long = SiteRun("one", card([estimate()]), verdict([outcome()], "fail", reason="x" * 5_000_000))
    pages = site_pages([long], [], [UnreadRun("two", "y" * 5_000_000)])
    assert len(pages["index.html"]) < 200_000


def test_a_number_that_never_changes_has_room_around_it():
    """An axis without any length is labelled 0, whatever the number is."""
    exact = {"interval": Interval(low=0.07, high=0.07, level=0.95, method="exact")}
    (series,) = histories(ordered([run(1, 0.07, **exact), run(2, 0.07, **exact)]))
    *_, points = history_plot(series)["layer"]
    low, high = points["encoding"]["y"]["scale"]["domain"]
    assert low < 0.07 < high
