"""The options of the command line that name a vendor: typed as the vendor has them."""

import sys

import pytest

from beam_moderation import cli, errors
from beam_moderation.cli import vendors as options
from beam_moderation.vendors.tencent import Freeze

NEEDED = {
    "alibaba": {},
    "tencent": {"region": "ap-guangzhou", "bucket": "photos-125"},
    "huawei": {"region": "cn-north-4"},
}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("alibaba", "version=2017-01-12", "2017-01-12"),
        ("alibaba", "biz_type=007", "007"),
        ("alibaba", "biz-type=null", "null"),
        ("alibaba", "interval=3", 3),
        ("alibaba", "interval=null", None),
        ("alibaba", "look_every_s=2", 2.0),
        ("alibaba", "scenes=[porn, ad]", ["porn", "ad"]),
        ("alibaba", "extras={a: [1]}", {"a": [1]}),
        ("alibaba", "client_info={userId: '07'}", {"userId": "07"}),
        ("tencent", "sign_host=false", False),
        ("tencent", "freeze={porn_score: 90}", Freeze(porn_score=90)),
        ("tencent", "user_info={TokenId: a}", {"TokenId": "a"}),
        ("huawei", "project_id=000123", "000123"),
        ("huawei", "threshold=0.5", 0.5),
        ("alibaba", "formats=[PNG, JPEG]", ["PNG", "JPEG"]),
    ],
)
def test_an_option_has_the_type_that_the_vendor_takes(name, text, value):
    vendor = options.make_vendor(name, [text], **NEEDED[name])
    found = getattr(vendor, text.partition("=")[0].replace("-", "_"))
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("alibaba", "interval=abc", "interval=abc: .*integer"),
        ("alibaba", "extras={a", "extras={a: expected"),
        ("alibaba", "extras=a", "extras=a: .*dictionary"),
        ("alibaba", "scenes=porn", "scenes=porn: "),
        ("alibaba", "interval", "name=value"),
        ("alibaba", "nosuch=1", "has no option 'nosuch'"),
        ("alibaba", "name=other", "has no option 'name'"),
        ("alibaba", "version=2015-01-01", "the versions are"),
        ("alibaba", "seed=testseed", "seed does not belong on a command line"),
        ("tencent", "freeze={porn_scores: 90}", "Unexpected keyword"),
        ("tencent", "freeze={porn_score: 101}", "from 0 to 100"),
        ("tencent", "freeze=90", "freeze=90: "),
    ],
)
def test_a_value_that_the_vendor_does_not_take_is_a_mistake_in_one_line(name, text, why):
    with pytest.raises(errors.ConfigurationError, match=why) as raised:
        options.make_vendor(name, [text], **NEEDED[name])
    assert "\n" not in str(raised.value)
    assert "testseed" not in str(raised.value)


def test_the_seed_comes_from_the_environment_and_from_nowhere_else(monkeypatch):
    monkeypatch.setenv(options.SEED_VARIABLE, "testseed")
    address = "https://cb.example/1"
    found = options.callback_options("alibaba", address, "async")
    assert found == {"callback": address, "seed": "testseed"}
    assert options.callback_options("tencent", address, "async") == {"callback": address}
    assert options.callback_options("alibaba", None, "sync") == {}


@pytest.mark.parametrize("command", ["backfill", "stream"])
def test_no_command_that_moderates_takes_or_shows_a_seed(monkeypatch, capsys, command):
    monkeypatch.setenv(options.SEED_VARIABLE, "testseed")
    monkeypatch.setattr(sys, "argv", ["beam-moderation", command, "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    shown = capsys.readouterr().out
    assert "--callback" in shown
    assert "--callback-seed" not in shown
    assert "testseed" not in shown
