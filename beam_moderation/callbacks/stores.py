"""Where delivered results are kept: a folder, which is a pipeline's inbox, or a Kafka topic."""

import collections
import posixpath
import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol
from urllib.parse import urlsplit

import fsspec

from beam_moderation import durable_files, errors, kafka_partitions, records

_REMEMBERED = 100_000
_DELIVERY_TIMEOUT_S = 10.0


class Store(Protocol):
    """Keeps results. Called in threads."""

    def has(self, task_id: str) -> bool:
        """Whether the result of a task is known to be kept."""

    def keep(self, task_id: str, content: bytes) -> None:
        """Keeps a result; returns when it would survive the end of this machine's power.

        Raises:
          OSError: it could not be kept.
        """


class Folder:
    """Results as files below an fsspec URL, each named by a hash of its task's id. Picklable.

    Called with a task's id, it returns the result, or None: it is an inbox of
    `ModerateWithVendor`. A result appears as a whole and is never changed. Delete the folder once
    the job that asked for the tasks is done.

    Raises:
      ConfigurationError: the URL's filesystem cannot be had.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._open()

    def __repr__(self) -> str:
        return f"Folder({self._url!r})"

    def __getstate__(self) -> str:
        return self._url

    def __setstate__(self, url: str) -> None:
        self._url = url
        self._open()

    def _open(self) -> None:
        try:
            self._fs, self._root = fsspec.core.url_to_fs(self._url)
        except (ImportError, ValueError, OSError) as error:
            raise errors.ConfigurationError(f"cannot use {self._url}: {error}") from error

    def __call__(self, task_id: str) -> bytes | None:
        """The result of a task, None while there is none."""
        try:
            content: bytes = self._fs.cat_file(self._path(task_id))
        except FileNotFoundError:
            return None
        return content

    def make(self) -> None:
        """Makes the folder.

        Raises:
          ConfigurationError: nothing can be written there.
        """
        try:
            durable_files.make_folder(self._fs, self._root)
        except OSError as error:
            raise errors.ConfigurationError(f"cannot write to {self._url}: {error}") from error

    def has(self, task_id: str) -> bool:
        """Whether there is a result of a task."""
        found: bool = self._fs.exists(self._path(task_id))
        return found

    def keep(self, task_id: str, content: bytes) -> None:
        """Keeps a result."""
        durable_files.write(self._fs, self._path(task_id), content)

    def _path(self, task_id: str) -> str:
        """A folder for each 256th part, for there may be millions of tasks."""
        name = records.stable_id(task_id)
        return posixpath.join(self._root, name[:2], f"{name}.result")


class Topic:
    """Results as messages of a Kafka topic, keyed by their task's id.

    A repeat is told by its id among the last hundred thousand; an older one makes a second message
    of the same key.

    Args:
      servers: the brokers, as `host:9092`.
      topic: which must exist.
      config: further settings of librdkafka.

    Raises:
      ConfigurationError: the extra `kafka` is not installed.
    """

    def __init__(
        self, servers: str, topic: str, config: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        durable = {"acks": "all", "enable.idempotence": True}
        patience = {"delivery.timeout.ms": int(_DELIVERY_TIMEOUT_S * 1000)}
        own = {"bootstrap.servers": servers, "linger.ms": 0, **durable, **patience}
        self._producer = kafka_partitions.client().Producer(
            kafka_partitions.settings({**own, **config}, None)
        )
        self._topic = topic
        self._known: collections.OrderedDict[str, None] = collections.OrderedDict()
        self._lock = threading.Lock()

    def has(self, task_id: str) -> bool:
        """Whether a result was kept not long ago."""
        with self._lock:
            return task_id in self._known

    def keep(self, task_id: str, content: bytes) -> None:
        """Sends a result, and waits until all replicas in sync have it."""
        reports: list[Any] = []
        try:
            self._producer.produce(
                self._topic,
                content,
                task_id.encode(),
                on_delivery=lambda error, _: reports.append(error),
            )
            self._producer.flush(_DELIVERY_TIMEOUT_S + 1)
        except BufferError as error:
            raise OSError("too many results wait for Kafka") from error
        if not reports:
            raise OSError("Kafka did not say in time whether it has a result")
        if reports[0] is not None:
            raise OSError(f"Kafka has not taken a result: {reports[0].str()}")
        self._remember(task_id)

    def _remember(self, task_id: str) -> None:
        with self._lock:
            self._known[task_id] = None
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)


def open_store(place: str, config: Mapping[str, Any] = MappingProxyType({})) -> Folder | Topic:
    """The store at a folder's URL, which is made, or at `kafka://host:port/topic`.

    Args:
      config: settings of librdkafka.

    Raises:
      ConfigurationError: there is no such store.
    """
    if (address := topic_of(place)) is not None:
        check_topic(*address, config)
        return Topic(*address, config)
    folder = Folder(place)
    folder.make()
    return folder


def topic_of(place: str) -> tuple[str, str] | None:
    """The brokers and the topic of `kafka://host:port/topic`; None where no topic is meant.

    Raises:
      ConfigurationError: one of them is missing.
    """
    if not place.startswith("kafka://"):
        return None
    address = urlsplit(place)
    topic = address.path.strip("/")
    if not address.netloc or not topic or "/" in topic:
        raise errors.ConfigurationError(f"a topic is given as kafka://host:9092/topic: {place}")
    return address.netloc, topic


def check_topic(
    servers: str,
    topic: str,
    config: Mapping[str, Any],
    secrets: kafka_partitions.Secrets | None = None,
) -> None:
    """Looks whether there is a topic.

    Raises:
      ConfigurationError: there is none, or nobody answers.
    """
    settings = {**config, "bootstrap.servers": servers}
    kafka_partitions.check_topic(
        kafka_partitions.Subscription(topic, settings, secrets=secrets), topic
    )
