"""
Runs steps in processes of their own, so that they can die. Started as a script; asked by lines of JSON.
A step may name others that follow it in the same process (`then`).

The libraries are loaded once and every step is run in a fork, as the embedded scheduler does it. A line holds the steps
that run at the same time: [{"home": ..., "fault": ..., "step": "pipeline.steps.x:function", "arguments": [...]}]
"""

import importlib
import inspect
import json
import os
import resource
import sys
import traceback
from datetime import datetime
from pathlib import Path

from pipeline.observability import facts_of
from pipeline.partitions import Day
from pipeline.settings import Settings
from pipeline.stack.preload import load_libraries


def run(asked: dict, answer: Path) -> None:
    """One step, in a process of its own."""
    try:
        if "file_size" in asked:
            import signal

            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # Writing more then fails, as on a full disk.
            resource.setrlimit(resource.RLIMIT_FSIZE, (asked["file_size"], resource.RLIM_INFINITY))
        settings = Settings.load(home=Path(asked["home"]), fault=asked.get("fault"), **asked.get("settings", {}))
        told = [
            plain(call(part["step"], part["arguments"], settings, datetime.fromisoformat(part["known_at"])))
            for part in (asked, *asked.get("then", ()))
        ]
        answer.write_text(json.dumps({"told": told[-1], "all_told": told}))
    except BaseException as error:
        traceback.print_exc()
        answer.write_text(json.dumps({"error": type(error).__name__, "says": str(error)}))
        os._exit(1)
    os._exit(0)


def call(step: str, arguments: list, settings: Settings, known_at: datetime) -> object:
    module, name = step.split(":")
    function = getattr(importlib.import_module(module), name)
    parameters = inspect.signature(function).parameters
    given = {name: value for name, value in {"settings": settings, "known_at": known_at}.items() if name in parameters}
    free = [parameter for parameter in parameters if parameter not in given]
    return function(**dict(zip(free, map(read, arguments), strict=False)), **given)


def plain(told: object) -> object:
    if isinstance(told, list | tuple):
        return [plain(part) for part in told]
    return told if told is None or isinstance(told, bool | int | str) else facts_of(told)


def read(argument: object) -> object:
    """`day:2026-03-01` and `time:2026-03-01T00:00:00+00:00` become what they say."""
    kind, _, value = argument.partition(":") if isinstance(argument, str) else ("", "", "")
    return {"day": Day.parse, "time": datetime.fromisoformat}.get(kind, lambda _: argument)(value)


def serve() -> None:
    load_libraries()
    print("ready", flush=True)
    for line in sys.stdin:
        begun = []
        for number, asked in enumerate(json.loads(line)):
            answer = Path(asked["home"]).with_name(f"answer-{number}.json")
            answer.unlink(missing_ok=True)
            child = os.fork()
            if not child:
                os.dup2(2, 1)
                run(asked, answer)
            begun.append((child, answer))
        print(json.dumps({"children": [child for child, _ in begun]}), flush=True)
        ended = []
        for child, answer in begun:
            _, status, used = os.wait4(child, 0)
            told = json.loads(answer.read_text()) if answer.is_file() else {}
            ended.append({"code": os.waitstatus_to_exitcode(status), "peak_mb": used.ru_maxrss / 1024, **told})
        print(json.dumps(ended), flush=True)


if __name__ == "__main__":
    serve()
