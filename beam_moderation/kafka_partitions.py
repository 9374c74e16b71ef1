"""One partition of an Apache Kafka topic, read through librdkafka from any offset; no Beam.

Consumers are assigned their partition and never join a group; a group only keeps the offsets that
are committed to it.
"""

import contextlib
import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from beam_moderation import errors, messages

_LOG = logging.getLogger(__name__)

_CONSUMER: Mapping[str, Any] = {
    "group.id": "beam-moderation-without-commits",  # librdkafka wants one, even to commit nothing
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "error",
    "queued.max.messages.kbytes": 16_384,  # a partition; by default 64 MiB are read ahead
}
_STARTS = ("earliest", "latest", "committed")
_ENDLESS = 2**63 - 1
_START_TIMEOUT_S = 5.0
_CALL_TIMEOUT_S = 30.0

_MAX_SILENCE_S = 60.0
"""After which a reader that is owed messages asks whether there is a broker at all."""

_BATCH_BYTES = messages.MAX_MESSAGE_BYTES
"""Of messages, at which a batch is full: all of it is in memory, as messages and then as Arrow
arrays, of which none may have more than 2**31 bytes."""


@functools.cache
def client() -> Any:
    """The client library.

    Raises:
      ConfigurationError: it is not installed.
    """
    try:
        import confluent_kafka  # noqa: PLC0415
    except ImportError as error:
        message = "Kafka needs an extra: pip install 'beam-moderation[kafka]'"
        raise errors.ConfigurationError(message) from error
    return confluent_kafka


Secrets = Callable[[], Mapping[str, Any]]
"""Gives settings of librdkafka where they are needed, so that they do not travel in a pipeline."""


def settings(config: Mapping[str, Any], secrets: Secrets | None) -> dict[str, Any]:
    """All settings of a client; what it has to say goes to Python's logging."""
    return {**(secrets() if secrets else {}), **config, "logger": _LOG}


@dataclasses.dataclass(frozen=True)
class Subscription:
    """What is read, and in which portions.

    Args:
      topic: its name.
      config: settings of librdkafka, `bootstrap.servers` among them. With a `group.id`, and without
        `until_latest`, offsets are committed to that group: for others to see the lag, and for
        `start="committed"`.
      secrets: gives further settings, such as `sasl.password`, on each worker.
      start: where a partition begins that has no checkpoint yet: `earliest`, `latest`, or
        `committed`, which is `earliest` where nothing is.
      until_latest: whether to end at what is the latest offset at the start: a bounded source.
      max_messages: in one batch.
      max_wait_s: how long a batch waits for more messages.
      max_bundle_s: after which a partition that has messages lets the runner take a checkpoint.
      poll_interval_s: after which a partition that had none is asked again.
      max_delay_s: how much later than its own time a message may come. Event-time windows wait for
        it; what comes later still is read, and late.

    Raises:
      ConfigurationError: an option does not make sense.
    """

    topic: str
    config: Mapping[str, Any] = dataclasses.field(repr=False)
    secrets: Secrets | None = dataclasses.field(default=None, repr=False, kw_only=True)
    start: str = "earliest"
    until_latest: bool = False
    max_messages: int = 256
    max_wait_s: float = 0.1
    max_bundle_s: float = 1.0
    poll_interval_s: float = 0.5
    max_delay_s: float = 10.0

    def __post_init__(self) -> None:
        if self.start not in _STARTS:
            message = f"start is one of {', '.join(_STARTS)}, not {self.start!r}"
            raise errors.ConfigurationError(message)
        if self.start == "committed" and not self.commits:
            raise errors.ConfigurationError("start='committed' needs a group.id in the config")
        if self.max_messages < 1:
            raise errors.ConfigurationError("max_messages must be at least 1")

    @property
    def commits(self) -> bool:
        """Whether offsets are committed."""
        return "group.id" in self.config

    def consumer(self, **more: Any) -> Any:
        """A consumer, with more settings, that is not assigned anything yet."""
        return client().Consumer({**_CONSUMER, **settings(self.config, self.secrets), **more})


