import contextlib
import functools
import gc
import io
import os
import pathlib
import select
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import mischief
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from brightness import Brightness, picture
from PIL import Image
from test_moderate import references, rows, run, steps, timeless  # noqa: F401

from beam_moderation import dead_letters, errors, images, isolation, records
from beam_moderation.decoding import Decoding, decode
from beam_moderation.preparations import Grey, Preparation, Scan, fitted

GENEROUS_S = 60
LIMITS = images.ImageLimits(max_pixels=1_000_000, max_total_pixels=20_000_000)


def decoding(*preparations, limits=LIMITS, sampling=None):
    wanted = preparations or (mischief.mean,)
    return Decoding(wanted, limits, sampling or images.Sampling(), None)


@pytest.fixture
def isolated():
    """Makes decoders that are closed behind the test."""
    made = []

    def make(*preparations, limits=LIMITS, sampling=None, deadline_s=GENEROUS_S, **options):
        how = decoding(*preparations, limits=limits, sampling=sampling)
        made.append(isolation.IsolatedDecoder(how, deadline_s=deadline_s, **options))
        return made[-1]

    yield make
    for decoder in made:
        decoder.close()


def prepared(decoder, data):
    return [frame.prepared for frame in decoder(data)[1]]


def animation(*greys):
    with io.BytesIO() as file:
        first, *others = [Image.new("RGB", (16, 16), (grey,) * 3) for grey in greys]
        first.save(file, "WEBP", save_all=True, append_images=others, lossless=True)
        return file.getvalue()


def encoded(image, kind, **options):
    with io.BytesIO() as file:
        image.save(file, kind, **options)
        return file.getvalue()


def gradient(*size, mode="RGB"):
    return Image.radial_gradient("L").resize(size).convert(mode)


ORDINARY = {
    "jpeg": encoded(gradient(640, 480), "JPEG"),
    "long": encoded(gradient(300, 1500), "JPEG"),
    "transparent": encoded(Image.merge("LA", [gradient(64, 64, mode="L")] * 2), "PNG"),
    "gif": encoded(
        gradient(64, 64),
        "GIF",
        save_all=True,
        append_images=[gradient(64, 64).rotate(angle) for angle in range(10, 300, 10)],
    ),
}


def started_by(process):
    return process.children(recursive=True)


def first_ended(processes):
    """Waits until one of the processes has ended, whether anybody has asked how or not."""
    with contextlib.ExitStack() as stack:
        poll = select.poll()
        for process in processes:
            descriptor = os.pidfd_open(process.pid)
            stack.callback(os.close, descriptor)
            poll.register(descriptor, select.POLLIN)
        assert poll.poll(GENEROUS_S * 1000)


def test_what_is_decoded_is_the_same(isolated):
    preparations = (Preparation((224, 224)), Grey(16_000_000), Scan(736), fitted, mischief.mean)
    decoder, here = isolated(*preparations), decoding(*preparations)
    for data in ORDINARY.values():
        header, frames = decoder(data)
        expected_header, expected_frames = decode(data, here)
        assert header == expected_header
        for frame, expected in zip(frames, expected_frames, strict=True):
            assert frame.frame_index == expected.frame_index
            for ours, theirs in zip(frame.prepared, expected.prepared, strict=True):
                assert type(ours) is type(theirs)
                np.testing.assert_equal(ours, theirs)


def test_processes_that_decode_are_small(isolated):
    preparations = (Preparation((8, 8)), Grey(64), Scan(64), fitted, mischief.heavy_modules)
    assert prepared(isolated(*preparations), picture(9))[0][-1] == []


@pytest.mark.parametrize("data", [b"", b"<html>", picture(9)[:50], picture(9, (1100, 1100))])
def test_an_error_of_an_image_is_the_same(isolated, data):
    with pytest.raises(errors.ImageError) as here:
        list(decode(data, decoding())[1])
    with pytest.raises(errors.ImageError) as there:
        list(isolated()(data)[1])
    assert (type(there.value), str(there.value)) == (type(here.value), str(here.value))


def test_an_error_of_a_preparation_gives_the_same_dead_letter(isolated):
    reference = records.ImageReference("a", None, b"", None, "{}", "file#0")
    letters = []
    for decoder in (isolated(), functools.partial(decode, decoding=decoding())):
        with pytest.raises(Exception, match="no such thing") as raised:
            prepared(decoder, picture(mischief.RAISE))
        letters.append(dead_letters.of(reference, raised.value, "run"))
    assert len({letter._replace(failed_at=None) for letter in letters}) == 1


def test_what_cannot_travel_is_an_error_and_not_a_crash(isolated):
    with pytest.raises(errors.ModerationError, match="pickle") as raised:
        prepared(isolated(), picture(mischief.UNPICKLABLE))
    assert raised.value.code == "error"


