"""From messages to image references: what is usable, and what is a dead letter and why.

No client and no Beam pipeline here: a batch of messages goes in, a `ReferenceBatch` comes out, and
every message of it is either a reference or a dead letter.
"""

import base64
import binascii
import dataclasses
import datetime
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from apache_beam.utils.timestamp import Timestamp

from beam_moderation import dead_letters, errors, records, references, uris

MAX_MESSAGE_BYTES = 32 * 1024 * 1024
"""The largest message that is parsed: an image of the largest size that is fetched, in base64."""

_LAST_MS = 253_402_300_799_999
"""The end of the year 9999."""

_MAX_MESSAGE_CHARACTERS = 300


class Message(NamedTuple):
    """One message as the broker keeps it; a `value` of None is a tombstone."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


class MessageBatch(NamedTuple):
    """Messages of one partition in the order of their offsets.

    `lost` is a range of offsets, its end not included, that the broker deleted before they were
    read; `block` one that no batch reaches over, wherever a reader began.
    """

    topic: str
    partition: int
    messages: Sequence[Message]
    lost: tuple[int, int] | None = None
    block: tuple[int, int] | None = None

    def source(self, offsets: object) -> str:
        """What the tables show as the place of a message: `topic/partition/offset`."""
        return f"{self.topic}/{self.partition}/{offsets}"


_NOTHING: Mapping[str, Any] = {}

Decoder = Callable[[Message], Mapping[str, Any]]
"""The fields of a message by name. Raises anything for a message that it cannot decode; a
`ReferenceInvalid` chooses the dead letter's code. Any other `ModerationError` is not the message's
fault: it fails the bundle, which is done again."""


@dataclasses.dataclass(frozen=True)
class Fields:
    """Where the parts of a reference are in a decoded message.

    A name is that of a field; `@key` is the message's key, `@header.NAME` one of its headers, both
    as UTF-8. Without an id the reference's id is its source; without a time its time is the
    message's own. `time` holds milliseconds since 1970 or an ISO 8601 text, UTC where it names no
    zone. `content` holds bytes, or base64 text. `carried` go to the table `images` untouched.
    """

    data_id: str = "data_id"
    uri: str = "uri"
    time: str = "time"
    content: str = "content"
    carried: Sequence[str] = ()


FIELDS = Fields()
"""The names as the product's own documents spell them."""


def decode_json(message: Message) -> Mapping[str, Any]:
    """The fields of a message that is a JSON object.

    Raises:
      ReferenceInvalid: it is something else.
    """
    try:
        decoded = json.loads((message.value or b"").decode())
    except UnicodeDecodeError as error:
        raise errors.ReferenceInvalid("message-not-utf-8", str(error)) from error
    except (ValueError, RecursionError) as error:
        raise errors.ReferenceInvalid("message-malformed", f"no JSON: {error}") from error
    if not isinstance(decoded, dict):
        shape = f"a JSON object is wanted, not {type(decoded).__name__}"
        raise errors.ReferenceInvalid("message-schema-unknown", shape)
    return decoded


def parse_references(
    batch: MessageBatch,
    decoder: Decoder = decode_json,
    fields: Fields = FIELDS,
    run_id: str = "",
    max_message_bytes: int = MAX_MESSAGE_BYTES,
) -> records.ReferenceBatch:
    """The references in a batch; each message that holds none is one of its dead letters.

    Args:
      decoder: makes fields of a message.
      fields: which of them are the parts of a reference.
      run_id: what dead letters carry.
      max_message_bytes: a larger message is a dead letter.
    """
    found, dead = [], []
    for message in batch.messages:
        source, decoded = batch.source(message.offset), _NOTHING
        try:
            _check_size(message, max_message_bytes)
            decoded = _decode(message, decoder)
            found.append(_reference(decoded, message, source, fields))
        except errors.ReferenceInvalid as error:
            payload = _payload(message, decoded, fields)
            dead.append(_dead_letter(source, error, payload, event_time(message), run_id))
    if batch.lost:
        dead.append(_lost(batch, batch.lost, run_id))
    return records.ReferenceBatch(
        _batch_id(batch),
        records.to_arrow(found, records.ImageReference),
        records.to_arrow(dead, records.DeadLetter),
        _block(batch),
    )


