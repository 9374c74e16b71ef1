"""A mistake of the user's is one line and the exit code 2, never a traceback."""

import dataclasses
import subprocess

import pytest
from commands import PROGRAM, backfill, run, without_judge, write_sample

from beam_moderation import tables
from beam_moderation.cli import moderation
from beam_moderation.cli.moderation import Moderation


@pytest.fixture
def sample(tmp_path):
    return write_sample(tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (["--uri-column", "url"], "has no column 'url'; it has data_id, uri, n"),
        (["--scanner", "faces"], "no scanner 'faces'"),
        (["--model", "none.yaml"], "none.yaml"),
        (["--policy", "none.yaml"], "cannot read none.yaml"),
        (["--model", "none.yaml", "--gpu"], "none.yaml"),
        (["--vendor", "alibaba"], "--scanner is for judges that run here"),
        (["--qps", "5"], "--qps needs --vendor"),
        (["--scene", "porn"], "--scene needs --vendor"),
        (["--deadline", "60"], "--deadline needs --vendor"),
        (["--retry-dead-letters", "nope"], "no code of dead letters: 'nope'; there are "),
        (["--polcy", "p.yaml"], "no such option: --polcy; did you mean --policy?"),
        (["--out", "nosuch://x"], "cannot write to nosuch://x"),
        (["--bucket", "photos"], "a bucket is given as s3://name"),
        (["--timeout", "-1"], "deadline_s"),
        (["--direct_num_workers", "many"], "direct_num_workers"),
        (["--runner", "NoSuchRunner"], "NoSuchRunner"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_users_mistake_is_one_line_and_2(monkeypatch, capsys, sample, change, reason):
    assert run(monkeypatch, *backfill(sample, *change)) == 2
    printed = capsys.readouterr()
    assert reason in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


@pytest.mark.parametrize(
    ("vendor", "change", "reason"),
    [
        ("acme", [], "no vendor 'acme'; there are alibaba, tencent, huawei"),
        ("tencent", [], "tencent needs bucket and region"),
        ("alibaba", ["--vendor-option", "colour=red"], "no option 'colour'"),
        ("alibaba", [], "no credentials of alibaba: set ALIBABA_CLOUD_ACCESS_KEY_ID"),
        ("alibaba", ["--scene", "cats"], "the scenes are porn"),
        ("alibaba", ["--model", "m.yaml"], "--model is for judges that run here"),
        ("alibaba", ["--gpu"], "--gpu is for judges that run here"),
        ("alibaba", ["--workers", "2"], "--workers is for judges that run here"),
        ("alibaba", ["--isolate"], "--isolate is for judges that run here"),
        ("huawei", ["--interval", "2"], "huawei has no option 'interval'"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_mistake_about_a_vendor_is_one_line_and_2(
    monkeypatch, capsys, sample, vendor, change, reason
):
    monkeypatch.delenv("ALIBABA_CLOUD_ACCESS_KEY_ID", raising=False)
    assert run(monkeypatch, *without_judge(sample, "--vendor", vendor, *change)) == 2
    printed = capsys.readouterr()
    assert reason in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    "policy",
    [
        "scenes: {pron: {normal: pass}}",
        "scenes: {qrcode: {qrcode: {review: 7}}}",
        "scenes: [",
        "\nscenes: {qrcode: {normal: 2026-99-99}}",
    ],
    ids=["unknown scene", "threshold", "syntax", "no date"],
)
def test_a_broken_policy_is_one_line_and_2(monkeypatch, capsys, sample, policy):
    (sample / "p.yaml").write_text(policy)
    assert run(monkeypatch, *backfill(sample, "--policy", sample / "p.yaml")) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_command_without_what_it_needs_says_what_is_missing(monkeypatch, capsys):
    assert run(monkeypatch, "backfill") == 2
    assert "REFERENCES" in capsys.readouterr().err


def test_a_folder_in_the_place_of_a_manifest_is_told_apart(monkeypatch, capsys, sample):
    assert run(monkeypatch, *without_judge(sample, "--model", sample)) == 2
    assert capsys.readouterr().err == f"error: {sample} is a folder; name a YAML file\n"


@pytest.mark.parametrize("references", ["none.parquet", "page.png"])
def test_references_that_cannot_be_read_are_one_line_and_2(monkeypatch, capsys, sample, references):
    arguments = backfill(sample)
    arguments[1] = sample / references
    assert run(monkeypatch, *arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_no_judge_is_a_mistake(monkeypatch, capsys, sample):
    assert run(monkeypatch, *without_judge(sample)) == 2
    assert "name at least one --scanner or --model" in capsys.readouterr().err


def test_a_job_that_fails_is_one_line_and_2(sample):
    path = sample / "references.parquet"
    damaged = bytearray(path.read_bytes())
    damaged[30:200] = bytes(170)
    path.write_bytes(damaged)
    ended = subprocess.run(
        [*PROGRAM, *map(str, backfill(sample))], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert "references.parquet" in ended.stderr


SHARED = {
    *("vendor", "policy", "interval", "max_frames"),
    *("local_root", "bucket", "allow_host", "allow_network", "timeout", "max_bytes"),
}


def test_every_option_is_for_judges_here_or_for_vendors_or_for_both():
    kinds = [*moderation._FOR_JUDGES, *moderation._FOR_VENDORS, *SHARED]
    assert sorted(kinds) == sorted(field.name for field in dataclasses.fields(Moderation))


class NoCredentialsError(Exception):
    """As a cloud's library has it: no error of the system."""


@pytest.mark.parametrize("level", ["CRITICAL", "DEBUG"])
def test_an_error_that_nobody_expected_is_one_line_and_2(monkeypatch, capfd, sample, level):
    def fail(*_, **__):
        raise NoCredentialsError("Unable to locate\ncredentials of 'http://h/r?sig=testsecret'")

    monkeypatch.setenv("LOG_LEVEL", level)
    monkeypatch.setattr(tables.Tables, "create", fail)
    assert run(monkeypatch, *backfill(sample)) == 2
    printed = capfd.readouterr().err
    line = "error: NoCredentialsError: Unable to locate credentials of 'http://h/r'"
    assert line in printed.splitlines()
    assert ("Traceback" in printed) == (level == "DEBUG")


def test_a_level_of_logs_that_there_is_not_is_one_line_and_2(monkeypatch, capsys, sample):
    monkeypatch.setenv("LOG_LEVEL", "x")
    assert run(monkeypatch, *backfill(sample)) == 2
    assert capsys.readouterr().err.startswith("error: LOG_LEVEL is DEBUG, INFO,")


@pytest.mark.parametrize("wrong", [["--interval", "0"], ["--local-root", "nosuch"]])
def test_a_wrong_value_is_one_line_and_2(monkeypatch, capsys, sample, wrong):
    assert run(monkeypatch, *backfill(sample, *wrong)) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_folder_that_cannot_be_written_to_is_known_before_the_work(monkeypatch, capsys, sample):
    (sample / "taken").write_text("")
    assert run(monkeypatch, *backfill(sample, "--out", sample / "taken")) == 2
    assert "cannot write to" in capsys.readouterr().err
