"""Pipelines that wait for a vendor's deliveries, and the commands that take and read them."""

import contextlib
import json
import subprocess
import sys
import threading

import pytest
from deliveries import SEED, UID, files, form, post, result, serving
from vendor_jobs import KEYS, by_id, rows, run, suggestions, truths, vendor_at, write_references

from beam_moderation import callbacks, cli
from beam_moderation.callbacks import service
from beam_moderation.emulator import Fault, FaultSpec

PROGRAM = [sys.executable, "-c", "from beam_moderation import cli; cli.main()"]
VARIABLES = {
    "ALIBABA_CLOUD_ACCESS_KEY_ID": "testid",
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "testsecret",
}
URLS = by_id([f"https://img.example.com/{n}.jpg" for n in range(20)])


@pytest.fixture
def serve():
    """Starts the service on a free port; returns its URL. All stop after the test."""
    with contextlib.ExitStack() as stack:

        def start(proof, store):
            return stack.enter_context(serving(service.app(proof, store, "/cb"))) + "/cb"

        yield start


def faults(*kinds, **fields):
    return FaultSpec(faults=[Fault(kind=k, operation="callback", **fields) for k in kinds])


def deliver(serve, emulate, folder, name, spec=None):
    """An emulated vendor that posts to the service, and the inbox of the pipeline."""
    settings = {"task_s": 0.1, "uid": UID, "callback_interval_s": 0.05}
    running = emulate(name, **settings, faults=spec or FaultSpec())
    inbox = callbacks.Folder(str(folder / "in"))
    if name == "alibaba":
        url = serve(callbacks.Checksum(UID, SEED), inbox)
        vendor = vendor_at(name, running.url, asynchronous=True, callback=url, seed=SEED)
    else:
        asking = vendor_at(name, running.url, asynchronous=True)
        url = serve(callbacks.Confirmation(asking, lambda: KEYS), inbox)
        vendor = vendor_at(name, running.url, asynchronous=True, callback=url)
    return running, vendor, inbox


@pytest.mark.parametrize("name", ["alibaba", "tencent"])
def test_a_pipeline_that_has_callbacks_asks_for_nothing(serve, emulate, tmp_path, name):
    spec = faults("duplicate", "delay", probability=0.3, delay_s=0.2)
    running, vendor, inbox = deliver(serve, emulate, tmp_path, name, spec)
    failing = {"gone": "https://img.example.com/image-missing.jpg"}
    references = write_references(tmp_path / "r.parquet", {**URLS, **failing})
    run(references, tmp_path / "out", vendor, inbox=inbox, deadline_s=60.0)
    assert suggestions(tmp_path / "out") == truths(name, URLS)
    (dead,) = rows(tmp_path / "out", "dead_letters")
    assert (dead.data_id, dead.code) == ("gone", "vendor-refused-input")
    stats = running.stats()
    assert stats["callbacks"]["taken"] >= 21
    if name == "alibaba":
        assert stats["calls"] == {"asyncscan": 1}
    assert set(stats["tasks_per_data_id"].values()) == {1}


@pytest.mark.parametrize("name", ["alibaba", "tencent"])
def test_what_no_callback_told_is_asked_for_at_the_deadline(serve, emulate, tmp_path, name):
    spec = faults("drop", nth=(2, 5, 9))
    running, vendor, inbox = deliver(serve, emulate, tmp_path, name, spec)
    references = write_references(tmp_path / "r.parquet", URLS)
    run(references, tmp_path / "out", vendor, inbox=inbox, deadline_s=1.5)
    assert suggestions(tmp_path / "out") == truths(name, URLS)
    assert running.stats()["callbacks"]["dropped"] == 3
    assert len(files(tmp_path / "in")) == 17
    if name == "alibaba":
        assert running.stats()["calls"] == {"asyncscan": 1, "results": 1}


def test_a_service_that_could_keep_nothing_gets_what_it_missed(serve, emulate, tmp_path):
    running, vendor, inbox = deliver(serve, emulate, tmp_path, "alibaba")
    (tmp_path / "in").write_text("nothing can be kept here")

    def repaired(task_id):
        if (tmp_path / "in").is_file():
            if running.stats()["callbacks"].get("refused"):
                (tmp_path / "in").unlink()
            return None
        return inbox(task_id)

    references = write_references(tmp_path / "r.parquet", URLS)
    run(references, tmp_path / "out", vendor, inbox=Here(repaired), deadline_s=60.0)
    assert suggestions(tmp_path / "out") == truths("alibaba", URLS)
    assert running.stats()["calls"] == {"asyncscan": 1}


_HERE = []


class Here:
    """A function of this process, for a runner that stays in it."""

    def __init__(self, function):
        self._number = len(_HERE)
        _HERE.append(function)

    def __call__(self, task_id):
        return _HERE[self._number](task_id)


