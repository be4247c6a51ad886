"""`interest train` and `interest recommend` on a planted log; a mistake is one line and an exit code."""

import json

import polars as pl
import pytest
from typer.testing import CliRunner

from pipeline.cli.app import app


def run(settings, *arguments: object):
    return CliRunner().invoke(app, ["--home", str(settings.home), *map(str, arguments)])


def test_training_again_as_of_a_day_shows_what_is_registered_and_serves_it(trained):
    """The seventh week's Sunday is the last day of data; the item texts are embedded on the way."""
    done = run(trained, "train", "--as-of", "2025-10-19", "--json")
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout.strip().splitlines()[-1])
    assert said["items"]["items"] == 400
    assert [(t["model"], t["version"], t["was_registered"]) for t in said["trained"]] == [
        ("interest_evolution", 1, True),
        ("collaborative_filter", 1, True),
    ]
    assert [gated["promoted"] for gated in said["gated"]] == [True, True]
    assert said["long_term_interest"]["day"] == said["recommendations"]["day"] == "2025-10-20"
    assert said["long_term_interest"]["users"] == said["recommendations"]["users"] == 80

    shown = run(trained, "train", "--as-of", "2025-10-19", "--model", "interest_evolution")
    assert "interest_evolution" in shown.output and "promoted" in shown.output
    assert "80 users, 0 pushed online" in shown.output


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--as-of", "2025-10-3x"], 2, "is not a day"),
        (["--as-of", "2025-09-02"], 2, "learns from events before"),
        (["--model", "collaborative_filter", "--as-of", "2025-10-19"], 2, "Train and gate the interest model first"),
    ],
)
def test_a_training_that_cannot_be_is_one_line_and_an_exit_code(planted, monkeypatch, arguments, code, says):
    from pipeline.steps import item_text

    monkeypatch.setattr(item_text, "embed_items", lambda *rest: None)
    assert_one_line(run(planted, "train", *arguments), code, says)


def test_training_without_any_event_says_what_to_do(settings, registry):
    assert_one_line(run(settings, "train"), 2, "Run `interest load` first")


def test_one_user_is_shown_with_titles(trained):
    done = run(trained, "recommend", "u03", "--k", "3")
    assert done.exit_code == 0, done.stderr
    assert "title 3" in done.output
    assert "release 1 (interest 1" in done.output


def test_json_carries_release_event_time_age_and_status(trained):
    said = json.loads(run(trained, "recommend", "u03", "--k", "3", "--json").stdout.strip().splitlines()[-1])
    (user,) = said["users"]
    assert (said["model_version"], said["interest_version"]) == (1, 1)
    assert said["space_id"].startswith("interest-")
    assert (user["status"], user["fallback"]) == ("found", False)
    assert user["age_seconds"] > 0 and user["event_time"]
    assert [item["rank"] for item in user["items"]] == [1, 2, 3]


def test_an_unknown_user_is_answered_and_the_exit_code_says_so(trained):
    done = run(trained, "recommend", "nobody", "--json")
    said = json.loads(done.stdout.strip().splitlines()[-1])
    assert done.exit_code == 2
    assert (said["users"][0]["status"], said["users"][0]["fallback"]) == ("not_found", True)
    assert "User 'nobody' is not in the log" in done.stderr


def test_a_file_of_users_becomes_a_file_of_rows(trained, tmp_path):
    users, out = tmp_path / "users.txt", tmp_path / "out.parquet"
    users.write_text("u03\nu01\n\nnobody\n")
    done = run(trained, "recommend", "--users", users, "--k", "20", "--as-of", "2025-10-22", "--out", out)
    assert done.exit_code == 0, done.stderr
    rows = pl.read_parquet(out)
    assert rows.columns == ["user_id", "item_id", "rank", "score", "fallback"]
    assert rows["user_id"].unique(maintain_order=True).to_list() == ["u03", "u01", "nobody"]
    assert rows.height == 60
    assert "1 of 3 users are not in the log" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 2, "Name either one USER or a file"),
        (["u03", "--users", "USERS"], 2, "Name either one USER or a file"),
        (["--users", "gone.txt"], 3, "gone.txt cannot be read"),
        (["--users", "EMPTY"], 3, "holds no user id"),
        (["--users", "BINARY"], 3, "cannot be read"),
        (["u03", "--k", "0"], 2, "k must be between 1 and 1000"),
        (["u03", "--as-of", "yesterday"], 2, "is not a day"),
        (["u03", "--out", "rows.csv"], 2, "must end in .parquet"),
        (["u03", "--out", "/no/such/folder/rows.parquet"], 2, "does not exist"),
        (["u" * 257], 2, "1 to 256 characters"),
    ],
)
def test_a_question_that_cannot_be_is_one_line_and_an_exit_code(settings, tmp_path, arguments, code, says):
    files = {"USERS": b"u03\n", "EMPTY": b"\n", "BINARY": b"\xff\xfe\x00u"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    words = [str(tmp_path / word) if word in files else word for word in arguments]
    assert_one_line(run(settings, "recommend", *words), code, says)


def test_text_from_the_log_is_shown_and_not_obeyed(trained):
    done = run(trained, "recommend", "[red]\x1b[2J", "--k", "2")
    assert done.exit_code == 2
    assert "\x1b[2J" not in done.output + done.stderr
    assert "[red]" in done.output


def assert_one_line(done, code: int, says: str) -> None:
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.exit_code == code, done.output
    assert len(errors) == 1 and says in errors[0], done.stderr
    assert "Traceback" not in done.output
