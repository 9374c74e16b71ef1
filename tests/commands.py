"""Runs `beam-moderation backfill` over a small sample, in this process or in one of its own."""

import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from brightness import picture

from beam_moderation import cli

PROGRAM = [sys.executable, "-c", "from beam_moderation import cli; cli.main()"]


def run(monkeypatch, *arguments):
    """Runs the command in this process; returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["beam-moderation", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code or 0


def write_sample(folder):
    """Three pictures, a text, and the references to them and to nothing."""
    for name, grey in {"a": 0, "b": 100, "c": 250}.items():
        (folder / f"{name}.png").write_bytes(picture(grey))
    (folder / "page.png").write_text("<html>")
    names = ["a.png", "b.png", "c.png", "page.png", "gone.png"]
    references = pa.table({"data_id": names, "uri": names, "n": range(5)})
    pq.write_table(references, folder / "references.parquet")
    return folder


def without_judge(sample, *more, root=None):
    """The arguments of a backfill that has no judge yet."""
    references, out = sample / "references.parquet", sample / "out"
    return ["backfill", references, "--out", out, "--local-root", root or sample, *more]


def backfill(sample, *more, root=None):
    """The arguments of a backfill by a scanner."""
    return without_judge(sample, "--scanner", "qrcode", *more, root=root)


def write_many(folder, count):
    """References to one picture under many ids."""
    (folder / "a.png").write_bytes(picture(40, (600, 600)))
    ids = [f"{n}" for n in range(count)]
    pq.write_table(
        pa.table({"data_id": ids, "uri": ["a.png"] * count}), folder / "references.parquet"
    )


def start(folder, stderr=subprocess.PIPE):
    """A backfill in small batches, as a process of its own."""
    arguments = [str(a) for a in backfill(folder, "--batch-size", "8")]
    return subprocess.Popen(
        [*PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=stderr, text=True
    )


def committed(folder):
    """How many batches are finished."""
    return len(list(folder.glob("out/_batches/*.json")))


def wait_for_batches(folder, process, count):
    """Waits until a process has finished so many."""
    while committed(folder) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
