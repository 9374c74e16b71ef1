"""Messages in Avro, as Confluent's serializers write them, with a schema registry beside the topic.

A value is a zero byte, the id of its schema in four bytes, the most significant first, and the
value in Avro's binary encoding.
https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format
"""

import dataclasses
import functools
import importlib
import io
import json
import os
import struct
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any

from beam_moderation import errors, messages
from beam_moderation.vendors import credentials

_MAGIC = 0
_HEAD = struct.Struct(">BI")

_UNKNOWN = (40401, 40402, 40403)
"""The registry's own codes for a subject, a version and a schema that it does not have.
https://docs.confluent.io/platform/current/schema-registry/develop/api.html#errors"""

_VARIABLES = ("SCHEMA_REGISTRY_USER", "SCHEMA_REGISTRY_PASSWORD")

_RETRIES = 2
_RETRY_WAIT_MS = 200
_KEPT_S = 60.0
"""How long an answer stands: an id that was unknown may be known later."""

_MAX_SCHEMAS = 1000

_LEAST_BYTES: Mapping[str, int] = {
    "null": 0,
    "boolean": 1,
    "int": 1,
    "long": 1,
    "float": 4,
    "double": 8,
    "bytes": 1,
    "string": 1,
}
"""Of Avro's types: https://avro.apache.org/docs/1.12.0/specification/#binary-encoding."""


@dataclasses.dataclass(frozen=True)
class AvroDecoder:
    """Decodes values of Confluent's wire format: the `decoder` of `ReadReferencesFromKafka`.

    Each schema is asked for once and kept by its id. Timestamps become moments in UTC, decimals
    stay bytes. A schema with which a few bytes could crash a worker is refused: a type within
    itself, an array of nothing. Schema ids in a message's headers are not looked at.

    It can be pickled and holds no password: the worker looks the credentials up where they are.

    Args:
      registry: URL of the schema registry, or several with commas between, tried in turn.
      credentials_file: fsspec URL of a YAML or JSON file with the entry `schema_registry` of
        `key_id` (the user, or the key of an API) and `key_secret`. None: the environment variables
        SCHEMA_REGISTRY_USER and SCHEMA_REGISTRY_PASSWORD; where these are not set either, none are
        sent.
      ca_file: path of the certificates, as PEM, by which the registry is known; None: the usual.
      timeout_s: how long the registry may be silent. It is asked up to three times.

    Raises:
      ConfigurationError: the URL is none, or has a password in it; or the extra `avro` is missing.
    """

    registry: str
    credentials_file: str | None = None
    ca_file: str | None = None
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        for url in self.registry.split(","):
            parts = urllib.parse.urlsplit(url.strip())
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise errors.ConfigurationError("the schema registry needs an http or https URL")
            if "@" in parts.netloc:
                message = "the schema registry's URL must not hold a user or a password"
                raise errors.ConfigurationError(message)
        _library("fastavro")

    def check(self) -> None:
        """Asks the registry for a schema that nobody has, to learn whether it answers.

        Raises:
          ConfigurationError: it does not, or refuses the credentials, or is none.
        """
        try:
            _schema(self, 0, _minute())
        except errors.DecoderUnavailable as error:
            raise errors.ConfigurationError(f"{self.registry}: {error}") from error

    def __call__(self, message: messages.Message) -> Mapping[str, Any]:
        """The fields of a message.

        Raises:
          ReferenceInvalid: it is not in the wire format, its schema is unknown to the registry or
            is none of Avro's, or its bytes do not fit the schema.
          DecoderUnavailable: the registry does not say.
          ConfigurationError: the registry refuses the credentials, or is none.
        """
        value = message.value or b""
        if len(value) < _HEAD.size or value[0] != _MAGIC:
            text = "the value does not begin with a zero byte and the id of a schema"
            raise errors.ReferenceInvalid("message-malformed", text)
        schema = _schema(self, _HEAD.unpack_from(value)[1], _minute())
        if isinstance(schema, str):
            raise errors.ReferenceInvalid("message-schema-unknown", schema)
        return _decode(value, schema)


