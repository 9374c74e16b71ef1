"""The command `emulate`: it says where it listens, and mistakes end in one line."""

import json
import pathlib
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from beam_moderation import cli

COMMAND = pathlib.Path(sys.executable).with_name("beam-moderation")


def test_the_address_that_is_printed_answers_at_once(tmp_path):
    faults = tmp_path / "faults.yaml"
    faults.write_text("faults: [{kind: delay, operation: scan, delay_s: 2}]")
    asked = [COMMAND, "emulate", "--vendor=huawei", "--port=0", f"--faults={faults}"]
    with subprocess.Popen(asked, stdout=subprocess.PIPE, text=True) as process:
        (url,) = re.findall(r"http://127.0.0.1:[1-9]\d+", process.stdout.readline())
        with urllib.request.urlopen(f"{url}/_stats") as answer:
            assert json.load(answer)["vendor"] == "huawei"
        with urllib.request.urlopen(f"{url}/_faults") as answer:
            assert json.load(answer)["faults"][0]["delay_s"] == 2
        process.send_signal(signal.SIGINT)


@pytest.fixture
def mistake(monkeypatch, capsys):
    """The one line of a command that cannot run."""

    def line(*arguments):
        monkeypatch.setattr(sys, "argv", ["beam-moderation", "emulate", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == cli.USER_MISTAKE
        (found,) = capsys.readouterr().err.splitlines()
        return found

    return line


def test_a_port_that_is_taken_ends_in_one_line(mistake):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"cannot listen on port {port}" in mistake("--vendor=alibaba", f"--port={port}")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("faults: [{kind: drop", "faults.yaml:1: expected"),
        ("faults:\n- {kind: sleep}", "faults.yaml:2: faults.0.kind: Input should be"),
        ("faults:\n- {kind: drop, nth: [0]}", "faults.0.nth.0: Input should be greater than 0"),
        ("fault: []", "faults.yaml:1: fault: Extra inputs"),
        (None, "cannot read"),
    ],
)
def test_faults_that_cannot_be_end_in_one_line(mistake, tmp_path, text, why):
    spec = tmp_path / "faults.yaml"
    if text is not None:
        spec.write_text(text)
    assert why in mistake("--vendor=alibaba", f"--faults={spec}")


def test_a_vendor_that_nobody_knows_ends_in_one_line(mistake):
    assert "no vendor 'aws'" in mistake("--vendor=aws")
