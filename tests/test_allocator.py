"""How much memory threads keep from each other."""

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, re, sys, threading
from beam_moderation.cli import allocator

if sys.argv[1] == "shared":
    allocator.share_arenas()
held = threading.Barrier(9)

def allocate():
    kept = [bytearray(100_000) for _ in range(10)]
    held.wait()
    held.wait()

threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads:
    thread.start()
held.wait()
libc = ctypes.CDLL(None)
stream = libc.fopen
stream.restype = ctypes.c_void_p
file = ctypes.c_void_p(stream(sys.argv[2].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
held.wait()
print(len(re.findall("<heap nr=", open(sys.argv[2]).read())))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_threads_share_two_arenas(tmp_path):
    def arenas(how):
        command = [sys.executable, "-c", PROGRAM, how, str(tmp_path / "info.xml")]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert arenas("shared") <= 2 < arenas("alone")
