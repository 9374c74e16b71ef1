"""What goes wrong in a process that decodes, chosen by the shade of grey of the picture.

Imports little, as the processes that import it are to be small.
"""

import os
import signal
import sys

EXIT, SEGFAULT, LOOP, EXHAUST, RAISE, UNPICKLABLE, KILL = range(1, 8)

CODES = {
    EXIT: "decoder-crashed",
    SEGFAULT: "decoder-crashed",
    LOOP: "decoder-timeout",
    EXHAUST: "out-of-memory",
    KILL: "decoder-crashed",
}
"""The dead letter that each is to end as. `KILL` is what a kernel does that is out of memory."""

HEAVY = {"apache_beam", "onnxruntime", "pyarrow", "grpc", "rapidocr", "zxingcpp"}


def _loop():
    if "MISCHIEF_FIFO" in os.environ:
        with open(os.environ["MISCHIEF_FIFO"], "w") as fifo:
            fifo.write("looping")
    while True:
        pass


def _exhaust():
    taken = []
    while True:
        taken.append(bytearray(1_000_000))


def _raise():
    raise KeyError("no such thing")


DEEDS = {
    EXIT: lambda: os._exit(7),
    SEGFAULT: lambda: os.kill(os.getpid(), signal.SIGSEGV),
    LOOP: _loop,
    EXHAUST: _exhaust,
    RAISE: _raise,
    UNPICKLABLE: lambda: lambda: None,
    KILL: lambda: os.kill(os.getpid(), signal.SIGKILL),
}


def mean(frame):
    """The mean of a picture in [0, 1], as `brightness.mean`, or what its shade asks for."""
    grey = frame.getpixel((0, 0))[0]
    if grey in DEEDS:
        return DEEDS[grey]()
    reduced = frame.convert("L").resize((8, 8)).tobytes()
    return sum(reduced) / len(reduced) / 255


def take(frame):
    """Takes as many megabytes as the picture is wide."""
    return len(bytearray(frame.width * 2**20)) >> 20


def heavy_modules(frame):
    """What has been imported that should not be."""
    return sorted(HEAVY & sys.modules.keys())
