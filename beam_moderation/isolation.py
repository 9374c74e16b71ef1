"""`IsolatedDecoder`: decoding in processes of which an image may take down one, and nothing else.

This holds what a decoder does to its process by accident: a crash, an exit, memory without bound, a
loop without end. It is no sandbox: whoever takes over a decoder has the rights of the worker.
"""

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import IO, Any

from beam_moderation import errors, images
from beam_moderation.decoding import Decoding, Header, PreparedFrame
from beam_moderation.decoding_server import PROCESS_ID, Job

DEADLINE_S = 5.0
"""The slowest of 10,710 hostile files took 2.7 s to decode on two loaded cores."""

BASE_BYTES = 256 * 2**20
"""What a decoder may take beside its pixels and the file's bytes: its own code's."""

_BOOT = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from beam_moderation import decoding_server; decoding_server.main()"
)

_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
"""No threads in a process that forks, and no address space for the heaps of threads."""


class IsolatedDecoder:
    """A `Decoder` that costs one image what it would have cost the process. Thread-safe.

    As many processes decode as threads ask at once. They are forked when they are needed, by a
    server that the first image starts, and end with this object or with this process, whichever
    way it ends. A frame is decoded while the one before it is judged, and none further ahead.

    Args:
      decoding: what is decoded, and how. Its preparations travel pickled, by name, so what they
        name must be importable; and their modules are imported by a process that forks, so they
        must not start threads when they are imported.
      deadline_s: how long the header or a frame may take.
      max_bytes: the size of the largest file.
      memory_bytes: what a decoding process may take beside what its code takes (on Linux); by
        default `images.BYTES_PER_PIXEL` for each of `max_pixels`, three times `max_bytes`, and
        `BASE_BYTES`.

    Raises:
      ConfigurationError: this platform cannot fork.
    """

    def __init__(
        self,
        decoding: Decoding,
        *,
        deadline_s: float = DEADLINE_S,
        max_bytes: int = 20_000_000,
        memory_bytes: int | None = None,
    ) -> None:
        if not hasattr(os, "fork"):
            raise errors.ConfigurationError("isolation needs a platform that can fork")
        pixels_bytes = images.BYTES_PER_PIXEL * decoding.limits.max_pixels
        needed = pixels_bytes + 3 * max_bytes + BASE_BYTES
        self._job = Job(decoding, deadline_s, memory_bytes or needed)
        self._idle: list[_Process] = []
        self._server: _Server | None = None
        self._starting = threading.Lock()

    def __call__(self, data: bytes) -> tuple[Header, Iterator[PreparedFrame]]:
        """The header and then the frames, one at a time.

        Raises:
          DecoderCrashed: the image ended its process; also while iterating.
          DecoderTimeout: the header or a frame took too long; also while iterating.
          ImageError: as where it is decoded in this process.
          ConfigurationError: no process can be started, for the reason that the message gives.
        """
        answers = self._answers(self._process_with(data))
        return next(answers), answers

    def close(self) -> None:
        """Ends all processes; an image that is being decoded ends as `DecoderCrashed`."""
        with self._starting:
            if self._server is not None:
                self._server.close()
            self._idle, self._server = [], None

    def _process_with(self, data: bytes) -> "_Process":
        """A process that was alive to take the image."""
        for process in self._processes():
            with contextlib.suppress(OSError):
                process.send(data)
                return process
            process.end()
        raise errors.DecoderCrashed("the decoder ended before it was given the image")

    def _processes(self) -> Iterator["_Process"]:
        """The idle processes, which may have ended meanwhile, and then a new one."""
        with contextlib.suppress(IndexError):
            while True:
                yield self._idle.pop()
        yield self._new_process()

    def _new_process(self) -> "_Process":
        """A process of the server that there is, or of one in its place where that has ended."""
        server = self._running_server(None)
        try:
            return server.fork()
        except (EOFError, OSError):
            server = self._running_server(server)
        try:
            return server.fork()
        except (EOFError, OSError) as error:
            raise errors.ConfigurationError(_cannot(f"{type(error).__name__}: {error}")) from error

    def _running_server(self, ended: "_Server | None") -> "_Server":
        with self._starting:
            if self._server is ended or self._server is None or not self._server.is_alive():
                self._server = _Server(self._job)
            return self._server

    def _answers(self, process: "_Process") -> Iterator[Any]:
        """The header and then the frames; who leaves some of them has the process ended."""
        ahead = self._answer(process)
        try:
            yield ahead
            ahead = self._answer(process)
            while ahead is not None:
                frame, ahead = ahead, self._answer(process)
                yield frame
        except GeneratorExit:
            if ahead is not None:
                process.end()
            raise

    def _answer(self, process: "_Process") -> Any:
        """What a process answers next; with the last answer it is idle."""
        try:
            answer = process.receive()
        except TimeoutError as error:
            process.end()
            raise errors.DecoderTimeout(f"no frame within {self._job.deadline_s} s") from error
        except Exception as error:
            raise errors.DecoderCrashed(process.end()) from error
        if answer is None or isinstance(answer, errors.ModerationError):
            self._idle.append(process)
        if isinstance(answer, errors.ModerationError):
            raise answer
        return answer


