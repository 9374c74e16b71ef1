"""Every file of a corpus of hostile and ordinary images ends in frames or in one error.

The corpus is any folder: `BEAM_MODERATION_CORPUS` names it. What becomes of a single file is never
asserted, for it changes with every version of a decoder.
"""

import contextlib
import itertools
import os
import pathlib
import sys

import decoding
import judging_folder
import psutil
import pytest

from beam_moderation import errors, images, tables
from beam_moderation.decoding import Decoding
from beam_moderation.isolation import IsolatedDecoder
from beam_moderation.preparations import Preparation

MAX_PIXELS, MAX_S = 50_000_000, 5


def corpus():
    """The files of the corpus, none where there is none."""
    folder = os.environ.get("BEAM_MODERATION_CORPUS", "")
    return sorted(filter(pathlib.Path.is_file, pathlib.Path(folder).rglob("*"))) if folder else []


pytestmark = [
    pytest.mark.corpus,
    pytest.mark.skipif(not corpus(), reason="BEAM_MODERATION_CORPUS names no folder with files"),
    pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is Linux's to keep"),
]


def test_every_file_ends_in_frames_or_one_error_in_time_and_memory():
    files = corpus()
    found = decoding.sweep(files, MAX_PIXELS)
    assert len(found) == len(files)
    assert {path: one for path, one in found.items() if one["took_s"] > MAX_S} == {}
    assert {path: one for path, one in found.items() if "MemoryError" in str(one["outcome"])} == {}


def test_every_file_ends_as_well_in_isolation():
    limits = images.ImageLimits(max_pixels=MAX_PIXELS)
    how = Decoding((Preparation((32, 32)),), limits, images.Sampling(), None)
    files = corpus()
    alone = decoding.sweep(files, MAX_PIXELS)
    found, slow = {}, {}
    with contextlib.closing(IsolatedDecoder(how)) as decoder:
        for path in files:
            before_s = decoders_cpu_s()
            found[str(path)] = isolated(decoder, path.read_bytes())
            if (took_s := decoders_cpu_s() - before_s) > MAX_S:
                slow[path] = took_s
    assert slow == {}
    late = errors.DecoderTimeout.code
    assert [path for path, outcome in found.items() if str(outcome).startswith(late)] == []
    assert found == {path: one["outcome"] for path, one in alone.items()}


def decoders_cpu_s():
    """The CPU time of the processes that decode; one that was ended has had its deadline."""
    taken_s = 0.0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            taken_s += times.user + times.system
    return taken_s


def test_every_file_ends_once_in_the_tables_of_a_worker(tmp_path):
    folder = pathlib.Path(os.environ["BEAM_MODERATION_CORPUS"]).resolve()
    names = [str(path.resolve().relative_to(folder)) for path in corpus()]
    limits = images.ImageLimits(max_pixels=MAX_PIXELS)
    crew = judging_folder.worker_of(folder, limits, threads=2)
    written = tables.Tables(str(tmp_path))
    for number, first in enumerate(range(0, len(names), 256)):
        batch = judging_folder.batch_of(names[first : first + 256], f"{number}")
        written.write(crew.begin(batch, f"{number}").result().outcome)
    commits = [written.commit(batch_id) for batch_id in written.batch_ids()]
    outcomes = [judging_folder.ends(written.read(commit)) for commit in commits]
    assert sorted(name for name, _ in itertools.chain(*outcomes)) == sorted(names)
    assert sum(commit.references for commit in commits) == len(names)


def isolated(decoder, data):
    """As `decoding.outcome`."""
    try:
        _, frames = decoder(data)
        return sum(1 for _ in frames)
    except errors.ImageError as error:
        return f"{error.code}: {error}"
