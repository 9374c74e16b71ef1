"""One service process: started with a log, watched until ready, stopped or killed by its own id."""

import contextlib
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

import psutil

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """A TCP port that nothing holds now, below those that systems give to outgoing connections."""
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            return port


def listens(port: int) -> bool:
    """Whether something accepts connections on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0


def wait_until(
    ready: Callable[[], bool], what: str, timeout_s: float = 90, every_s: float = 0.1
) -> None:
    """Polls until `ready()`.

    Raises:
      TimeoutError: it did not come true; the message names `what`.
    """
    deadline = time.monotonic() + timeout_s
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come true within {timeout_s:.0f} s")
        time.sleep(every_s)


def run(command: Sequence[str]) -> None:
    """Runs a short program to its end.

    Raises:
      RuntimeError: it failed; the message has what it printed.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


class Service:
    """A process of ours. `log` collects what it prints, over all its lives."""

    def __init__(
        self,
        command: Sequence[str],
        log: pathlib.Path,
        ready: Callable[[], bool],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._command = command
        self._serves = ready
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None
        self.log = log

    @property
    def pid(self) -> int:
        """The id of the process that runs now."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, survives: bool = False) -> None:
        """Starts the process and waits until it serves."""
        self.launch(survives=survives)
        self.wait()

    def launch(self, *, survives: bool = False) -> None:
        """Starts the process, which dies with ours, however that ends, unless it `survives`."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*([] if survives else _bound_to_us()), *self._command],
                env=os.environ | self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Waits until the process serves."""
        wait_until(self.ready, f"readiness of {self.log.stem}")

    def ready(self) -> bool:
        """Whether the process serves.

        Raises:
          RuntimeError: it has ended; the message has the end of its log.
        """
        if not self.alive:
            tail = self.log.read_text(errors="replace")[-3000:]
            raise RuntimeError(f"{self.log.stem} ended by itself; {self.log} ends in:\n{tail}")
        return self._serves()

    def kill(self) -> None:
        """Ends the process and its children as a crash would: SIGKILL."""
        end(self.pid, signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def stop(self, timeout_s: float = 20) -> None:
        """Asks the process and its children to end; kills what does not."""
        if self.alive:
            end(self.pid, signal.SIGTERM, timeout_s)
            assert self._process is not None
            self._process.wait()


def _bound_to_us() -> list[str]:
    """What goes before a command that Linux is to kill when the thread that starts it has ended."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []


def end(pid: int, how: signal.Signals, timeout_s: float = 20) -> None:
    """Signals a process and its descendants, and kills those that outlive the timeout."""
    try:
        parent = psutil.Process(pid)
        family = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for member in family:
        _signal(member, how)
    _, left = psutil.wait_procs(family, timeout=timeout_s)
    for member in left:
        _signal(member, signal.SIGKILL)


def _signal(process: psutil.Process, how: signal.Signals) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(how)
