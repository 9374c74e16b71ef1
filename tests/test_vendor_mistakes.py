"""A wrong key stops a job in one line, blames no image, and is shown nowhere."""

import base64
import bz2
import json
import logging
import re
import sys
import time

import apache_beam as beam
import pytest
from apache_beam.internal.cloudpickle import cloudpickle
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.transforms.display import DisplayData
from vendor_jobs import by_id, run, vendor_at, write_references

import beam_moderation as bm
from beam_moderation import cli, emulator, vendors
from beam_moderation.emulator import Fault, FaultSpec
from beam_moderation.quota import Quota
from beam_moderation.vendor_moderation import ModerateWithVendor

URLS = by_id([f"https://img.example.com/{n}.jpg" for n in range(40)])
OPTIONS = {
    "alibaba": ["--region", "cn-shanghai"],
    "tencent": ["--region", "ap-guangzhou", "--vendor-option", "bucket=photos-1250000000"],
    "huawei": ["--region", "cn-north-4", "--scene", "porn"],
}
VARIABLES = {
    "alibaba": [
        "ALIBABA_CLOUD_ACCESS_KEY_ID",
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
        "ALIBABA_CLOUD_SECURITY_TOKEN",
    ],
    "tencent": [
        "TENCENTCLOUD_SECRET_ID",
        "TENCENTCLOUD_SECRET_KEY",
        "TENCENTCLOUD_SECURITY_TOKEN",
    ],
    "huawei": ["HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK", "HUAWEICLOUD_SDK_SECURITY_TOKEN"],
}
EVERY_VENDOR = pytest.mark.parametrize("name", emulator.VENDORS)


