"""
Where the time of the main job goes: `interest run` in a new home folder, stage by stage and task by task.

    python benchmarks/main_job.py                     # runs the job, then prints
    python benchmarks/main_job.py --home .interest    # prints what the last run in that folder has written
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

INTEREST = Path(sys.executable).with_name("interest")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, help="a home folder in which the job has run")
    given = parser.parse_args()
    if given.home:
        show(given.home)
        return
    with tempfile.TemporaryDirectory(prefix="main-job-") as folder:
        subprocess.run([INTEREST, "--home", folder, "run"], check=True)
        show(Path(folder))


def show(home: Path) -> None:
    """Print `<home>/timings.json` as two tables."""
    facts = json.loads((home / "timings.json").read_text())
    stages = Table("stage", title="Stages", title_justify="left", box=None)
    stages.add_column("seconds", justify="right")
    stages.add_column("share", justify="right")
    for stage in facts["stages"]:
        stages.add_row(stage["name"], f"{stage['seconds']:.1f}", f"{stage['seconds'] / facts['total_seconds']:.0%}")
    stages.add_row("everything", f"{facts['total_seconds']:.1f}", "")
    tasks = Table("task", title="\nAirflow tasks", title_justify="left", box=None)
    for name in ("runs", "median s", "longest s", "sum s"):
        tasks.add_column(name, justify="right")
    for name, seconds in sorted(facts["tasks"].items(), key=lambda entry: -sum(entry[1])):
        numbers = (statistics.median(seconds), max(seconds), sum(seconds))
        tasks.add_row(name, str(len(seconds)), *(f"{number:.1f}" for number in numbers))
    console = Console()
    console.print(stages, tasks)
    console.print(f"\nPeak memory of all processes: {facts['peak_memory_mb'] / 1000:.2f} GB (proportional shares)")


main()