def _batch_id(batch: MessageBatch) -> str:
    """Depends on the content too: a topic that was made anew has other messages at its offsets."""
    digest = hashlib.blake2b(digest_size=16)
    for message in batch.messages:
        digest.update(repr(message._replace(value=None)).encode())
        digest.update(hashlib.blake2b(message.value or b"").digest())
    offsets = [str(message.offset) for message in batch.messages]
    ends = [*offsets[:1], *offsets[-1:], *map(str, batch.lost or ())]
    return records.stable_id(batch.topic, str(batch.partition), *ends, digest.hexdigest())


def _block(batch: MessageBatch) -> str:
    if batch.block is None:
        return ""
    return records.stable_id(batch.topic, str(batch.partition), *map(str, batch.block))


def _check_size(message: Message, max_message_bytes: int) -> None:
    if message.value is None:
        raise errors.ReferenceInvalid("message-tombstone", "the message has no value")
    if not message.value:
        raise errors.ReferenceInvalid("message-empty", "the value has no bytes")
    if len(message.value) > max_message_bytes:
        size = f"{len(message.value)} bytes are more than {max_message_bytes}"
        raise errors.ReferenceInvalid("message-too-large", size)


def _decode(message: Message, decoder: Decoder) -> Mapping[str, Any]:
    try:
        decoded = decoder(message)
    except errors.ModerationError:
        raise
    except Exception as error:  # its text may hold what the message does
        found = f"the decoder raised {type(error).__name__}"
        raise errors.ReferenceInvalid("message-malformed", found) from error
    if not isinstance(decoded, Mapping):
        shape = f"the decoder made {type(decoded).__name__}, not a mapping"
        raise errors.ReferenceInvalid("message-schema-unknown", shape)
    return decoded


def _reference(
    decoded: Mapping[str, Any], message: Message, source: str, fields: Fields
) -> records.ImageReference:
    found = {
        name: _look_up(decoded, message, name)
        for name in (fields.data_id, fields.uri, fields.time, fields.content, *fields.carried)
    }
    data_id = _id(found[fields.data_id], fields.data_id, source)
    uri = _short_text(found[fields.uri], fields.uri)
    content = _content(found[fields.content], fields.content)
    if not uri and content is None:
        raise errors.ReferenceInvalid("uri-missing", "there is neither a uri nor content")
    time = event_time(message) if found[fields.time] is None else _parse_time(found[fields.time])
    carried = {name: found[name] for name in fields.carried if found[name] is not None}
    text = _checked(_json(carried), "what is carried")
    return records.ImageReference(data_id, uri or None, content, time, text, source)


def _json(found: Mapping[str, Any]) -> str:
    """A JSON object; NaN and the infinities, which JSON has not, are null.

    Raises:
      ReferenceInvalid: it cannot be written, or is nested too deep.
    """
    try:
        text = json.dumps(found, default=str)
        return json.dumps(json.loads(text, parse_constant=lambda _: None))
    except (RecursionError, TypeError, ValueError) as error:  # a decoder's own objects
        problem = f"what is carried is no JSON: {type(error).__name__}"
        raise errors.ReferenceInvalid("message-malformed", problem) from error


def _look_up(decoded: Mapping[str, Any], message: Message, name: str) -> Any:
    if not name.startswith("@"):
        return decoded.get(name)
    headers = {f"@header.{key}": value for key, value in message.headers}
    raw = ({"@key": message.key} | headers).get(name)
    try:
        return None if raw is None else raw.decode()
    except UnicodeDecodeError as error:
        raise errors.ReferenceInvalid("text-not-utf-8", f"{name}: {error}") from error


def _id(value: Any, name: str, source: str) -> str:
    """Text or an integer. An id that is taken from the key must be there: it was asked for."""
    if value is None and not name.startswith("@"):
        return source
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    text = _short_text(value, name)
    if not text:
        raise errors.ReferenceInvalid("id-missing", f"{name} is null or empty")
    return text


def _short_text(value: Any, name: str) -> str | None:
    text = _text(value, name)
    return text and _checked(text, name)


def _checked(text: str, name: str) -> str:
    """The text, which is no longer than a cell of a table should be."""
    if len(text.encode()) > references.MAX_TEXT_BYTES:
        limit = f"{name} has more than {references.MAX_TEXT_BYTES} bytes"
        raise errors.ReferenceInvalid("text-too-long", limit)
    return text