@pytest.mark.parametrize(
    ("deed", "message"),
    [
        (mischief.EXIT, "exited with 7"),
        (mischief.SEGFAULT, "ended by SIGSEGV"),
        (mischief.KILL, "ended by SIGKILL"),
    ],
)
def test_a_crash_says_how_the_decoder_ended_and_the_next_image_is_decoded(isolated, deed, message):
    decoder = isolated()
    assert len(prepared(decoder, picture(9))) == 1
    with pytest.raises(errors.DecoderCrashed, match=message):
        prepared(decoder, picture(deed))
    assert len(prepared(decoder, picture(9))) == 1


def test_a_decoder_that_does_not_end_is_ended(isolated):
    decoder = isolated(deadline_s=2)
    with pytest.raises(errors.DecoderTimeout, match="2 s"):
        prepared(decoder, picture(mischief.LOOP))
    assert len(prepared(decoder, picture(9))) == 1


def test_memory_beyond_the_bound_is_refused(isolated):
    decoder = isolated(mischief.take, memory_bytes=200 * 2**20)
    assert prepared(decoder, picture(9, (150, 1))) == [[150]]
    with pytest.raises(errors.OutOfMemory, match="MemoryError"):
        prepared(decoder, picture(9, (200, 1)))
    assert prepared(decoder, picture(9, (150, 1))) == [[150]]


def test_a_picture_that_needs_more_than_the_bound_is_refused(isolated):
    large = picture(9, (3000, 3000))
    limits = images.ImageLimits()
    with pytest.raises(errors.OutOfMemory, match="MemoryError"):
        prepared(isolated(limits=limits, memory_bytes=20 * 2**20), large)
    assert len(prepared(isolated(limits=limits), large)) == 1


def test_memory_is_there_for_the_largest_file(isolated):
    limits = images.ImageLimits(max_pixels=1_000_000)
    large = picture(51) + bytes(320 * 2**20)
    assert prepared(isolated(limits=limits, max_bytes=len(large)), large) == [[0.2]]
    with pytest.raises(errors.DecoderCrashed):
        prepared(isolated(limits=limits, max_bytes=0), large)


def test_a_crash_behind_the_first_frame_comes_while_iterating(isolated):
    _, frames = isolated()(animation(10, 20, mischief.SEGFAULT, 30))
    assert next(frames).frame_index == 0
    with pytest.raises(errors.DecoderCrashed):
        list(frames)


def test_frames_that_nobody_takes_cost_no_other_image(isolated):
    decoder = isolated()
    _, frames = decoder(animation(*range(10, 100, 10)))
    next(frames)
    frames.close()
    assert prepared(decoder, picture(51)) == [[pytest.approx(0.2)]]


def test_frames_that_are_not_even_begun_leave_no_process(isolated):
    decoder = isolated()
    _, frames = decoder(animation(*range(10, 100, 10)))
    (process,) = psutil.Process(decoder._server._process.pid).children()
    del frames
    gc.collect()
    assert not process.is_running()


def test_eight_threads_get_each_its_own_answer(isolated):
    decoder = isolated()

    def outcome(grey):
        try:
            return prepared(decoder, picture(grey))[0][0]
        except errors.ImageError as error:
            return error.code

    greys = [mischief.EXIT if n % 11 == 0 else 50 + n for n in range(150)]
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(outcome, greys))
    expected = [
        "decoder-crashed" if grey == mischief.EXIT else pytest.approx(grey / 255) for grey in greys
    ]
    assert outcomes == expected


def test_a_process_that_was_ended_while_idle_is_blamed_on_no_image(isolated):
    decoder = isolated()
    prepared(decoder, picture(9))
    (server,) = psutil.Process().children()
    (idle,) = server.children()
    idle.kill()
    first_ended([idle])
    assert len(prepared(decoder, picture(9))) == 1


def test_a_server_that_was_ended_is_replaced(isolated):
    decoder = isolated()
    prepared(decoder, picture(9))
    (server,) = psutil.Process().children()
    server.kill()
    first_ended([server])
    with pytest.raises(errors.DecoderCrashed):
        prepared(decoder, picture(mischief.EXIT))
    assert len(prepared(decoder, picture(9))) == 1


def test_a_server_whose_end_nobody_noticed_is_replaced_and_no_image_is_blamed(
    isolated, monkeypatch
):
    decoder = isolated()
    busy = decoder(picture(9))
    (server,) = psutil.Process().children()
    server.kill()
    first_ended([server])
    monkeypatch.setattr(isolation._Server, "is_alive", lambda _: True)
    assert len(prepared(decoder, picture(9))) == 1
    del busy