class Partition(NamedTuple):
    """The offsets of one partition that are to be read; `stop` is not included."""

    topic: str
    number: int
    start: int
    stop: int

    def at(self, offset: int) -> Any:
        """A place in the partition as the client library names it."""
        return client().TopicPartition(self.topic, self.number, offset)


def list_partitions(subscription: Subscription) -> list[Partition]:
    """The partitions of a topic and the offsets that are to be read, as they are now.

    Raises:
      ConfigurationError: there is no such topic, or nobody answers.
    """
    with _connected(subscription) as consumer:
        numbers = _numbers(consumer, subscription.topic)
        return [_offsets(subscription, consumer, number) for number in numbers]


def check_topic(subscription: Subscription, topic: str) -> None:
    """Looks whether there is a topic where a subscription reads.

    Raises:
      ConfigurationError: there is none, or nobody answers.
    """
    with _connected(subscription) as consumer:
        _numbers(consumer, topic)


@contextlib.contextmanager
def _connected(subscription: Subscription) -> Iterator[Any]:
    """A consumer; makes the operator's mistake of one that cannot be made or gets no answer."""
    heard: list[Any] = []
    try:
        consumer = subscription.consumer(error_cb=heard.append)
        try:
            yield consumer
        finally:
            consumer.poll(0)  # has the client tell why
            consumer.close()
    except client().KafkaException as error:
        brokers = subscription.config.get("bootstrap.servers")
        reason = (heard or error.args)[0].str()
        raise errors.ConfigurationError(f"Kafka at {brokers}: {reason}") from error


def _numbers(consumer: Any, topic: str) -> list[int]:
    found = consumer.list_topics(topic, _START_TIMEOUT_S).topics[topic]
    if found.error is not None:
        raise errors.ConfigurationError(f"topic {topic}: {found.error.str()}")
    return sorted(found.partitions)


def _offsets(subscription: Subscription, consumer: Any, number: int) -> Partition:
    place = client().TopicPartition(subscription.topic, number)
    low, high = consumer.get_watermark_offsets(place, _START_TIMEOUT_S)
    start = high if subscription.start == "latest" else low
    if subscription.start == "committed":
        start = max(low, consumer.committed([place], _START_TIMEOUT_S)[0].offset)
    stop = high if subscription.until_latest else _ENDLESS
    return Partition(subscription.topic, number, min(start, stop), stop)


def commit_stops(subscription: Subscription, partitions: Sequence[Partition]) -> None:
    """Commits that partitions were read to their stops, but for those that are committed further.

    Raises:
      ConfigurationError: nobody answers.
    """
    stops = [partition.at(partition.stop) for partition in partitions]
    with _connected(subscription) as consumer:
        known = consumer.committed(stops, _START_TIMEOUT_S)
        committed = {place.partition: place.offset for place in known}
        further = [stop for stop in stops if stop.offset > committed[stop.partition]]
        if further:
            consumer.commit(offsets=further, asynchronous=False)


def commit(subscription: Subscription, partition: Partition, offset: int) -> None:
    """Commits the next offset of a partition. Only best effort: the checkpoint is what counts."""
    consumer = subscription.consumer()
    try:
        consumer.commit(offsets=[partition.at(offset)], asynchronous=False)
    except client().KafkaException as error:
        _LOG.warning("offset %d of %s was not committed: %s", offset, partition, error)
    finally:
        consumer.close()