def _text(value: Any, name: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise errors.ReferenceInvalid("type-wrong", f"{name} is {type(value).__name__}, not text")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # a lone surrogate, which JSON can spell
        raise errors.ReferenceInvalid("text-not-utf-8", f"{name}: {error}") from error
    return value


def _content(value: Any, name: str) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    try:
        return base64.b64decode((_text(value, name) or "").encode(), validate=True)
    except binascii.Error as error:
        raise errors.ReferenceInvalid("content-not-base64", f"{name}: {error}") from error


def event_time(message: Message) -> Timestamp:
    """The message's own time, held to the years that tables can show: its producer chose it."""
    return Timestamp(micros=min(max(message.timestamp_ms, 0), _LAST_MS) * 1000)


def _parse_time(value: Any) -> Timestamp:
    try:
        moment = _moment(value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.timezone.utc)
        return Timestamp.from_utc_datetime(moment.astimezone(datetime.timezone.utc))
    except (ValueError, TypeError, OverflowError, OSError) as error:
        problem = f"{type(value).__name__} that is neither milliseconds since 1970 nor ISO 8601"
        raise errors.ReferenceInvalid("time-malformed", problem) from error


def _moment(value: Any) -> datetime.datetime:
    if isinstance(value, datetime.datetime):
        return value
    if isinstance(value, str):
        return datetime.datetime.fromisoformat(value.replace("Z", "+00:00"))
    if isinstance(value, bool):
        raise TypeError("neither a number nor a text")
    return datetime.datetime.fromtimestamp(value / 1000, datetime.timezone.utc)


def _payload(message: Message, decoded: Mapping[str, Any], fields: Fields) -> str:
    """What is known of a message, as JSON, without anything that may hold a secret.

    Of its fields those that make a reference, redacted as in every dead letter; of the rest, and of
    what cannot be decoded, the size and the hash. All of it is read again from where it stands.
    """
    names = (fields.data_id, fields.uri, fields.time, *fields.carried)
    known = {name: _shown(decoded, message, name) for name in names}
    data_id, uri = known[fields.data_id], known[fields.uri]
    value = message.value
    about = {
        "timestamp_ms": message.timestamp_ms,
        "value_bytes": None if value is None else len(value),
        "value_sha256": None if value is None else hashlib.sha256(value).hexdigest(),
    }
    others = {
        name: known[name] for name in (fields.time, *fields.carried) if known[name] is not None
    }
    return dead_letters.payload(
        None if data_id is None else str(data_id),
        uri if isinstance(uri, str) else None,
        _json(about | others),
        None,
    )


def _shown(decoded: Mapping[str, Any], message: Message, name: str) -> str | float | None:
    """A field that is a number, a truth, or a text which is not too long to be shown."""
    try:
        value = _look_up(decoded, message, name)
        if isinstance(value, (int, float)):
            return value
        text = _text(value, name) or ""
    except errors.ReferenceInvalid:
        return None
    return text if text and len(text) <= uris.MAX_URI_CHARACTERS else None


def _lost(batch: MessageBatch, lost: tuple[int, int], run_id: str) -> records.DeadLetter:
    first, after = lost
    message = f"{after - first} offsets were deleted by the broker before they were read"
    error = errors.ReferenceInvalid("messages-lost", message)
    return _dead_letter(batch.source(f"{first}-{after - 1}"), error, "{}", None, run_id)


def _dead_letter(
    source: str,
    error: errors.ReferenceInvalid,
    payload: str,
    event_time: Timestamp | None,
    run_id: str,
) -> records.DeadLetter:
    return records.DeadLetter(
        data_id=source,
        stage=error.stage,
        uri=None,
        scene=None,
        provider=None,
        code=error.code,
        message=uris.printable(str(error), _MAX_MESSAGE_CHARACTERS),
        retryable=False,
        attempts=1,
        payload=payload,
        source=source,
        event_time=event_time,
        failed_at=Timestamp.now(),
        run_id=run_id,
    )


def to_json(row: Any) -> bytes:
    """A row of a table as a JSON object in UTF-8; times are RFC 3339 texts."""
    return json.dumps(_plain(row), ensure_ascii=False).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, Timestamp):
        return value.to_rfc3339()
    if hasattr(value, "_asdict"):
        return {name: _plain(cell) for name, cell in value._asdict().items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