class _Process:
    """A decoding process: takes an image, answers as `decoding_server` says."""

    def __init__(self, process_id: int, connection: socket.socket, server: "_Server") -> None:
        self._id, self._server = process_id, server
        self._stream = connection.makefile("rwb")

    def send(self, data: bytes) -> None:
        pickle.dump(data, self._stream, pickle.HIGHEST_PROTOCOL)
        self._stream.flush()

    def receive(self) -> Any:
        return pickle.load(self._stream)  # noqa: S301

    def end(self) -> str:
        """Ends the process; says how it had ended where it had."""
        with contextlib.suppress(OSError):
            self._stream.close()
        return self._server.end(self._id)


class _Server:
    """The process that forks the others; it ends with this object. Thread-safe.

    Raises:
      ConfigurationError: it does not start.
    """

    def __init__(self, job: Job) -> None:
        try:
            start = pickle.dumps(sys.path) + pickle.dumps(job)
        except Exception as error:
            raise errors.ConfigurationError(_cannot(f"{type(error).__name__}: {error}")) from error
        self._deadline_s, self._asking = job.deadline_s, threading.Lock()
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-c", _BOOT],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env={**os.environ, **_ENVIRONMENT},
                start_new_session=True,
            )
        self._answers = self._control.makefile("rb")
        self.close = weakref.finalize(self, _stop, self._process, self._control, self._answers)
        self._check(start)

    def _check(self, start: bytes) -> None:
        try:
            self._control.sendall(start)
            problem = pickle.load(self._answers)  # noqa: S301
        except (EOFError, ConnectionError):
            problem = "the interpreter ended"
        if problem:
            self.close()
            raise errors.ConfigurationError(_cannot(problem))

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def fork(self) -> _Process:
        """A new process.

        Raises:
          ConfigurationError: the system gives none.
          EOFError, OSError: this server has ended.
        """
        ours, theirs = socket.socketpair()
        ours.settimeout(self._deadline_s)
        with ours, theirs:
            process_id = self._ask(0, theirs)
            return _Process(process_id, ours, self)

    def end(self, process_id: int) -> str:
        """Ends a process; says how it had ended where it had."""
        try:
            code = self._ask(process_id)
        except (EOFError, OSError):
            return "the decoder ended"
        if code < 0:
            return f"the decoder was ended by {signal.Signals(-code).name}"
        return f"the decoder exited with {code}"

    def _ask(self, process_id: int, *connections: socket.socket) -> int:
        descriptors = [connection.fileno() for connection in connections]
        with self._asking:
            socket.send_fds(self._control, [PROCESS_ID.pack(process_id)], descriptors)
            answer = pickle.load(self._answers)  # noqa: S301
        if isinstance(answer, str):
            raise errors.ConfigurationError(_cannot(answer))
        return int(answer)


def _stop(process: "subprocess.Popen[bytes]", control: socket.socket, answers: IO[bytes]) -> None:
    answers.close()
    control.close()
    process.wait()


def _cannot(reason: str) -> str:
    return f"images cannot be decoded in isolation: {reason}"
