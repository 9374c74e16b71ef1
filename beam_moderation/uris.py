"""The one parser of URIs that strangers wrote. It refuses what two parsers could read differently.

No library's idea of a default scheme, of `::` chains, of globs, of userinfo or of numeric hosts has
a say: a URI that gets past this module means one thing only.
"""

import dataclasses
import functools
import ipaddress
import re
import urllib.parse

import idna
import yarl

from beam_moderation import errors

MAX_URI_CHARACTERS = 8192
"""RFC 9110 section 4.1 asks for at least 8000 octets; servers and vendors take no more."""

_MAX_SHOWN_CHARACTERS = 256

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\\]")
"""Control characters, line separators, lone surrogates, and the backslash that browsers turn."""

_CHAIN = re.compile(r"::[A-Za-z][A-Za-z0-9+.-]*(://|::)")
"""What fsspec takes for a chain of filesystems; we do not, but readers of our tables may."""

_HOST_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_NUMERIC_END = re.compile(r"(?:.*\.)?(?:\d+|0x[0-9a-f]*)")
"""A host that ends in a number is an IPv4 address or nothing (WHATWG URL, section 3.5)."""

_OBJECT = re.compile(r"[^:]+://([^/?#@]+(?:@[a-z0-9]{3,24}\.dfs\.core\.windows\.net)?)/([^?]+)")
"""With the account, as Azure has it (learn.microsoft.com, Data Lake Storage's introduction to the
ABFS URI)."""

_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]*)(?::(?P<port>\d{1,5}))?")
_SHOWN = re.compile(
    r"(?P<origin>file://(?=/)"
    r"|[a-z][a-z0-9+.-]*://(?:[\w.-]{1,253}|\[[0-9a-f:.]+\])(?::\d{1,5})?(?=[/?]|\Z))?"
    r"(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?",
    re.IGNORECASE,
)

_PARAMETER = (
    r"(?:w|h|width|height|size|format|fmt|q|quality|dpr|fit|crop|v|ver|version|id|page|p)"
    r"(?:=[A-Za-z0-9_.,-]{0,40})?"
)
_HARMLESS_QUERY = re.compile(rf"(?:{_PARAMETER}(?:&{_PARAMETER})*)?")
"""Parameters that choose a rendition; a value is long enough for a UUID, not for a signature."""

_PATH_AND_QUERY_AS_THEY_ARE = "/?%:@!$&'()*+,;=~-._[]"


def scheme_of(uri: str) -> str | None:
    """The scheme in lower case; None where there is none (RFC 3986 section 3.1)."""
    match = _SCHEME.match(uri)
    return match[1].lower() if match else None


def check_text(uri: str) -> None:
    """Raises a `FetchError` for what no URI may hold, whatever its scheme.

    Raises:
      UriInvalid: it is too long or empty, begins or ends in a blank, or holds a control character.
      SchemeRefused: it looks like one of fsspec's chains.
    """
    if not uri or len(uri) > MAX_URI_CHARACTERS:
        raise errors.UriInvalid(f"a URI has 1 to {MAX_URI_CHARACTERS} characters: {len(uri)}")
    if uri != uri.strip() or _FORBIDDEN.search(uri):
        raise errors.UriInvalid(f"blank, control character or backslash in {redact_uri(uri)}")
    if _CHAIN.search(uri):
        raise errors.SchemeRefused(f"a chain of filesystems: {redact_uri(uri)}")