BROKEN = {
    "ends": "import os, sys; os.fork = sys.exit\n",
    "cannot fork": "import os; os.fork = lambda: os.open('/no/such', 0)\n",
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_system_that_gives_no_process_stops_the_job_and_blames_no_image(
    isolated, monkeypatch, how
):
    monkeypatch.setattr(isolation, "_BOOT", BROKEN[how] + isolation._BOOT)
    with pytest.raises(errors.ConfigurationError, match="cannot be decoded in isolation: "):
        isolated()(picture(9))


@pytest.mark.parametrize("end", [isolation.IsolatedDecoder.close, None], ids=["closed", "dropped"])
def test_no_process_is_left(end):
    before = set(started_by(psutil.Process()))
    decoder = isolation.IsolatedDecoder(decoding())
    prepared(decoder, picture(9))
    started = set(started_by(psutil.Process())) - before
    assert len(started) == 2
    if end:
        end(decoder)
    del decoder
    gc.collect()
    _, alive = psutil.wait_procs(started, timeout=GENEROUS_S)
    assert not alive


LOOPING_WORKER = """
import sys, threading, time
sys.path.insert(0, sys.argv[1])
import mischief
from beam_moderation import decoding, images, isolation

how = decoding.Decoding([mischief.mean], images.ImageLimits(), images.Sampling(), None)
decoder = isolation.IsolatedDecoder(how, deadline_s=float(sys.argv[2]))
ordinary, looping = [bytes.fromhex(data) for data in sys.argv[3:]]
header, frames = decoder(ordinary)
threading.Thread(target=lambda: list(decoder(looping)[1])).start()
list(frames)
"""


@pytest.fixture
def looping_worker(tmp_path):
    """Starts a process with a server, an idle decoder and one in an endless loop."""
    workers = []

    def start(deadline_s):
        folder = str(pathlib.Path(__file__).parent)
        pictures = [picture(grey).hex() for grey in (9, mischief.LOOP)]
        command = [sys.executable, "-c", LOOPING_WORKER, folder, str(deadline_s), *pictures]
        os.mkfifo(tmp_path / "fifo")
        environment = {**os.environ, "MISCHIEF_FIFO": str(tmp_path / "fifo")}
        workers.append(subprocess.Popen(command, env=environment))
        assert (tmp_path / "fifo").read_text() == "looping"
        return psutil.Process(workers[-1].pid)

    yield start
    for worker in workers:
        worker.kill()
        worker.wait()


def test_no_process_outlives_a_worker_that_is_killed(looping_worker):
    worker = looping_worker(GENEROUS_S)
    started = started_by(worker)
    assert len(started) == 3
    worker.kill()
    _, alive = psutil.wait_procs(started, timeout=GENEROUS_S / 2)
    assert not alive


def test_a_decoder_that_nobody_can_end_ends_by_its_own_alarm(looping_worker):
    worker = looping_worker(1)
    worker.suspend()
    (server,) = worker.children()
    decoders = server.children()
    assert len(decoders) == 2
    server.kill()
    first_ended(decoders)


@pytest.mark.parametrize("preparation", [lambda frame: frame, "a module that is not there"])
def test_preparations_that_cannot_travel_are_a_mistake(isolated, preparation):
    if isinstance(preparation, str):
        module = type(sys)("not_there")
        exec("def prepare(frame):\n    return 0", module.__dict__)
        sys.modules["not_there"], preparation = module, module.prepare
    with pytest.raises(errors.ConfigurationError, match="in isolation: "):
        isolated(preparation)(picture(9))


@pytest.fixture
def mischievous(tmp_path):
    """References to ordinary pictures and between them those that end their decoder."""
    names = []
    for deed in mischief.CODES:
        for grey in (deed, 100 + deed):
            names.append(f"{grey}.png")
            (tmp_path / names[-1]).write_bytes(picture(grey))
    path = tmp_path / "references.parquet"
    pq.write_table(pa.table({"data_id": names, "uri": names, "user": ["kim"] * len(names)}), path)
    return path


def test_each_image_that_ends_its_decoder_is_one_dead_letter(mischievous, tmp_path):
    judge = Brightness()
    judge.prepare = mischief.mean
    limits = images.ImageLimits(max_pixels=1_000_000)
    run(
        steps(
            mischievous,
            tmp_path / "out",
            judge,
            isolate=True,
            isolation_deadline_s=6,
            limits=limits,
        )
    )
    dead = {
        row.data_id: (row.code, row.retryable) for row in rows(tmp_path / "out", "dead_letters")
    }
    assert dead == {
        f"{deed}.png": (code, code in ("decoder-timeout", "out-of-memory"))
        for deed, code in mischief.CODES.items()
    }
    judged = {row.data_id for row in rows(tmp_path / "out", "images")}
    assert judged == {f"{100 + deed}.png" for deed in mischief.CODES}


def test_rows_are_the_same_with_isolation(references, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("PYTHONPATH", str(pathlib.Path(__file__).parent))
    flags = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    judge = Brightness()
    judge.prepare = mischief.mean
    run(steps(references, tmp_path / "expected", judge))
    run(steps(references, tmp_path / "out", judge, isolate=True), *flags)
    for table in records.TABLES:
        assert timeless(rows(tmp_path / "out", table)) == timeless(
            rows(tmp_path / "expected", table)
        )
