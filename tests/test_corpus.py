"""Every file of a corpus of hostile and ordinary images ends in frames or in one error.

The corpus is any folder: `BEAM_MODERATION_CORPUS` names it. What becomes of a single file is never
asserted, for it changes with every version of a decoder.
"""

import os
import pathlib
import sys

import decoding
import pytest

MAX_PIXELS, MAX_S = 50_000_000, 5


def corpus():
    """The files of the corpus, none where there is none."""
    folder = os.environ.get("BEAM_MODERATION_CORPUS", "")
    return sorted(filter(pathlib.Path.is_file, pathlib.Path(folder).rglob("*"))) if folder else []


@pytest.mark.corpus
@pytest.mark.skipif(not corpus(), reason="BEAM_MODERATION_CORPUS names no folder with files")
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is Linux's to keep")
def test_every_file_ends_in_frames_or_one_error_in_time_and_memory():
    files = corpus()
    found = decoding.sweep(files, MAX_PIXELS)
    assert len(found) == len(files)
    assert {path: one for path, one in found.items() if one["took_s"] > MAX_S} == {}
    assert {path: one for path, one in found.items() if "MemoryError" in str(one["outcome"])} == {}
