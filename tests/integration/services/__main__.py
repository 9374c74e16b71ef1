"""Starts and stops services from the command line, for the demo.

`python -m services start [kafka] [flink]` prints as JSON where they are; they run until
`python -m services stop`. `python -m services download` has all that the tests need, so that they
need no network.
"""

import argparse
import json
import pathlib
import shutil
import signal
import sys
from typing import Any

import psutil

from services import ServiceMissing, broker, cluster, downloads, processes

_SERVICES: dict[str, Any] = {"kafka": broker.Kafka, "flink": cluster.Flink}


def _born(pid: int) -> float | None:
    """When a process began; a number that went to another process is not taken for ours."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return None


def _running(state: pathlib.Path) -> dict[str, Any]:
    known = json.loads(state.read_text()) if state.exists() else {}
    return {
        name: service
        for name, service in known.items()
        if all(_born(pid) == born for pid, born in service["processes"])
    }


def _start(names: list[str], state: pathlib.Path) -> None:
    running = _running(state)
    for name in names:
        if name not in running:
            running[name] = _start_one(name, state.parent / name)
            state.write_text(json.dumps(running))


def _start_one(name: str, folder: pathlib.Path) -> dict[str, Any]:
    shutil.rmtree(folder, ignore_errors=True)
    service = _SERVICES[name](folder)
    try:
        service.start(survives=True)
    except BaseException:
        service.stop()
        raise
    pids = [member.pid for member in reversed(service.members.values())]
    return {"where": service.where, "processes": [[pid, _born(pid)] for pid in pids]}


def _stop(state: pathlib.Path) -> None:
    known = json.loads(state.read_text()) if state.exists() else {}
    for service in known.values():
        for pid, born in service["processes"]:
            if _born(pid) == born:
                processes.end(pid, signal.SIGTERM)
    state.unlink(missing_ok=True)


def main() -> None:
    """Runs one command and prints what runs then."""
    parser = argparse.ArgumentParser(prog="services", description=__doc__)
    parser.add_argument("command", choices=["start", "stop", "status", "download"])
    parser.add_argument("names", nargs="*", choices=[*_SERVICES, []], help="both by default")
    parser.add_argument("--folder", type=pathlib.Path, default=downloads.cache() / "running")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    state = chosen.folder / "services.json"
    try:
        if chosen.command == "start":
            _start(chosen.names or list(_SERVICES), state)
        elif chosen.command == "stop":
            _stop(state)
        elif chosen.command == "download":
            downloads.download()
    except ServiceMissing as missing:
        sys.exit(str(missing))
    where = {name: service["where"] for name, service in _running(state).items()}
    sys.stdout.write(json.dumps(where) + "\n")


if __name__ == "__main__":
    main()
