"""Decodes files that are named on standard input within a limit of memory, as a script.

Prints a JSON object a file: its path, its outcome, and the seconds of CPU that it took. A thread
would share its memory with the test; a process of its own can be held to the bound that is
promised.
"""

import json
import pathlib
import resource
import subprocess
import sys
import time

from beam_moderation import errors, images

_SLACK_BYTES = 16 << 20
"""For the interpreter itself while it works, and for what the allocator keeps back."""


def sweep(paths, max_pixels, timeout_s=240):
    """The outcome and the CPU seconds of each file, by path, decoded under the documented bound."""
    answer = subprocess.run(
        [sys.executable, __file__, str(max_pixels)],
        check=False,
        input="\n".join(map(str, paths)),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        # Each thread of a decoder would reserve 128 MB of addresses for an allocator of its own.
        env={"MALLOC_ARENA_MAX": "1", "PYTHONPATH": ":".join(sys.path)},
    )
    assert answer.returncode == 0, answer.stderr[-2000:]
    return {found["path"]: found for found in map(json.loads, answer.stdout.splitlines())}


def limit_memory(limits, largest, threads=1, held_bytes=0):
    """Lets the process have, beside what it has, what is documented for so many threads."""
    status = pathlib.Path("/proc/self/status").read_text()
    held = int(status.split("VmSize:")[1].split()[0]) << 10
    each = limits.max_pixels * images.BYTES_PER_PIXEL + 3 * largest
    most = threads * each + held_bytes + _SLACK_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (held + most, held + most))


def outcome(data, limits):
    """How many frames came, or the code and the message of the error."""
    try:
        return sum(1 for _ in images.frames(data, limits, images.Sampling()))
    except errors.ImageError as error:
        return f"{error.code}: {error}"


def main():
    """Decodes the files one after the other."""
    limits = images.ImageLimits(max_pixels=int(sys.argv[1]))
    paths = [pathlib.Path(line) for line in sys.stdin.read().splitlines()]
    # What is loaded when a picture first needs it is no memory of that picture.
    from PIL import Image, ImageCms  # noqa: F401

    Image.init()
    limit_memory(limits, max(path.stat().st_size for path in paths))
    for path in paths:
        started = time.process_time()
        found = outcome(path.read_bytes(), limits)
        took_s = time.process_time() - started
        line = json.dumps({"path": str(path), "outcome": found, "took_s": took_s})
        sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