@pytest.fixture
def backfill(monkeypatch, capsys, tmp_path, caplog):
    """Runs `backfill --vendor` in this process; returns its exit code and what it printed."""
    references = write_references(tmp_path / "r.parquet", URLS)

    def run(name, url, *more, keys=("testid", "testsecret")):
        for variable in [v for names in VARIABLES.values() for v in names]:
            monkeypatch.delenv(variable, raising=False)
        for variable, value in zip(VARIABLES[name], keys, strict=False):
            monkeypatch.setenv(variable, value)
        arguments = ["backfill", references, "--out", tmp_path / "out", "--vendor", name]
        arguments += [*OPTIONS[name], "--endpoint", url, *more]
        monkeypatch.setattr(sys, "argv", ["beam-moderation", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended, caplog.at_level(logging.DEBUG):
            cli.main()
        return ended.value.code or 0, capsys.readouterr()

    return run


def complaints(printed):
    """How many lines there are beside those of progress, which a job on a busy machine shows."""
    return sum(" references/s " not in line for line in printed.err.splitlines())


@EVERY_VENDOR
@pytest.mark.parametrize(
    ("mode", "keys", "settings"),
    [
        ("sync", ("testid", "wrongsecret"), {}),
        ("async", ("testid", "wrongsecret"), {}),
        ("sync", ("nobody", "testsecret"), {}),
        ("sync", ("tempid", "tempsecret", "oldtoken"), {}),
        ("sync", ("testid", "testsecret"), {"clock": lambda: time.time() + 3600}),
    ],
    ids=["secret", "secret async", "key", "expired token", "clock"],
)
def test_a_wrong_login_stops_the_job_with_one_line(
    emulate, backfill, tmp_path, caplog, name, mode, keys, settings
):
    running = emulate(name, **settings)
    code, printed = backfill(name, running.url, "--mode", mode, keys=keys)
    assert code == 2
    assert complaints(printed) == 1
    assert re.search(rf"error: the job failed: {name}: .+ \([\w.]+\)", printed.err)
    assert not list(tmp_path.glob("out/**/*.parquet"))
    assert not list(tmp_path.glob("out/**/*.json"))
    assert running.stats()["billed_units"] == 0
    for secret in keys[1:]:
        assert secret not in printed.err + printed.out + caplog.text


def test_a_wrong_password_of_huaweis_iam_stops_the_job_with_one_line(
    emulate, backfill, monkeypatch
):
    running = emulate("huawei")
    login = {"HW_USER_NAME": "testid", "HW_USER_PASSWORD": "wrong", "HW_DOMAIN_NAME": "domain1"}
    for variable, value in login.items():
        monkeypatch.setenv(variable, value)
    more = ["--vendor-option", f"iam_endpoint={running.url}"]
    code, printed = backfill("huawei", running.url, *more, keys=())
    assert (code, complaints(printed)) == (2, 1)
    monkeypatch.setenv("HW_USER_PASSWORD", "testsecret")
    assert backfill("huawei", running.url, *more, keys=())[0] == 0


@pytest.mark.parametrize(
    ("name", "more", "reason"),
    [
        ("alibaba", ["--vendor-option", "scenes=[]"], "name scenes to judge"),
        ("huawei", ["--vendor-option", "scenes=[]"], "name scenes to judge"),
        ("tencent", ["--vendor-option", "scenes=[]"], "name scenes to judge"),
        ("alibaba", ["--scene", "pron"], "no scene 'pron'; did you mean porn?"),
        ("alibaba", ["--scene", "cats"], "no scene 'cats'; the scenes are porn, terrorism, ad"),
        ("alibaba", ["--region", "cn-shanghia", "--endpoint", ""], "did you mean cn-shanghai?"),
        ("tencent", ["--endpoint", "127.0.0.1:8080"], "endpoint is an address such as https://"),
        ("alibaba", ["--scene", "porn", "--scene", "porn"], "a scene is named twice"),
        ("huawei", ["--scene", "ad", "--mode", "async"], "scenes are politics, terrorism, porn"),
        ("huawei", ["--scene", "all"], "`all` lacks ad"),
        ("alibaba", ["--vendor-option", "bukcet=x"], "no option 'bukcet'"),
        ("alibaba", ["--vendor-option", "max_items=101"], "max_items is at most 100"),
        ("alibaba", ["--qps", "2", "--lanes", "3"], "3 lanes cannot share"),
        ("alibaba", ["--credentials", "none.yaml"], "cannot read none.yaml"),
    ],
    ids=str,
)
def test_a_mistake_in_an_option_is_one_line_before_any_call(emulate, backfill, name, more, reason):
    running = emulate(name)
    code, printed = backfill(name, running.url, *more)
    assert code == 2
    assert reason in printed.err
    assert complaints(printed) == 1
    assert running.stats()["calls"] == {}


def test_no_credentials_is_one_line_before_any_call(emulate, backfill):
    running = emulate("alibaba")
    code, printed = backfill("alibaba", running.url, keys=())
    assert (code, complaints(printed)) == (2, 1)
    assert "set ALIBABA_CLOUD_ACCESS_KEY_ID" in printed.err
    assert running.stats()["calls"] == {}


@EVERY_VENDOR
def test_a_backfill_of_the_command_line_writes_tables(emulate, backfill, tmp_path, caplog, name):
    running = emulate(name)
    file = tmp_path / "keys.yaml"
    file.write_text(json.dumps({name: {"key_id": "testid", "key_secret": "testsecret"}}))
    code, printed = backfill(name, running.url, "--credentials", file, keys=())
    assert code == 0
    assert "40 references: 40 images judged" in printed.out
    again, printed = backfill(name, running.url, "--credentials", file, keys=())
    assert (again, "40 were there already" in printed.out) == (0, True)
    assert running.stats()["images"] == 40
    assert "testsecret" not in printed.out + printed.err + caplog.text


def moderation(name, **options):
    quota, vendor = Quota(10), vendor_at(name, "http://127.0.0.1:9")
    return ModerateWithVendor(vendor, quota, answers="memory://answers", **options)


def told_by(transform):
    """Everything that a job's graph holds, unpacked: pickled functions are compressed."""
    pipeline = beam.Pipeline()
    _ = pipeline | beam.Create([]).with_output_types(bm.ReferenceBatch) | transform
    proto = pipeline.to_runner_api()
    told = [proto.SerializeToString()]
    for node in proto.components.transforms.values():
        if node.spec.urn == "beam:transform:pardo:v1":
            payload = beam_runner_api_pb2.ParDoPayload.FromString(node.spec.payload)
            told.append(bz2.decompress(base64.b64decode(payload.do_fn.payload)))
    shown = [item.get_dict() for item in DisplayData.create_from(transform).items]
    return b"".join([*told, cloudpickle.dumps(transform), repr(shown).encode()])


@EVERY_VENDOR
def test_a_pickled_job_holds_no_credentials(monkeypatch, name):
    for variable, value in zip(VARIABLES[name], ["testid", "testsecret"], strict=False):
        monkeypatch.setenv(variable, value)
    source = vendors.CredentialsSource(name)
    assert source().key_secret == "testsecret"
    assert b"testsecret" not in told_by(moderation(name, credentials=source))
    assert b"testsecret" not in told_by(moderation(name))


def test_a_secret_in_a_job_would_be_found():
    class Careless:
        def __call__(self):
            return vendors.Credentials("testid", "testsecret")

    assert b"testsecret" in told_by(moderation("alibaba", credentials=Careless()))


def test_credentials_and_requests_do_not_show_what_they_hold():
    keys = vendors.Credentials("testid", "testsecret", "testtoken", "domain")
    request = vendor_at("alibaba", "http://127.0.0.1:9").scan(
        [vendors.Item("a", url="https://img.example.com/a.jpg")], keys, 0.0, "nonce"
    )
    for shown in (repr(keys), str(keys), repr(request)):
        assert "test" not in shown
        assert "Authorization" not in shown


def test_a_vendor_does_not_show_the_seed_or_the_address_of_its_callbacks():
    alibaba = vendors.Alibaba(asynchronous=True, callback="https://cb.example/1", seed="testseed")
    assert "testseed" not in repr(alibaba)
    tencent = vendors.Tencent("b-1", "r", asynchronous=True, callback="https://cb.example/secret")
    assert "secret" not in repr(tencent)


@EVERY_VENDOR
def test_logs_hold_no_secret_however_much_goes_wrong(emulate, tmp_path, caplog, name):
    kinds = ("drop", "cut", "server_error", "malformed", "partial")
    spec = FaultSpec(faults=[Fault(kind=kind, probability=0.2) for kind in kinds])
    references = write_references(tmp_path / "r.parquet", URLS)
    with caplog.at_level(logging.DEBUG):
        retries = vendors.Retries(tries=3, patience_s=2, pause_s=0.01)
        vendor = vendor_at(name, emulate(name, faults=spec).url)
        run(references, tmp_path / "out", vendor, batch_size=8, retries=retries)
    assert "testsecret" not in caplog.text
    tables = b"".join(p.read_bytes() for p in tmp_path.glob("out/**/*") if p.is_file())
    assert b"testsecret" not in tables