class Reader:
    """A consumer of one partition.

    Args:
      offset: the first that is read.
    """

    def __init__(self, subscription: Subscription, partition: Partition, offset: int) -> None:
        self._subscription = subscription
        self._partition = partition
        self._consumer = subscription.consumer()
        self.go_to(offset)

    def go_to(self, offset: int) -> None:
        """Reads on from another place."""
        self.offset = offset
        """What comes next: the one after the last message, or the end of the partition."""
        self._ahead: Any = None
        self._consumer.assign([self._partition.at(offset)])

    def read(self) -> messages.MessageBatch | None:
        """The next batch; None when no message has come in time.

        A batch never reaches over a multiple of `max_messages`, is full at 32 MiB, and with
        `until_latest` waits until it is full, so that a backlog is cut alike whenever it is read.
        At the head of a log that is read on and on, batches are cut by time.

        Raises:
          KafkaException: what the client cannot repair itself; with `until_latest` also that there
            is no broker any more.
        """
        deadline = time.monotonic() + self._subscription.max_wait_s
        found: list[messages.Message] = []
        start, size, lost = self.offset, 0, None
        while self.offset < self._end(start) and size < _BATCH_BYTES and lost is None:
            event = self._next(deadline)
            if event is None:
                break
            if event.error() is not None:
                lost = self._recover(event)
            elif found and event.offset() >= self._end(start):  # behind a gap in the offsets
                self._ahead, self.offset = event, event.offset()
            else:
                found.append(_message(event))
                size += _size(found[-1])
                start, self.offset = found[0].offset, event.offset() + 1
        wanted = [message for message in found if message.offset < self._partition.stop]
        if not wanted and lost is None:
            return None
        batch = messages.MessageBatch(*self._partition[:2], tuple(wanted), lost)
        return batch._replace(block=self._block(start))

    def _block(self, offset: int) -> tuple[int, int]:
        limit = self._subscription.max_messages
        first = offset - offset % limit
        return first, first + limit

    def _end(self, offset: int) -> int:
        return min(self._block(offset)[1], self._partition.stop)

    def _next(self, deadline: float) -> Any:
        """A message, or what else the client has to tell; None when there is nothing in time."""
        if self._ahead is not None:
            event, self._ahead = self._ahead, None
            return event
        if self._subscription.until_latest:
            return self._wait()
        return self._consumer.poll(max(0.0, deadline - time.monotonic()))

    def _wait(self) -> Any:
        """Waits as long as there is a broker."""
        while True:
            deadline = time.monotonic() + _MAX_SILENCE_S
            while time.monotonic() < deadline:
                event = self._consumer.poll(self._subscription.max_wait_s)
                if event is not None:
                    return event
            self._low_and_high(_CALL_TIMEOUT_S)

    def _low_and_high(self, timeout_s: float) -> tuple[int, int]:
        """The first offset and the next one, as the broker says; raises where it says nothing."""
        low, high = self._consumer.get_watermark_offsets(self._partition.at(0), timeout_s)
        return low, high

    def _recover(self, message: Any) -> tuple[int, int] | None:
        """Takes in the end of the log; goes on behind what retention has deleted."""
        error, codes = message.error(), client().KafkaError
        if error.code() == codes._PARTITION_EOF:
            self.offset = max(self.offset, message.offset())
            return None
        low, high = self._low_and_high(_CALL_TIMEOUT_S)
        if error.code() != codes._AUTO_OFFSET_RESET or not self.offset < low <= high:
            raise client().KafkaException(error)
        lost = self.offset, min(low, self._partition.stop)
        self.go_to(low)
        return lost

    def is_at_the_end(self) -> bool:
        """Whether the broker says that there is nothing more; it may not answer."""
        try:
            return self._low_and_high(1.0)[1] <= self.offset
        except client().KafkaException as error:
            _LOG.warning("no word about %s: %s", self._partition, error)
            return False

    def close(self) -> None:
        """Leaves the broker."""
        self._consumer.close()


def _message(message: Any) -> messages.Message:
    kind, timestamp_ms = message.timestamp()
    return messages.Message(
        message.offset(),
        timestamp_ms if kind else int(time.time() * 1000),
        message.key(),
        message.value(),
        tuple(message.headers() or ()),
    )


def _size(message: messages.Message) -> int:
    headers = [part for header in message.headers for part in header]
    return sum(len(part or b"") for part in (message.key, message.value, *headers))
