"""Judges the files of a folder with a worker of several threads within a limit of memory, a script.

Prints a JSON object: the outcome of each file by its name. In a process of its own, as `decoding`.
"""

import functools
import json
import pathlib
import subprocess
import sys

from brightness import BRIGHT, Brightness
from decoding import limit_memory

from beam_moderation import decoding as decoding_
from beam_moderation import (
    examination,
    fetch,
    filesystems,
    images,
    judging,
    policy,
    records,
    worker,
)


def judge(folder, max_pixels, threads, timeout_s=240):
    """The suggestion, or the code and the message, of each file under the documented bound."""
    answer = subprocess.run(
        [sys.executable, __file__, str(folder), str(max_pixels), str(threads)],
        check=False,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        # Each thread of a decoder would reserve 128 MB of addresses for an allocator of its own.
        env={"MALLOC_ARENA_MAX": "1", "PYTHONPATH": ":".join(sys.path)},
    )
    assert answer.returncode == 0, answer.stderr[-2000:]
    return json.loads(answer.stdout)


def worker_of(folder, limits, threads):
    """A worker that may read what is below a folder, and waits for its files as long as needed."""
    how = decoding_.Decoding.for_judges([Brightness()], limits, images.Sampling())
    examiner = examination.Examiner(
        functools.partial(decoding_.decode, decoding=how),
        judging.Panel([Brightness()]),
        policy.Policy(BRIGHT),
        "run",
    )
    readable = filesystems.Filesystems.of(roots=[str(folder)], base=f"file://{folder}/")
    patient = fetch.FetchLimits(deadline_s=60)
    return worker.Worker(examiner.examine, fetch.Fetcher(readable, patient), threads, "run")


def batch_of(names, batch_id="b"):
    """References to files by their names."""
    rows = [
        records.ImageReference(name, name, None, None, "{}", f"f#{n}")
        for n, name in enumerate(names)
    ]
    return records.ReferenceBatch(
        batch_id,
        records.to_arrow(rows, records.ImageReference),
        records.to_arrow([], records.DeadLetter),
    )


def ends(outcome):
    """What became of each reference, by its id; a list, for each is to end once."""
    judged = records.from_arrow(outcome.images, records.ImageResult)
    dead = records.from_arrow(outcome.dead_letters, records.DeadLetter)
    return [(row.data_id, row.suggestion) for row in judged] + [
        (row.data_id, f"{row.code}: {row.message}") for row in dead
    ]


def main():
    """Judges all files, and a small one first, so that what is loaded once is no file's memory."""
    folder, limits = pathlib.Path(sys.argv[1]), images.ImageLimits(max_pixels=int(sys.argv[2]))
    threads = int(sys.argv[3])
    from PIL import Image, ImageCms  # noqa: F401

    Image.init()
    crew = worker_of(folder, limits, threads)
    names = sorted(path.name for path in folder.iterdir())
    smallest = min(names, key=lambda name: (folder / name).stat().st_size)
    crew.begin(batch_of([smallest] * 8), "first").result()
    limits_of_fetching = fetch.FetchLimits()
    held_bytes = 2 * (2 * limits_of_fetching.buffer_bytes + limits_of_fetching.max_bytes)
    limit_memory(limits, limits_of_fetching.max_bytes, threads, held_bytes)
    found = ends(crew.begin(batch_of(names), "all").result().outcome)
    assert sorted(name for name, _ in found) == names
    sys.stdout.write(json.dumps(dict(found)))


if __name__ == "__main__":
    main()
