"""The processes behind `IsolatedDecoder`: a server that forks decoders, and the decoders.

The server runs in an interpreter of its own, in one thread, so that forking it is safe; it has
imported what decoding needs, so that a fork costs milliseconds and shares its memory. It ends when
the worker does, and kills the decoders that are left. They would end by themselves: one that waits
sees its connection close, one that decodes has an alarm set.

The server is asked, over its standard input, for one thing at a time: with a connection it forks a
decoder for it and answers its id, or why it cannot; with an id it ends that decoder and answers its
exit code. A
decoder takes images as pickled bytes and answers with a pickled `Header`, each `PreparedFrame` and
None, or an error in the place of any of them.
"""

import contextlib
import gc
import os
import pickle
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from PIL import AvifImagePlugin

from beam_moderation import errors
from beam_moderation.decoding import Decoding, decode

if sys.platform != "win32":
    import resource

PROCESS_ID = struct.Struct("=q")
"""What the server is asked with: the id of a decoder to end, or 0 beside a connection."""

_ALARM_MARGIN_S = 1.0
"""How much later than the worker's deadline a decoder's own alarm is."""


class Job(NamedTuple):
    """What a decoder works on and with; see `IsolatedDecoder`."""

    decoding: Decoding
    deadline_s: float
    memory_bytes: int


def main() -> None:
    """Answers the worker at the other end of standard input until it is gone.

    The first answer is empty, or why there can be no decoders.
    """
    control = socket.socket(fileno=sys.stdin.fileno())
    try:
        job = pickle.load(sys.stdin.buffer)  # noqa: S301
    except Exception as error:  # noqa: BLE001
        _send(control, f"{type(error).__name__}: {error}")
        return
    _send(control, "")
    gc.freeze()  # or collecting garbage would write to the memory that decoders share
    with contextlib.suppress(ConnectionError):
        _serve(control, job)


def _serve(control: socket.socket, job: Job) -> None:
    decoders: set[int] = set()
    try:
        while True:
            request, connections, *_ = socket.recv_fds(control, PROCESS_ID.size, 1)
            if not request:
                return
            if connections:
                _send(control, _started(connections[0], job, decoders))
            else:
                (process_id,) = PROCESS_ID.unpack(request)
                decoders.remove(process_id)
                _send(control, _end(process_id))
    finally:
        for process_id in decoders:
            _end(process_id)


def _started(connection: int, job: Job, decoders: set[int]) -> int | str:
    """The id of a new decoder, or why there is none."""
    try:
        process_id = _fork(connection, job)
    except OSError as error:
        os.close(connection)
        return f"{type(error).__name__}: {error}"
    decoders.add(process_id)
    return process_id


def _send(control: socket.socket, answer: object) -> None:
    control.sendall(pickle.dumps(answer))


def _end(process_id: int) -> int:
    """The exit code, negative for a signal, of a decoder that has ended or is killed now."""
    os.kill(process_id, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process_id, 0)[1])


def _fork(connection: int, job: Job) -> int:
    process_id = os.fork()
    if process_id:
        os.close(connection)
        return process_id
    try:
        _confine(job.memory_bytes)
        _decode_all(socket.socket(fileno=connection), job)
    except (EOFError, ConnectionError):
        os._exit(0)
    finally:
        os._exit(1)


def _confine(memory_bytes: int) -> None:
    """Sees that only this process suffers from an image.

    It lets go of the server's connection, and of standard error, where libraries may write.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # each would take address space for its stack
    if sys.platform == "linux":
        _limit_address_space(memory_bytes)
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
            score.write("1000")  # where memory runs out, the kernel is to take this process


def _limit_address_space(memory_bytes: int) -> None:
    with open("/proc/self/statm") as sizes:
        taken = int(sizes.read().split()[0]) * resource.getpagesize()
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    wanted = taken + memory_bytes
    limit = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))


def _decode_all(worker: socket.socket, job: Job) -> None:
    stream = worker.makefile("rwb")
    while True:
        answers = _answers(pickle.load(stream), job.decoding)  # noqa: S301
        while (answer := _in_time(answers, job.deadline_s)) is not None:
            stream.write(answer)
            stream.flush()


def _in_time(answers: Iterator[bytes], deadline_s: float) -> bytes | None:
    """The next answer; the kernel ends this process where it does not come.

    A worker that lives has ended it before: this is for decoders that outlive their worker.
    """
    signal.setitimer(signal.ITIMER_REAL, deadline_s + _ALARM_MARGIN_S)
    answer = next(answers, None)
    signal.setitimer(signal.ITIMER_REAL, 0)
    return answer


def _answers(data: bytes, decoding: Decoding) -> Iterator[bytes]:
    try:
        header, frames = decode(data, decoding)
        yield _pickled(header)
        for frame in frames:
            yield _pickled(frame)
            del frame
        yield _pickled(None)
    except errors.ImageError as error:
        yield _pickled(error)
    except MemoryError as error:
        yield _pickled(errors.OutOfMemory(_described(error)))
    except Exception as error:  # noqa: BLE001
        yield _pickled(errors.ModerationError(_described(error)))


def _pickled(answer: Any) -> bytes:
    return pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
