"""Credentials: from the vendors' variables or a file, and never on show."""

import pickle

import pytest

from beam_moderation import errors
from beam_moderation.vendors import VENDORS, Credentials, CredentialsSource
from beam_moderation.vendors.credentials import VARIABLES


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for ways in VARIABLES.values():
        for variables in ways:
            for name in filter(None, variables):
                monkeypatch.delenv(name, raising=False)


def set_all(monkeypatch, variables):
    for field, name in variables._asdict().items():
        if name:
            monkeypatch.setenv(name, f"test{field}\n")


def test_every_vendor_has_its_variables():
    assert VARIABLES.keys() == VENDORS.keys()


@pytest.mark.parametrize(
    ("vendor", "variables"),
    [(vendor, variables) for vendor, ways in VARIABLES.items() for variables in ways],
    ids=lambda value: value if isinstance(value, str) else value.key_id,
)
def test_the_vendors_own_variables_are_read(monkeypatch, vendor, variables):
    set_all(monkeypatch, variables)
    found = CredentialsSource(vendor)()
    assert (found.key_id, found.key_secret) == ("testkey_id", "testkey_secret")
    assert found.security_token == (variables.security_token and "testsecurity_token")
    assert found.domain == (variables.domain and "testdomain")


@pytest.mark.parametrize("vendor", VENDORS)
def test_none_or_half_of_the_variables_are_a_mistake_that_names_them(monkeypatch, vendor):
    first = VARIABLES[vendor][0]
    for _ in range(2):
        with pytest.raises(errors.ConfigurationError, match=first.key_secret) as raised:
            CredentialsSource(vendor)()
        assert "testsecret" not in str(raised.value)
        monkeypatch.setenv(first.key_id, "testsecret")


def test_a_file_has_an_entry_for_each_vendor(tmp_path):
    file = tmp_path / "keys.yaml"
    file.write_text("alibaba: {key_id: testid, key_secret: testsecret, security_token: t}")
    assert CredentialsSource("alibaba", str(file))() == Credentials("testid", "testsecret", "t")
    with pytest.raises(errors.ConfigurationError, match="no entry 'huawei'"):
        CredentialsSource("huawei", str(file))()


@pytest.mark.parametrize(
    "text",
    [
        "alibaba: {key_id: testsecret}",
        "alibaba: {key_id: a, key_secret: testsecret, sekret: testsecret}",
        "alibaba: testsecret",
        "{testsecret",
        "alibaba: {key_id: a, key_secret: [testsecret]}",
        'alibaba: {key_id: a, key_secret: "testsecret\\nX: y"}',
    ],
)
def test_a_file_that_is_wrong_is_reported_without_what_it_holds(tmp_path, text):
    file = tmp_path / "keys.yaml"
    file.write_text(text)
    with pytest.raises(errors.ConfigurationError) as raised:
        CredentialsSource("alibaba", str(file))()
    assert "testsecret" not in str(raised.value)


def test_a_source_holds_no_secret_and_credentials_do_not_show_theirs(monkeypatch):
    set_all(monkeypatch, VARIABLES["alibaba"][0])
    source = CredentialsSource("alibaba")
    found = source()
    assert b"testkey" not in pickle.dumps(source)
    assert "testkey" not in repr(source) + repr(found) + str(found)
