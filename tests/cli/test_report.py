import json
import re
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from pipeline.contracts import ONLINE_PARITY
from pipeline.errors import UnreadableFile
from pipeline.partitions import Day
from pipeline.steps.report import write_report

KNOWN_AT = datetime(2026, 3, 2, 12, tzinfo=UTC)
LAST = Day.parse("2026-03-01")


def evaluated(run_key: str, settings) -> Path:
    """An evaluation as training leaves it, with text in it that a page must not obey."""
    cell = {"mean": 0.08, "low": 0.07, "high": 0.09, "users": 200, "change": 0.1, "change_low": 0.0, "change_high": 0.2}
    rows = [
        {"model": name, "coverage": 0.1, "ndcg@10": cell | {"mean": mean}}
        for name, mean in (("interest_evolution", 0.08), ("<b>popularity</b>", 0.04))
    ]
    arms = [{"model": name, "coverage": 0.1, "ndcg@10": cell} for name in ("own", "another", "zeros")]
    evaluation = {
        "champion_version": None,
        "comparison": {"as_of": "2026-02-01T00:00:00+00:00", "facts": {"users": 200}, "table": rows},
        "placebo": {"table": arms},
        "decision": {"promote": True, "reasons": ["not worse than <i>popularity</i>"]},
    }
    path = settings.place(f"models/{run_key}/evaluation.json")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(evaluation))
    return path


def test_the_report_opens_in_a_browser_and_shows_neither_a_raw_id_nor_a_script(
    filled, settings, interest, in_chromium, tmp_path
):
    evaluated("interest_evolution@2026-03-01", settings)
    assert interest("report").code == 0
    page = settings.place("reports/report.html")

    in_chromium(page, tmp_path / "profile", f"--screenshot={tmp_path / 'page.png'}", "--window-size=1280,2400")
    seen = in_chromium(page, tmp_path / "profile", "--dump-dom", "--virtual-time-budget=1000")

    assert (tmp_path / "page.png").stat().st_size > 50_000, "the screenshot is blank"
    assert "customer-4711-jane" not in seen
    assert "<script" not in seen.lower()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in seen
    assert seen.count("<svg") >= 3 and seen.count("<tbody") >= 5
    for heading in ("Data quality", "Volumes", "Interest over time", "Who moved", "Models", "Freshness", "Lineage"):
        assert f">{heading}</h2>" in seen
    assert ">240<" in seen  # published events, on the first tile


def test_the_page_does_not_overflow_a_narrow_screen(filled, settings, interest, in_chromium, tmp_path):
    """Measured by the browser: a frame as wide as a phone, and a script outside of the page that asks it."""
    evaluated("interest_evolution@2026-03-01", settings)
    interest("report")
    page = settings.place("reports/report.html")
    probe = tmp_path / "probe.html"
    frame = f'<iframe id="f" src="{page.resolve().as_uri()}" style="width:390px;height:900px;border:0"></iframe>'
    ask = "f.onload = () => { w.textContent = 'width=' + f.contentDocument.documentElement.scrollWidth; }"
    probe.write_text(f'{frame}<p id="w"></p><script>{ask}</script>')

    seen = in_chromium(
        probe, tmp_path / "profile", "--allow-file-access-from-files", "--dump-dom", "--virtual-time-budget=2000"
    )

    assert int(re.search(r"width=(\d+)", seen)[1]) <= 390


def test_the_same_data_and_time_give_the_same_bytes(filled, settings, tmp_path):
    first = Path(write_report(settings, KNOWN_AT).path).read_bytes()
    second = Path(write_report(settings, KNOWN_AT, tmp_path / "again.html").path).read_bytes()

    assert first == second
    assert not list(settings.place("reports").glob(".*"))


def test_the_facts_on_the_page_are_those_of_the_home(filled, settings):
    written = write_report(settings, KNOWN_AT)
    page = Path(written.path).read_text()

    assert (written.days, written.events, written.movers, written.models) == (8, 240, 1, 0)
    assert "No model yet" in page
    assert "80 % of the mix moved" in page
    assert "Not built yet: sequence_features, long_term_interest, recommendations." in page


def test_the_newest_comparison_of_what_is_served_is_on_the_page(filled, settings):
    counts = {"sampled": 5, "equal": 4, "mismatched": 1, "missing": 0, "extra": 0}
    facts = {"mismatched_columns": ["vector"], "largest_edit_distance": None, "least_cosine": 0.5, "created": KNOWN_AT}
    row = {"view": "long_term_interest", **counts, **facts}
    for day, cosine in ((LAST.plus(-1), 0.5), (LAST, 0.125)):
        rows = [row | {"event_timestamp": day.as_of, "least_cosine": cosine}]
        filled.replace(ONLINE_PARITY, day, pl.DataFrame(rows, schema=ONLINE_PARITY.schema))

    page = Path(write_report(settings, KNOWN_AT).path).read_text()

    assert ">0.1250<" in page and ">0.5000<" not in page
    assert "Served values differ from the tables: long_term_interest." in page


def test_an_empty_home_gets_a_page_too(interest, settings):
    answer = interest("report", "--json")

    assert answer.code == 0
    assert answer.json["days"] == 0
    assert Path(answer.json["path"]) == settings.place("reports/report.html")


def test_a_folder_is_no_place_for_the_page(interest, tmp_path):
    answer = interest("report", "--out", str(tmp_path))

    assert answer.code == 2
    assert answer.err.startswith("error: --out") and len(answer.err.splitlines()) == 1


def test_a_damaged_evaluation_is_named_and_the_old_page_stays(filled, settings):
    before = Path(write_report(settings, KNOWN_AT).path).read_bytes()
    evaluated("interest_evolution@2026-03-01", settings).write_text('{"comparison": ')

    with pytest.raises(UnreadableFile, match=r"evaluation\.json cannot be read"):
        write_report(settings, KNOWN_AT)
    assert settings.place("reports/report.html").read_bytes() == before