def test_what_a_stranger_posts_decides_nothing(serve, emulate, tmp_path):
    marked = {"a": "https://img.example.com/porn-block-ad-block.jpg"}
    _, vendor, inbox = deliver(serve, emulate, tmp_path, "alibaba")
    clean = [
        {"scene": s, "label": "normal", "suggestion": "pass", "rate": 99.0} for s in ("porn", "ad")
    ]
    stop = threading.Event()

    def forge():
        while not stop.is_set():
            post(vendor.callback, form(result("img", results=clean), seed="guess"))

    stranger = threading.Thread(target=forge)
    stranger.start()
    run(write_references(tmp_path / "r.parquet", marked), tmp_path / "out", vendor, inbox=inbox)
    stop.set()
    stranger.join()
    assert set(suggestions(tmp_path / "out").values()) == {"block"}


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs the command in this process; returns its exit code and what it printed."""

    def run(*arguments, **variables):
        for variable in ("UID", "SEED"):
            monkeypatch.delenv(f"BEAM_MODERATION_CALLBACK_{variable}", raising=False)
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value)
        monkeypatch.setattr(sys, "argv", ["beam-moderation", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--vendor", "alibaba"], "alibaba needs a uid and a seed"),
        (["--vendor", "alibaba", "--uid", "1", "--seed", "no good"], "a seed of up to 64 letters"),
        (["--vendor", "alibaba", "--secrets", "none.yaml"], "cannot read none.yaml"),
        (["--vendor", "huawei"], "huawei delivers no results"),
        (["--vendor", "tencent"], "tencent needs bucket and region"),
        (["--vendor", "alibaba", "--uid", "1", "--seed", "s", "--path", "x"], "begins with /"),
        (["--vendor", "alibaba", "--uid", "1", "--seed", "s", "--host", "256.1.1.1"], "listen"),
        (["--vendor", "alibaba", "--uid", "1", "--seed", "s", "--to", "kafka://h"], "kafka://host"),
        (["--vendor", "alibaba", "--uid", "1", "--seed", "s", "--to", "/dev/null/x"], "cannot"),
    ],
    ids=lambda value: " ".join(value[1:]) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_2(command, tmp_path, arguments, reason):
    code, printed = command("callbacks", "--to", tmp_path / "in", "--port", "0", *arguments)
    assert code == 2
    assert reason in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("way", ["environment", "file"])
def test_the_command_keeps_what_it_takes_though_it_is_killed(tmp_path, way, monkeypatch):
    secrets = tmp_path / "secrets.yaml"
    secrets.write_text(json.dumps({"uid": int(UID), "seed": SEED}))
    more = ["--secrets", str(secrets)] if way == "file" else []
    if way == "environment":
        monkeypatch.setenv("BEAM_MODERATION_CALLBACK_UID", UID)
        monkeypatch.setenv("BEAM_MODERATION_CALLBACK_SEED", SEED)
    folder = tmp_path / "in"
    arguments = ["callbacks", "--vendor", "alibaba", "--port", "0", "--to", str(folder), *more]
    with subprocess.Popen(
        [*PROGRAM, *arguments, "--path", "/c/b"], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            line = process.stdout.readline()
            url = line.split(" on ")[1].split(",")[0]
            assert url.startswith("http://127.0.0.1:")
            assert SEED not in line
            assert [post(url, form(result())), post(url, form(result(), seed="x"))] == [200, 403]
        finally:
            process.kill()
    assert callbacks.Folder(str(folder))("img$1@2") == result().encode()
    assert len(files(folder)) == 1


def test_a_backfill_reads_what_the_service_keeps(serve, emulate, command, tmp_path):
    running, vendor, _ = deliver(serve, emulate, tmp_path, "alibaba")
    references = write_references(tmp_path / "r.parquet", URLS)
    arguments = ["backfill", references, "--out", tmp_path / "out", "--vendor", "alibaba"]
    arguments += ["--mode", "async", "--scene", "porn", "--scene", "ad"]
    arguments += ["--endpoint", running.url, "--callback", vendor.callback]
    for name in ("first_look_s", "look_every_s"):
        arguments += ["--vendor-option", f"{name}=0.1"]
    more = ["--callbacks-from", tmp_path / "in"]
    code, printed = command(*arguments, *more, BEAM_MODERATION_CALLBACK_SEED=SEED, **VARIABLES)
    assert (code, "20 images judged" in printed.out) == (0, True)
    assert suggestions(tmp_path / "out") == truths("alibaba", URLS)
    assert running.stats()["calls"] == {"asyncscan": 1}


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--callbacks-from", "in"], "--callbacks-from needs --callback"),
        (["--callback", "https://cb.example/"], "--callback needs --mode async"),
        (["--callback", "https://cb.example/", "--mode", "async"], "needs a seed: set BEAM_"),
    ],
    ids=["inbox alone", "sync", "no seed"],
)
def test_half_of_what_callbacks_need_is_one_line_and_2(command, tmp_path, more, reason):
    references = write_references(tmp_path / "r.parquet", URLS)
    arguments = ["backfill", references, "--out", tmp_path / "out", "--vendor", "alibaba"]
    code, printed = command(*arguments, *more, **VARIABLES)
    assert (code, printed.err.count("\n")) == (2, 1)
    assert reason in printed.err
