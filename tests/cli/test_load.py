"""`interest load` says what it did and what to do next; a mistake is one line and an exit code."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli.app import app


@pytest.fixture
def ratings(tmp_path: Path) -> Path:
    path = tmp_path / "ratings.csv"
    path.write_text("userId,movieId,rating,timestamp\n1,10,4.0,881250949\n2,20,3.5,soon\n")
    return path


def interest(home: Path, *arguments: object):
    return CliRunner().invoke(app, ["--home", str(home), "load", *map(str, arguments)])


def test_loading_says_what_came_and_what_to_do_next(home, ratings):
    done = interest(home, "--events", ratings, "--mapping", "movielens")
    assert done.exit_code == 0, done.output
    assert "2 rows of ratings.csv loaded" in done.output
    assert "1 rows have no readable or plausible time" in done.output
    assert done.output.endswith("Next: interest backfill\n")
    assert "nothing changed" in interest(home, "--events", ratings, "--mapping", "movielens").output


def test_json_is_one_object(home, ratings):
    done = interest(home, "--events", ratings, "--mapping", "movielens", "--json")
    assert json.loads(done.stdout.strip().splitlines()[-1])["rows"] == 2


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--events", "gone.csv", "--mapping", "movielens"], 3, "gone.csv does not exist"),
        (["--events", "RATINGS", "--mapping", "movielense"], 2, "There is no mapping 'movielense'"),
        (["--events", "RATINGS", "--mapping", "otto"], 3, "not JSON"),
        (["--events", "RATINGS", "--mapping", "movielens-100k"], 2, "has no column"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(home, ratings, arguments, code, says):
    done = interest(home, *[ratings if word == "RATINGS" else word for word in arguments])
    assert done.exit_code == code
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and says in errors[0]
    assert "Traceback" not in done.output
