import dataclasses
import re
from html.parser import HTMLParser

import pytest

from pipeline.report.facts import DayQuality, Report, ServedParity
from pipeline.report.page import render
from pipeline.report.summary import age_state, claims


class Outline(HTMLParser):
    """Every tag, attribute and text of a page; fails where tags do not close as they opened."""

    VOID = frozenset({"meta", "br", "img", "link", "line", "rect", "path", "input"})

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        assert self.open == [], f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID or (tag in ("rect", "path") and "/>" not in self.get_starttag_text()):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        self.texts.append(data)

    def named(self, tag: str) -> list[dict]:
        return [attrs for name, attrs in self.tags if name == tag]


def test_the_page_loads_nothing_and_runs_nothing(report):
    page = render(report)
    outline = Outline(page)

    assert "<script" not in page.lower()
    assert not re.search(r"https?://|//[a-z]|url\(|@import", page), "a reference that a browser would load"
    assert {tag for tag, _ in outline.tags} & {"script", "img", "iframe", "object", "link", "form", "input"} == set()
    assert not [name for _, attrs in outline.tags for name in attrs if name.startswith("on")]
    policy = next(m["content"] for m in outline.named("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy


def test_text_from_data_is_shown_and_never_obeyed(report):
    page = render(report)

    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 4  # reason, category, gate, lineage
    assert "&#39;; DROP TABLE users; --" in page
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", page)


def test_the_rules_of_the_gate_are_a_table(report):
    texts = [text.strip() for text in Outline(render(report)).texts]

    at = texts.index("ndcg@10 on all")
    row = [text for text in texts[at:] if text][:7]
    assert row == ["ndcg@10 on all", "champion", "203", "+2.0%", "-1.0% to +5.0%", "gain at least 1%", "passed"]
    assert "-60.0% to –" in texts


def test_a_user_is_never_named_in_full(report):
    page = render(report)

    assert "customer-4711-jane" not in page
    assert report.movers[0].label in page


def test_every_table_has_headers_and_every_chart_a_title_and_a_description(report):
    outline = Outline(render(report))

    assert len(outline.named("table")) == len(outline.named("caption")) >= 6
    assert all(attrs.get("scope") in ("col", "row") for attrs in outline.named("th"))
    charts = outline.named("svg")
    ids = {attrs["id"] for _, attrs in outline.tags if "id" in attrs}
    assert len(charts) >= 4
    for chart in charts:
        assert chart["role"] == "img"
        assert set(chart["aria-labelledby"].split()) <= ids
    every_id = [attrs["id"] for _, attrs in outline.tags if "id" in attrs]
    assert len(every_id) == len(set(every_id))


def test_the_summary_says_the_worst_first_hand(report):
    said = {claim.text: claim.tone for claim in claims(report)}

    assert said["1 of 19 days failed and published nothing: 2026-01-19."] == "bad"
    assert said["Behind the log: recommendations."] == "warn"
    assert said["Not built yet: long_term_interest."] == "warn"
    assert said["interest_evolution version 1 was promoted."] == "good"


def test_a_day_that_does_not_balance_is_called_out(report):
    day = DayQuality(report.days[0].day, "published", 100, 90, 5, 4)

    unbalanced = dataclasses.replace(report, days=[day])

    assert any(claim.tone == "bad" and "2026-01-01" in claim.text for claim in claims(unbalanced))
    assert "rows missing" in render(unbalanced)


def test_the_same_facts_give_the_same_bytes(report):
    assert render(report) == render(report)


def test_an_empty_home_has_a_page_that_says_so(report):
    page = render(Report(known_at=report.known_at))

    Outline(page)
    assert "No model yet" in page
    assert "No day has been published yet" in page


@pytest.mark.parametrize(
    ("hours", "behind", "state"), [(26.0, 0, "fresh"), (26.1, 0, "level"), (1.0, 1, "behind"), (9999.0, 3, "behind")]
)
def test_a_table_is_fresh_within_its_promise_and_level_when_the_log_is_old(hours, behind, state):
    assert age_state(hours, "26h", behind) == state


def test_a_value_that_nobody_has_is_a_dash_not_a_number(report):
    nan = float("nan")
    row = dataclasses.replace(
        report.models[0].rows[0],
        scores={
            name: dataclasses.replace(i, value=nan, low=nan, high=nan)
            for name, i in report.models[0].rows[0].scores.items()
        },
    )
    model = dataclasses.replace(report.models[0], rows=(row, *report.models[0].rows[1:]))

    page = render(dataclasses.replace(report, models=[model]))

    assert "nan" not in re.sub("<style>.*?</style>", "", page, flags=re.S).lower()


def test_a_version_that_was_decided_on_without_a_comparison_is_shown(report):
    bare = dataclasses.replace(report.models[0], metrics=(), rows=(), placebo=(), decision="held")

    page = render(dataclasses.replace(report, models=[bare]))

    assert "No comparison has been recorded for this version." in page
    assert "no comparison recorded" in page


def test_what_is_served_stands_beside_what_was_written(report):
    one = ServedParity("sequence_features", "a sample", report.days[0].day, 200, 198, 1, 1, 0, ("item_ids",), 0.25)
    other = ServedParity("<b>", "look-ups of ranking_v1", report.days[0].day, 9, 9, 0, 0, 0)
    differing = dataclasses.replace(report, parity=[one, other])

    page = render(differing)

    Outline(page)
    assert "Served values differ from the tables: sequence_features." in page
    assert ">0.25<" in page and "look-ups of ranking_v1" in page and "&lt;b&gt;" in page
    assert "All 9 compared rows are served as written." in render(dataclasses.replace(report, parity=[other]))
