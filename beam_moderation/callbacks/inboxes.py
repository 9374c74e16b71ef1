"""Where a pipeline finds what was delivered: a `Folder`, or what a Kafka topic tells."""

import collections
import functools
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from beam_moderation import kafka_partitions
from beam_moderation.callbacks import stores

_LOG = logging.getLogger(__name__)

_MAX_BYTES = 2**28
"""Of the results that a process remembers; of a kilobyte each they are a quarter of a million."""

_CLOCKS_S = 60.0
"""By how much the clocks of two machines may differ."""

_AT_ONCE = 500
_WAIT_S = 0.5
_CALL_TIMEOUT_S = 8.0
_AGAIN_S = 2.0
_IDLE_S = 300.0
"""After which a topic is read no more that nobody asks about: its job is over."""

_CONSUMER: Mapping[str, Any] = {
    "group.id": "beam-moderation-inbox",  # librdkafka wants one; nothing is committed to it
    "enable.auto.commit": False,
    "auto.offset.reset": "earliest",
}


class TopicInbox:
    """Results that the callbacks service keeps in a Kafka topic. Picklable.

    Called with a task's id, it returns the result, or None: it is an inbox of `ModerateWithVendor`.
    Each process reads all partitions by a consumer of its own, which joins no group, from as long
    ago as a task may wait. It never waits: what is not there yet comes later, or is asked for at
    the deadline.

    Args:
      servers: the brokers, as `host:9092`.
      topic: its name.
      config: further settings of librdkafka.
      secrets: gives more of them on each worker, such as `sasl.password`.
      lookback_s: a job's deadline: older tasks are given up, however their results would come.

    Raises:
      ConfigurationError: the extra `kafka` is not installed.
    """

    def __init__(
        self,
        servers: str,
        topic: str,
        config: Mapping[str, Any] | None = None,
        secrets: kafka_partitions.Secrets | None = None,
        lookback_s: float = 600.0,
    ) -> None:
        kafka_partitions.client()
        self._topic = topic
        self._config = {"bootstrap.servers": servers, **(config or {})}
        self._secrets = secrets
        self._lookback_s = lookback_s
        self._reading: _Reading | None = None

    def __repr__(self) -> str:
        return f"TopicInbox({self._config['bootstrap.servers']!r}, {self._topic!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reading": None}

    def __call__(self, task_id: str) -> bytes | None:
        """The result of a task, None while there is none."""
        if self._reading is None or not self._reading.goes_on:
            self._reading = self._shared()
        return self._reading.results.find(task_id)

    def _shared(self) -> "_Reading":
        """The one reading of the topic in this process, for all inboxes that look alike."""
        key = (self._config["bootstrap.servers"], self._topic, self._lookback_s)
        with _lock:
            reading = _readings.get(key)
            if reading is None or not reading.goes_on:
                since_ms = int((time.time() - self._lookback_s - _CLOCKS_S) * 1000)
                connect = functools.partial(_consumer, self._config, self._secrets)
                reading = _readings[key] = _Reading(connect, self._topic, since_ms)
        return reading


def _consumer(config: Mapping[str, Any], secrets: kafka_partitions.Secrets | None) -> Any:
    settings = kafka_partitions.settings(config, secrets)
    return kafka_partitions.client().Consumer({**_CONSUMER, **settings})


class _Results:
    """The latest results by their tasks' ids, written in one thread and read in others."""

    def __init__(self) -> None:
        self.asked_at = time.monotonic()
        self._by_task: collections.OrderedDict[str, bytes] = collections.OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def find(self, task_id: str) -> bytes | None:
        self.asked_at = time.monotonic()
        with self._lock:
            return self._by_task.get(task_id)

    def add(self, task_id: str, content: bytes) -> None:
        with self._lock:
            self._bytes += len(content) - len(self._by_task.pop(task_id, b""))
            self._by_task[task_id] = content
            while self._bytes > _MAX_BYTES:
                self._bytes -= len(self._by_task.popitem(last=False)[1])


class _Reading:
    """A thread that reads a topic until nobody asks any more."""

    def __init__(self, connect: Any, topic: str, since_ms: int) -> None:
        self.results = _Results()
        stop = threading.Event()
        # The thread knows neither this object nor an inbox, or they would never be dropped.
        self._thread = thread = threading.Thread(
            target=_read,
            args=(connect, topic, since_ms, self.results, stop),
            name="callbacks-inbox",
            daemon=True,
        )
        thread.start()
        weakref.finalize(self, _end, thread, stop)

    @property
    def goes_on(self) -> bool:
        """Whether more results may come."""
        return self._thread.is_alive()


_readings: "weakref.WeakValueDictionary[tuple[str, str, float], _Reading]" = (
    weakref.WeakValueDictionary()
)
_lock = threading.Lock()


def _end(thread: threading.Thread, stop: threading.Event) -> None:
    stop.set()
    thread.join(_CALL_TIMEOUT_S)


def _read(
    connect: Any, topic: str, since_ms: int, results: _Results, stop: threading.Event
) -> None:
    """Reads on, whatever fails, until it is told to stop or nobody asks."""

    def done() -> bool:
        return stop.is_set() or time.monotonic() - results.asked_at > _IDLE_S

    while not done():
        try:
            for message in _messages(connect, topic, since_ms, done):
                if message.key() and message.value() is not None:
                    results.add(message.key().decode("utf-8", "replace"), message.value())
        except kafka_partitions.client().KafkaException as error:
            _LOG.warning("the topic of results cannot be read now: %s", error.args[0].str())
        stop.wait(_AGAIN_S)


def _messages(connect: Any, topic: str, since_ms: int, done: Callable[[], bool]) -> Iterator[Any]:
    """The messages of all partitions from a time on.

    Raises:
      KafkaException: what the client cannot repair itself.
    """
    consumer = connect()
    try:
        kind = kafka_partitions.client().TopicPartition
        wanted = [kind(topic, number, since_ms) for number in _partitions(consumer, topic)]
        consumer.assign(consumer.offsets_for_times(wanted, _CALL_TIMEOUT_S) if wanted else [])
        while wanted and not done():
            for message in consumer.consume(_AT_ONCE, _WAIT_S):
                if message.error() is not None:
                    raise kafka_partitions.client().KafkaException(message.error())
                yield message
    finally:
        consumer.close()


def _partitions(consumer: Any, topic: str) -> list[int]:
    found = consumer.list_topics(topic, _CALL_TIMEOUT_S).topics.get(topic)
    return sorted(found.partitions) if found is not None and found.error is None else []


def open_inbox(
    place: str,
    secrets: kafka_partitions.Secrets | None = None,
    lookback_s: float = 600.0,
) -> stores.Folder | TopicInbox:
    """The inbox at a folder's URL, or at `kafka://host:port/topic`: where `open_store` keeps.

    Args:
      secrets: gives settings of librdkafka on each worker.
      lookback_s: a job's deadline.

    Raises:
      ConfigurationError: there is no such inbox.
    """
    address = stores.topic_of(place)
    if address is None:
        return stores.Folder(place)
    stores.check_topic(*address, {}, secrets)
    return TopicInbox(*address, secrets=secrets, lookback_s=lookback_s)
