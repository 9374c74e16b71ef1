"""The one place where an error becomes a dead letter."""

import json
import urllib.parse
from typing import Any

from apache_beam.utils.timestamp import Timestamp

from beam_moderation import errors, records, uris

_MAX_MESSAGE = 300

_MAX_DEPTH = 32
"""How deep carried values may be nested; what is deeper is left out of a payload."""


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
    safe["uri"] = uri if uri is None or uris.is_harmless(uri) else uris.redact_uri(uri)
    if safe != body:
        safe["redacted"] = True
    if content is not None:
        safe["content_bytes"] = len(content)
    return json.dumps(safe, ensure_ascii=False)


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
    if isinstance(value, str) and _may_hold_uri(value) and not uris.is_harmless(value):
        return uris.redact_uri(value)
    return value


def _may_hold_uri(text: str) -> bool:
    plain = urllib.parse.unquote(text).replace("\\", "/")
    return (
        "//" in plain
        or ":/" in plain
        or (":" in plain and "@" in plain)
        or ("=" in plain and any(mark in plain for mark in "?#;&"))
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
        uri=reference.uri and uris.redact_uri(reference.uri),
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
