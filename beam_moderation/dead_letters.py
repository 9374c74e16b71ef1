"""The one place where an error becomes a dead letter."""

import json
import re
import urllib.parse
from typing import Any

from apache_beam.utils.timestamp import Timestamp

from beam_moderation import errors, records, uris

_MAX_MESSAGE = 300

_MAX_DEPTH = 32
"""How deep carried values may be nested; what is deeper is left out of a payload."""

_URI = re.compile(
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


def payload(data_id: str | None, uri: str | None, carried: str, content: bytes | None) -> str:
    """A reference as JSON, for replay; of inline content only its length.

    A URI may stay only where it is no longer than one that can be fetched, and can hold no
    credentials but in its path: no userinfo, no fragment, no parameter but those of renditions. Any
    other is redacted, so is an id or a carried text that may hold such a URI, and then `redacted`
    is true: such a reference is replayed from its source.
    The table's own column `data_id` is a key, and is never redacted.
    """
    body = {**_parsed(carried), "data_id": data_id, "uri": uri}
    safe = _redacted(body)
    safe["uri"] = uri if uri is None or _is_harmless(uri) else redact(uri)
    if safe != body:
        safe["redacted"] = True
    if content is not None:
        safe["content_bytes"] = len(content)
    return json.dumps(safe, ensure_ascii=False)


def redact(uri: str) -> str:
    """A URI for people to read, without userinfo, query, fragment, or what may be one of them."""
    shown = uris.redact_uri(uri)
    if _is_harmless(shown):
        return shown
    match = _URI.match(uri)
    origin = match and match["origin"]
    return f"{origin}/..." if origin else "..."


def _parsed(carried: str) -> dict[str, Any]:
    try:
        return dict(json.loads(carried, parse_constant=lambda _: None))
    except RecursionError:
        return {"...": "...", "redacted": True}


def _redacted(value: Any, depth: int = 0) -> Any:
    """A JSON value whose texts hold no URI that may hold a secret."""
    if depth > _MAX_DEPTH:
        return "..."
    if isinstance(value, dict):
        return {_redacted(key): _redacted(cell, depth + 1) for key, cell in value.items()}
    if isinstance(value, list):
        return [_redacted(cell, depth + 1) for cell in value]
    if isinstance(value, str) and _may_hold_uri(value) and not _is_harmless(value):
        return redact(value)
    return value


def _may_hold_uri(text: str) -> bool:
    plain = urllib.parse.unquote(text).replace("\\", "/")
    return (
        "//" in plain
        or ":/" in plain
        or (":" in plain and "@" in plain)
        or ("=" in plain and any(mark in plain for mark in "?#;&"))
    )


def _is_harmless(uri: str) -> bool:
    """Whether a URI has a place for secrets nowhere but in its path.

    A grammar of what is harmless, not a list of what is not: what it does not know is refused.
    """
    match = _URI.fullmatch(uri) if len(uri) <= uris.MAX_URI_CHARACTERS else None
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


def of(
    reference: records.ImageReference,
    error: Exception,
    run_id: str,
    *,
    provider: str | None = None,
    scene: str | None = None,
) -> records.DeadLetter:
    """The dead letter of a reference that ended in an error.

    An error that is none of ours has the code `error`: a defect, but not a lost image.
    """
    known = error if isinstance(error, errors.ModerationError) else _unknown(error)
    return records.DeadLetter(
        data_id=reference.data_id,
        stage=known.stage,
        uri=reference.uri and redact(reference.uri),
        scene=scene,
        provider=provider,
        code=known.code,
        message=uris.printable(str(known), _MAX_MESSAGE),
        retryable=known.retryable,
        attempts=getattr(known, "attempts", 1),
        payload=payload(reference.data_id, reference.uri, reference.carried, reference.content),
        source=reference.source,
        event_time=reference.event_time,
        failed_at=Timestamp.now(),
        run_id=run_id,
    )


def _unknown(error: Exception) -> errors.ModerationError:
    return errors.ModerationError(f"{type(error).__name__}: {error}")