def _minute() -> int:
    return int(time.monotonic() // _KEPT_S)


def _library(name: str) -> Any:
    """A module that the extra brings.

    Raises:
      ConfigurationError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        message = f"Avro needs {error.name}: pip install 'beam-moderation[avro]'"
        raise errors.ConfigurationError(message) from error


def _decode(value: bytes, schema: Any) -> Any:
    body = io.BytesIO(value)
    body.seek(_HEAD.size)
    read = _library("fastavro").schemaless_reader
    try:
        decoded = read(body, schema, None)
    except Exception as error:
        found = f"the bytes do not fit the schema: {type(error).__name__}"
        raise errors.ReferenceInvalid("message-malformed", found) from error
    if body.tell() != len(value):
        left = f"{len(value) - body.tell()} bytes are left behind the value"
        raise errors.ReferenceInvalid("message-malformed", left)
    return decoded


@functools.lru_cache(maxsize=_MAX_SCHEMAS)
def _schema(decoder: AvroDecoder, schema_id: int, _minute: int) -> Any:
    """A schema as fastavro wants it, or the text that says why there is none."""
    client = _client(decoder)
    try:
        return _parse(client, client.get_schema(schema_id), {})
    except _SchemaUnusable as error:
        return f"schema {schema_id}: {error}"
    except errors.ConfigurationError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, no message is to blame
        if getattr(error, "error_code", None) in _UNKNOWN:
            return f"schema {schema_id}: the registry does not have it"
        _client.cache_clear()  # what is wrong may be the credentials, which somebody changes
        raise _failure(error) from None


class _SchemaUnusable(Exception):
    """The registry has the schema, but no value can be read with it."""


def _parse(client: Any, schema: Any, named: dict[str, Any]) -> Any:
    """Parses a schema after those that it refers to; `named` collects them all."""
    if not schema.schema_str:
        raise ValueError("the answer holds no schema")
    if (schema.schema_type or "AVRO") != "AVRO":
        raise _SchemaUnusable(f"its type is {schema.schema_type}")
    for reference in schema.references or ():
        if reference.name not in named:
            found = client.get_version(reference.subject, reference.version, deleted=True)
            _parse(client, found.schema, named)
    parse = _library("fastavro").parse_schema
    try:
        parsed = parse(json.loads(schema.schema_str), named_schemas=named)
    except Exception as error:
        raise _SchemaUnusable(f"it is no schema: {type(error).__name__}") from error
    _Sizes(named).least(parsed)
    return parsed


class _Sizes:
    """How many bytes the values of parsed schemas have at least; refuses what could do harm.

    With values that nest without an end a few kilobytes crash the reader, and an array of values
    without bytes has as many as its producer likes. A decimal of bytes takes time by the square of
    its length, so that it is left as bytes.

    Args:
      named: the parsed schemas that have names.
    """

    def __init__(self, named: Mapping[str, Any]) -> None:
        self._named = named
        self._known: dict[str, int | None] = {}
        """None for those that are being looked at."""

    def least(self, kind: Any) -> int:
        """The size of the smallest value.

        Raises:
          _SchemaUnusable: a message could do harm.
        """
        if isinstance(kind, list):
            return 1 + min(map(self.least, kind), default=0)
        if isinstance(kind, dict):
            if "name" in kind:
                return self._of_name(kind["name"])
            of_type = getattr(self, f"_{kind['type']}", None)
            return of_type(kind) if of_type else self.least(kind["type"])
        return _LEAST_BYTES[kind] if kind in _LEAST_BYTES else self._of_name(kind)

    def _of_name(self, name: str) -> int:
        if name not in self._known:
            self._known[name] = None
            kind = self._named[name]
            fields = sum(self.least(field["type"]) for field in kind.get("fields", ()))
            self._known[name] = kind.get("size", 0) + (kind["type"] == "enum") + fields
        size = self._known[name]
        if size is None:
            raise _SchemaUnusable(f"{name} is within itself")
        return size

    def _array(self, kind: Mapping[str, Any]) -> int:
        if not self.least(kind["items"]):
            raise _SchemaUnusable("it has an array of values without bytes")
        return 1

    def _map(self, kind: Mapping[str, Any]) -> int:
        self.least(kind["values"])
        return 1

    def _bytes(self, kind: dict[str, Any]) -> int:
        if kind.get("logicalType") == "decimal":
            del kind["logicalType"]
        return 1


def _failure(error: Exception) -> errors.ModerationError:
    """Says what went wrong without the body of an answer, which an error of the client's shows."""
    status = getattr(error, "http_status_code", None)
    if status in (401, 403):
        text = f"the schema registry refuses the credentials (status {status})"
        return errors.ConfigurationError(text)
    if status == 404:
        return errors.ConfigurationError("what is at the URL is no schema registry (status 404)")
    said = f"status {status}" if status else type(error).__name__
    return errors.DecoderUnavailable(f"the schema registry does not answer as it should: {said}")


@functools.lru_cache(maxsize=8)
def _client(decoder: AvroDecoder) -> Any:
    client = _library("confluent_kafka.schema_registry").SchemaRegistryClient
    settings = {
        "url": decoder.registry,
        "timeout": decoder.timeout_s,
        "max.retries": _RETRIES,
        "retries.wait.ms": _RETRY_WAIT_MS,
        "ssl.ca.location": decoder.ca_file,
        "basic.auth.user.info": _user_info(decoder.credentials_file),
    }
    known = {name: value for name, value in settings.items() if value is not None}
    return client(known)


def _user_info(file: str | None) -> str | None:
    """`user:password` as the client wants it; None where there are none."""
    if file is not None:
        found = credentials.CredentialsSource("schema_registry", file)()
        return f"{found.key_id}:{found.key_secret}"
    user, password = (os.environ.get(name, "").strip() for name in _VARIABLES)
    if bool(user) != bool(password):
        raise errors.ConfigurationError(f"set both {' and '.join(_VARIABLES)}, or neither")
    return f"{user}:{password}" if user else None