@dataclasses.dataclass(frozen=True, slots=True)
class WebAddress:
    """An http or https URL, parsed once: what is asked for is what was checked.

    `host` is in lower case, ASCII, without brackets or trailing dot; `target` is the path and the
    query, percent-encoded.
    """

    scheme: str
    host: str
    port: int | None
    target: str

    @property
    def url(self) -> yarl.URL:
        """The URL to be sent, which aiohttp must not parse in its own way again."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port is None else f":{self.port}"
        return yarl.URL(f"{self.scheme}://{host}{port}{self.target}", encoded=True)


def parse_web_address(uri: str) -> WebAddress:
    """Parses an absolute http or https URL; the fragment is dropped.

    Raises:
      UriInvalid: anything but `scheme://host[:port][/path][?query]`; userinfo is refused.
      SchemeRefused: another scheme, or a chain.
      AddressRefused: a spelling of an address that only some parsers take for one.
    """
    check_text(uri)
    scheme = scheme_of(uri)
    if scheme not in ("http", "https"):
        raise errors.SchemeRefused(f"not http or https: {redact_uri(uri)}")
    match = re.match(r"[^:]+://([^/?#]*)([^#]*)", uri)
    authority = match and _AUTHORITY.fullmatch(match[1])
    if not match or not authority or not authority["host"] or "@" in match[1]:
        raise errors.UriInvalid(f"no host, or more than host and port, in {redact_uri(uri)}")
    target = urllib.parse.quote(match[2], safe=_PATH_AND_QUERY_AS_THEY_ARE)
    return WebAddress(
        scheme,
        _host(authority["host"]),
        _port(authority["port"], uri),
        target if target.startswith("/") else f"/{target}",
    )


def _port(digits: str | None, uri: str) -> int | None:
    if digits is not None and int(digits) > 65535:
        raise errors.UriInvalid(f"no such port: {redact_uri(uri)}")
    return None if digits is None else int(digits)


@functools.lru_cache(maxsize=4096)
def _host(host: str) -> str:
    """The one spelling of a host: lower case, ASCII, without brackets or trailing dot."""
    if host.startswith("["):
        return _ipv6(host[1:-1])
    name = _ascii(host.lower()).removesuffix(".")
    if _NUMERIC_END.fullmatch(name):
        return _ipv4(name)
    if len(name) > 253 or not _HOST_NAME.fullmatch(name):
        raise errors.UriInvalid(f"not a host name: {printable(host)}")
    return name


def _ascii(host: str) -> str:
    """The host in ASCII by IDNA 2008, without the mapping that makes `1` of a circled one."""
    if host.isascii():
        return host
    try:
        return idna.encode(host, strict=True).decode()
    except idna.IDNAError as error:
        raise errors.UriInvalid(f"not an international name: {printable(host)}") from error


def _ipv4(host: str) -> str:
    try:
        return str(ipaddress.IPv4Address(host))
    except ValueError as error:
        raise errors.AddressRefused(f"not an address in four parts: {printable(host)}") from error


def _ipv6(host: str) -> str:
    address, zone, _ = host.partition("%")
    try:
        parsed = str(ipaddress.IPv6Address(address))
    except ValueError as error:
        raise errors.UriInvalid(f"not an IPv6 address: {printable(host)}") from error
    if zone:
        raise errors.AddressRefused(f"an address with a zone is local: {printable(host)}")
    return parsed


def parse_object(uri: str) -> tuple[str, str]:
    """The bucket and the key of `scheme://bucket/key`; the key is literal, globs included.

    Azure's `container@account.dfs.core.windows.net` is a bucket too.

    Raises:
      UriInvalid: no bucket or key, userinfo, a query, or a `.` or `..` in the path.
    """
    check_text(uri)
    match = _OBJECT.fullmatch(uri)
    if match is None or _has_dots(match[2]):
        raise errors.UriInvalid(f"not scheme://bucket/key: {redact_uri(uri)}")
    return match[1], match[2]


def parse_file_path(uri: str) -> str:
    """The absolute path of `file:///path`, percent-decoded (RFC 8089).

    Raises:
      UriInvalid: a host, or no absolute path.
    """
    check_text(uri)
    match = re.fullmatch(r"[^:]+://(/.*)", uri)
    path = urllib.parse.unquote(match[1], errors="surrogateescape") if match else ""
    if not path or "\0" in path:
        raise errors.UriInvalid(f"not file:///path: {redact_uri(uri)}")
    return path


def below(base: str, reference: str) -> str:
    """The URI of a relative `reference` below `base`, which ends in a slash.

    Below a `file:` base the reference is a path as the disk has it, not percent-encoded, and may be
    an absolute one.

    Raises:
      UriInvalid: the reference climbs, or is absolute where the base is no `file:`.
    """
    check_text(reference)
    if scheme_of(base) == "file":
        path = urllib.parse.quote(reference)
        if path.startswith("/"):
            return f"file://{path}"
    else:
        path, reference = reference, urllib.parse.unquote(reference)
    if reference.startswith("/") or _has_dots(reference):
        raise errors.UriInvalid(f"not below the base: {redact_uri(reference)}")
    return base + path


def _has_dots(path: str) -> bool:
    return any(part in (".", "..") for part in path.split("/"))


def redact_uri(uri: str) -> str:
    """A URI for people to read: one line, bounded, without userinfo, query or fragment.

    Never raises; what cannot be told from a secret is left out.
    """
    if uri[:5].lower() == "data:":
        return "data:..."
    shown = _without_secrets(uri)
    if is_harmless(shown):
        return shown
    match = _SHOWN.match(uri)
    origin = match and match["origin"]
    return f"{origin}/..." if origin else "..."


def is_harmless(uri: str) -> bool:
    """Whether a URI has a place for secrets nowhere but in its path.

    A grammar of what is harmless, not a list of what is not: what it does not know is refused.
    """
    match = _SHOWN.fullmatch(uri) if len(uri) <= MAX_URI_CHARACTERS else None
    if match is None or not _HARMLESS_QUERY.fullmatch(match["query"] or ""):
        return False
    path = urllib.parse.unquote(match["path"])
    start = path.lstrip("/").partition("/")[0]
    return not (
        any(mark in path for mark in "?#;")
        or "=" in path.partition("&")[2]
        or (match["origin"] is None and (":" in start or "@" in start))
        or ("@" in path and any(mark in path for mark in (":", "\\", "//")))
    )


def _without_secrets(uri: str) -> str:
    """The URI without what its grammar has for secrets; there may be others in its path."""
    plain = re.split(r"[?#]", uri[:MAX_URI_CHARACTERS], maxsplit=1)[0]
    scheme, colon, rest = plain.partition(":")
    if colon and not rest.startswith("//"):
        plain = f"{scheme}:..."
    elif colon:
        authority, slash, path = rest[2:].partition("/")
        host = authority.rpartition("@")[2]
        shown = f"{host}{slash}{path}" if _AUTHORITY.fullmatch(host) else "..."
        plain = f"{scheme}://{shown}"
    return printable(plain if plain == uri or plain.endswith("...") else f"{plain}...")


def printable(text: str, max_characters: int = _MAX_SHOWN_CHARACTERS) -> str:
    """One bounded line: what is not printable is escaped, so that no text can forge a line."""
    cut = text[:max_characters]
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
    return line if cut == text else f"{line}..."
