"""The one place where an error becomes a dead letter."""

import json
import re
from typing import Any

from apache_beam.utils.timestamp import Timestamp

from beam_moderation import errors, records, uris

_MAX_MESSAGE = 300

_SIGNED = re.compile(
    r"[?&;](x-(amz|goog|oss|cos|bce)-[^=&]*|[^=&]*(sign|token|secret|passw|credential|auth|key)[^=&]*|sig|se|sas)=",
    re.IGNORECASE,
)
"""Query parameters of the object stores' signed URLs, and what looks like a secret by its name."""


def payload(data_id: str | None, uri: str | None, carried: str, content: bytes | None) -> str:
    """A reference as JSON, for replay; of inline content only its length.

    A URI with credentials or a signed query string is redacted, and `redacted` is true: such a
    reference is replayed from its source.
    """
    body: dict[str, Any] = {"data_id": data_id, "uri": uri, **json.loads(carried)}
    if uri is not None and _holds_secret(uri):
        body |= {"uri": uris.redact_uri(uri), "redacted": True}
    if content is not None:
        body["content_bytes"] = len(content)
    return json.dumps(body, ensure_ascii=False)


def _holds_secret(uri: str) -> bool:
    authority = uri.partition("://")[2].partition("/")[0]
    return "@" in authority or _SIGNED.search(uri) is not None


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
