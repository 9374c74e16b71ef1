import pickle

import pytest

from beam_moderation import addresses, errors

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.215.14",
    "100.63.255.255",
    "172.32.0.1",
    "192.0.1.1",
    "198.20.0.1",
    "223.255.255.255",
    "2001:4860:4860::8888",
    "2600:1::1",
    "2a00:1450::1",
    "::ffff:8.8.8.8",
]

NOT_PUBLIC = [
    "0.0.0.0",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "168.63.129.16",
    "169.254.169.254",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:a9fe:a9fe",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1:7f00:0:100::",
    "100::1",
    "2001::80ff:fffe",
    "2001:db8::1",
    "2002:7f00:1::",
    "2600:1::5efe:7f00:1",
    "2600:1::200:5efe:a00:1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_address_of_the_internet_is_public(address):
    assert addresses.is_public(address)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_special_address_is_not_public(address):
    assert not addresses.is_public(address)


def test_name_is_not_an_address():
    with pytest.raises(ValueError, match="localhost"):
        addresses.is_public("localhost")


def test_default_policy_allows_web_ports_of_public_addresses_alone():
    policy = addresses.AddressPolicy()
    assert policy.allows("example.com", "8.8.8.8", 443)
    assert policy.allows("example.com", "8.8.8.8", 80)
    assert not policy.allows("example.com", "8.8.8.8", 22)
    assert not policy.allows("example.com", "10.0.0.1", 443)


def test_allowed_network_is_dialled_as_if_it_were_public():
    policy = addresses.AddressPolicy(allow_networks=["10.1.0.0/16", "fd00::/8"])
    assert policy.allows("store", "10.1.2.3", 443)
    assert policy.allows("store", "fd00::1", 443)
    assert policy.allows("store", "::ffff:10.1.2.3", 443)
    assert not policy.allows("store", "10.2.0.1", 443)
    assert not policy.allows("store", "10.1.2.3", 9000)


def test_allowed_host_may_be_at_any_address_but_no_other_host_may():
    policy = addresses.AddressPolicy(allow_hosts=["Store.Internal."])
    assert policy.allows("store.internal", "10.0.0.1", 443)
    assert not policy.allows("store.internal", "10.0.0.1", 9000)
    assert not policy.allows("other.internal", "10.0.0.1", 443)


def test_port_of_an_allowed_host_is_open_for_that_host_alone():
    policy = addresses.AddressPolicy(allow_hosts=["store.internal:9000", "[fd00::1]:9000"])
    assert policy.allows("store.internal", "10.0.0.1", 9000)
    assert policy.allows("fd00::1", "fd00::1", 9000)
    assert not policy.allows("store.internal", "10.0.0.1", 443)
    assert not policy.allows("example.com", "8.8.8.8", 9000)


@pytest.mark.parametrize(
    "options",
    [
        {"allow_hosts": ["http://store"]},
        {"allow_hosts": ["store:port"]},
        {"allow_hosts": "store"},
        {"allow_networks": ["10.0.0.1/8"]},
        {"allow_networks": ["internal"]},
        {"ports": [0]},
        {"ports": [70000]},
    ],
)
def test_policy_that_cannot_be_meant_is_the_operators_mistake(options):
    with pytest.raises(errors.ConfigurationError):
        addresses.AddressPolicy(**options)


def test_policy_survives_pickling():
    policy = addresses.AddressPolicy(["store:9000"], ["10.0.0.0/8"], [80])
    assert pickle.loads(pickle.dumps(policy)) == policy
