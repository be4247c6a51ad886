"""
Runs the benchmarks and puts what they print into `docs/performance.md`.

    python benchmarks/all.py                              # everything, small: minutes
    python benchmarks/all.py --full                       # everything, at full size: hours on two cores
    python benchmarks/all.py feature_build --full         # one of them

A table stands between two marks in the page, which name the benchmark; what is written around them stays.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "performance.md"
SMALL: dict[str, list[str]] = {
    "feature_build": ["feature_build.py", "--events", "4000000", "--users", "80000"],
    "within_budget": [
        "feature_build.py", "--events", "4000000", "--users", "80000", "--budget-mb", "500", "--only", "ours",
    ],
    "feature_history": ["feature_history.py", "--spark"],
    "training_set": ["training_set.py", "--rows", "200000"],
    "online_publish": ["online_publish.py", "--rows", "20000"],
    "online_lookup": ["online_lookup.py", "--users", "5000"],
    "online_http": ["online_http.py", "--users", "2000"],
    "growth": ["growth.py"],
}
FULL: dict[str, list[str]] = {
    "feature_build": ["feature_build.py", "--events", "20000000", "--users", "400000"],
    "within_budget": [
        "feature_build.py", "--events", "200000000", "--users", "4000000", "--budget-mb", "4000", "--only", "ours",
    ],
    "feature_history": ["feature_history.py", "--events", "20000000", "--users", "400000"],
    "training_set": ["training_set.py", "--rows", "1000000"],
    "online_publish": ["online_publish.py"],
    "online_lookup": ["online_lookup.py"],
    "online_http": ["online_http.py"],
    "growth": ["growth.py"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(SMALL)}; all when none is given")
    parser.add_argument("--full", action="store_true", help="the sizes that the platform is built for")
    given = parser.parse_args()
    for name in given.names or SMALL:
        arguments = (FULL if given.full else SMALL)[name]
        command = [sys.executable, str(HERE / arguments[0]), *arguments[1:]]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), name, arguments, done.stdout), encoding="utf-8")
        print(done.stdout)


def with_table(page: str, name: str, arguments: list[str], printed: str) -> str:
    """The page with what `name` printed between its marks; raises SystemExit where it has none."""
    begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
    before, found, rest = page.partition(begin)
    if not found or end not in rest:
        raise SystemExit(f"{PAGE} has no place for {name}: write {begin.strip()} and {end} where it shall stand.")
    lines = "\n".join(line.rstrip() for line in printed.strip().splitlines())
    block = f"```\n$ python benchmarks/{' '.join(arguments)}\n{lines}\n```\n"
    return before + begin + block + end + rest.partition(end)[2]


if __name__ == "__main__":
    main()
