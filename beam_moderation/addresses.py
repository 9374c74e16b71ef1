"""Which addresses may be dialled for a stranger: the public internet, and what the operator allows.

The decision is about the numeric address that a socket is about to connect to. What the text of a
URL says, and what an earlier DNS answer said, proves nothing.
"""

import dataclasses
import functools
import ipaddress
import re
from collections.abc import Sequence
from typing import TypeAlias

from beam_moderation import errors

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_V6_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
"""All that IANA has given out for the IPv6 internet (RFC 4291 section 2.4, IANA registry)."""

_NOT_PUBLIC: Sequence[Network] = [
    ipaddress.ip_network(network)
    for network in (
        # IPv4: the IANA special-purpose registry (RFC 6890), and what lies outside it.
        "0.0.0.0/8",  # this network: RFC 791
        "10.0.0.0/8",  # private: RFC 1918
        "100.64.0.0/10",  # carrier-grade NAT: RFC 6598; Alibaba's metadata service
        "127.0.0.0/8",  # loopback: RFC 1122
        "168.63.129.16/32",  # Azure's wire server, a public address answered by the host
        "169.254.0.0/16",  # link-local: RFC 3927; the metadata services
        "172.16.0.0/12",  # private: RFC 1918
        "192.0.0.0/24",  # IETF protocols: RFC 6890; Oracle's metadata service
        "192.0.2.0/24",  # documentation: RFC 5737
        "192.88.99.0/24",  # 6to4 relays: RFC 7526
        "192.168.0.0/16",  # private: RFC 1918
        "198.18.0.0/15",  # benchmarks: RFC 2544
        "198.51.100.0/24",  # documentation: RFC 5737
        "203.0.113.0/24",  # documentation: RFC 5737
        "224.0.0.0/4",  # multicast: RFC 5771
        "240.0.0.0/4",  # reserved: RFC 1112; broadcast: RFC 919
        # IPv6 within 2000::/3. Everything else is refused as a whole: loopback, mapped,
        # compatible, translated (RFC 2765), NAT64 (RFC 6052, RFC 8215), discard-only (RFC 6666),
        # segment routing (RFC 9602), unique local, link-local, site-local, multicast.
        "2001::/23",  # IETF protocols, Teredo among them: RFC 2928, RFC 4380
        "2001:db8::/32",  # documentation: RFC 3849
        "2002::/16",  # 6to4, which embeds IPv4: RFC 3056
        "3fff::/20",  # documentation: RFC 9637
    )
]

_ISATAP = (b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe")
"""The half of an interface identifier that says that IPv4 is embedded: RFC 5214 section 6.1."""

_HOST_AND_PORT = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>\d{1,5}))?")


def _parse(address: str) -> Address:
    """The address without its zone, and the IPv4 address where IPv6 maps one (RFC 4291)."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return getattr(parsed, "ipv4_mapped", None) or parsed


def is_public(address: str) -> bool:
    """Whether `address`, as a socket is given it, is on the public internet.

    An IPv6 address that embeds an IPv4 address is not, whatever it embeds, but for a mapped one.

    Raises:
      ValueError: `address` is no numeric address.
    """
    parsed = _parse(address)
    if any(parsed in network for network in _NOT_PUBLIC):
        return False
    if parsed.version == 4:
        return True
    return parsed in _V6_GLOBAL_UNICAST and parsed.packed[8:12] not in _ISATAP


@dataclasses.dataclass(frozen=True, slots=True)
class AddressPolicy:
    """What may be dialled: public addresses, and the operator's own stores.

    Args:
      allow_hosts: names (or numeric addresses) that may be dialled whatever they resolve to, each
        with its port where that is not one of `ports`: `minio.internal:9000`.
      allow_networks: addresses in CIDR notation that are treated as public ones: `10.1.0.0/16`.
      ports: the ports that may be dialled.

    Raises:
      ConfigurationError: an entry cannot be understood.
    """

    allow_hosts: Sequence[str] = ()
    allow_networks: Sequence[str] = ()
    ports: Sequence[int] = (80, 443)

    def __post_init__(self) -> None:
        for field in ("allow_hosts", "allow_networks", "ports"):
            if isinstance(getattr(self, field), str):
                raise errors.ConfigurationError(f"{field} is a list, not one string")
            object.__setattr__(self, field, tuple(getattr(self, field)))
        if not all(0 < port < 65536 for port in self.ports):
            raise errors.ConfigurationError(f"ports are from 1 to 65535, not {self.ports}")
        _hosts(self.allow_hosts)
        _networks(self.allow_networks)

    def allows(self, host: str, address: str, port: int) -> bool:
        """Whether a socket for `host` may be connected to a numeric address and port.

        Args:
          host: the name or address in the URL, in lower case, without brackets.
        """
        hosts = _hosts(self.allow_hosts)
        if (host, port) in hosts:
            return True
        if port not in self.ports:
            return False
        return (host, None) in hosts or is_public(address) or self._allows_network(address)

    def is_own(self, host: str) -> bool:
        """Whether a host, by its name or numeric address, is one that the operator allowed."""
        try:
            allowed = self._allows_network(host)
        except ValueError:
            allowed = False
        return allowed or any(name == host for name, _ in _hosts(self.allow_hosts))

    def _allows_network(self, address: str) -> bool:
        parsed = _parse(address)
        return any(parsed in network for network in _networks(self.allow_networks))


@functools.lru_cache
def _hosts(entries: Sequence[str]) -> frozenset[tuple[str, int | None]]:
    return frozenset(map(_host, entries))


def _host(entry: str) -> tuple[str, int | None]:
    match = _HOST_AND_PORT.fullmatch(entry.lower())
    if match is None:
        raise errors.ConfigurationError(f"an allowed host is a name or name:port, not {entry!r}")
    return match["host"].strip("[]").rstrip("."), int(match["port"]) if match["port"] else None


@functools.lru_cache
def _networks(entries: Sequence[str]) -> Sequence[Network]:
    try:
        return [ipaddress.ip_network(entry) for entry in entries]
    except ValueError as error:
        raise errors.ConfigurationError(
            f"an allowed network is in CIDR notation: {error}"
        ) from error
