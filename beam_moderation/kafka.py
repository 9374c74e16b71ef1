"""Messages from and to Apache Kafka, in Python from end to end.

Each partition is one splittable element, its offsets the restriction: what a runner checkpoints is
the next offset, and a worker that dies is followed by one that reads on from the last checkpoint.
"""

import functools
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import apache_beam as beam
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Duration, Timestamp

from beam_moderation import kafka_partitions, messages, metrics, records
from beam_moderation.kafka_partitions import Partition, Reader, Subscription

_LOG = logging.getLogger(__name__)

_PRODUCER: Mapping[str, Any] = {"enable.idempotence": True, "linger.ms": 20}


class _ParkedReaders:
    """Readers between two bundles of their partition: they stay connected and read ahead.

    A key is (reading transform, partition, offset). A reader that nobody asks for is closed: its
    partition has gone to another worker.
    """

    _MAX_IDLE_S = 60.0

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers: dict[tuple[str, int, int], tuple[Reader, float]] = {}

    def take(self, key: tuple[str, int, int]) -> Reader | None:
        with self._lock:
            return self._readers.pop(key, (None, 0.0))[0]

    def park(self, key: tuple[str, int, int], reader: Reader) -> None:
        now = time.monotonic()
        self._close(lambda other, since: other == key or now - since > self._MAX_IDLE_S)
        with self._lock:
            self._readers[key] = reader, now

    def close(self, transform: str) -> None:
        self._close(lambda key, _: key[0] == transform)

    def _close(self, unwanted: Callable[[tuple[str, int, int], float], bool]) -> None:
        with self._lock:
            keys = [key for key, (_, since) in self._readers.items() if unwanted(key, since)]
            readers = [self._readers.pop(key)[0] for key in keys]
        for reader in readers:
            reader.close()


_parked = _ParkedReaders()


class _Commits:
    """Commits of one partition in the order of its offsets.

    A checkpoint makes several bundles durable, and a runner may say so of all of them at once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._furthest = 0

    def commit(self, subscription: Subscription, partition: Partition, offset: int) -> None:
        with self._lock:
            if offset > self._furthest:
                kafka_partitions.commit(subscription, partition, offset)
                self._furthest = offset


_commits: dict[tuple[str, int], _Commits] = {}


class _Tracker(OffsetRestrictionTracker):
    """Offsets that are given back to the runner, but never split between two readers."""

    def try_split(self, fraction_of_remainder: float) -> Any:
        return super().try_split(0) if fraction_of_remainder == 0 else None


class _Offsets(RestrictionProvider):
    def initial_restriction(self, element: Partition) -> OffsetRange:
        return OffsetRange(element.start, element.stop)

    def create_tracker(self, restriction: OffsetRange) -> _Tracker:
        return _Tracker(restriction)

    def restriction_size(self, element: Partition, restriction: OffsetRange) -> int:  # noqa: ARG002
        return 1

    def truncate(self, element: Partition, restriction: OffsetRange) -> None:
        """Nothing is left to be read when a job is drained."""


_RESTRICTION = beam.DoFn.RestrictionParam(_Offsets())
_WATERMARK = beam.DoFn.WatermarkEstimatorParam(ManualWatermarkEstimator.default_provider())


class _ReadFn(beam.DoFn):
    """Reads a partition for about `max_bundle_s`, then gives what is left back to the runner."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self._id = uuid.uuid4().hex

    def teardown(self) -> None:
        _parked.close(self._id)

    @beam.DoFn.unbounded_per_element()
    def process(
        self,
        element: Partition,
        finalizer: Any = beam.DoFn.BundleFinalizerParam,
        tracker: Any = _RESTRICTION,
        watermark: Any = _WATERMARK,
    ) -> Iterator[Any]:
        start = tracker.current_restriction().start
        key = self._id, element.number
        reader = _parked.take((*key, start)) or Reader(self._subscription, element, start)
        claimed = start
        try:
            for batch in self._batches(reader, tracker, watermark):
                claimed = reader.offset
                yield batch
        except BaseException:
            reader.close()
            raise
        _parked.park((*key, claimed), reader)
        if claimed > start:
            self._commit_later(finalizer, element, claimed)

    def _batches(self, reader: Reader, tracker: Any, watermark: Any) -> Iterator[Any]:
        deadline = time.monotonic() + self._subscription.max_bundle_s
        while time.monotonic() < deadline:
            first, batch = reader.offset, reader.read()
            if batch is None:
                if reader.is_at_the_end():
                    self._advance(watermark, time.time())
                tracker.defer_remainder(Duration(seconds=self._subscription.poll_interval_s))
                return
            if not tracker.try_claim(reader.offset - 1):
                reader.go_to(first)
                return
            yield _timestamped(batch, watermark.current_watermark())
            self._advance(watermark, max(map(_seconds, batch.messages), default=0))
        tracker.defer_remainder()

    def _commit_later(self, finalizer: Any, partition: Partition, offset: int) -> None:
        """Commits once the runner has made the bundle durable."""
        if self._subscription.commits:
            commits = _commits.setdefault((self._id, partition.number), _Commits())
            finalizer.register(
                functools.partial(commits.commit, self._subscription, partition, offset)
            )

    def _advance(self, watermark: Any, seconds: float) -> None:
        """A timestamp from the future must not make all that follows late."""
        reached = Timestamp.of(min(seconds, time.time()) - self._subscription.max_delay_s)
        if watermark.current_watermark() is None or reached > watermark.current_watermark():
            watermark.set_watermark(reached)


def _seconds(message: messages.Message) -> float:
    return messages.event_time(message).micros / 1e6


def _timestamped(batch: messages.MessageBatch, reached: Timestamp | None) -> TimestampedValue:
    """A batch has the time of its earliest message, and so the first window that one falls into.

    No runner may find it late, and drop it: where the watermark has gone past that time, the batch
    has the watermark's, and falls into a window that is open. Nor may it wait for a future that a
    producer's clock made up.
    """
    now = Timestamp.now()
    earliest = min([now, *map(messages.event_time, batch.messages)])
    return TimestampedValue(batch, earliest if reached is None else max(earliest, reached))


def _read_to_stop(partition: Partition, subscription: Subscription) -> Iterator[Any]:
    """Reads from start to stop and commits nothing.

    A job that asks for a finalizer in Flink's batch mode, which has none, starts over for ever.
    """
    reader = Reader(subscription, partition, partition.start)
    try:
        while reader.offset < partition.stop:
            batch = reader.read()
            if batch is not None:
                yield _timestamped(batch, None)
    finally:
        reader.close()


class ReadMessagesFromKafka(beam.PTransform):
    """Reads a topic as batches of messages, each of one partition.

    Every message is in at least one batch; after a failure those since the last checkpoint are in
    two, which may be cut differently.

    Args:
      subscription: what to read.
      partitions: what `list_partitions` told of it; by default they are listed when the job starts.

    Returns:
      A PCollection of `MessageBatch`, bounded if the subscription is.
    """

    def __init__(
        self, subscription: Subscription, partitions: Sequence[Partition] | None = None
    ) -> None:
        super().__init__()
        self._subscription, self._partitions = subscription, partitions

    def expand(self, root: Any) -> Any:
        """Lists the partitions, spreads them over the workers, and reads."""
        if self._subscription.until_latest:
            read = beam.FlatMap(_read_to_stop, self._subscription)
        else:
            read = beam.ParDo(_ReadFn(self._subscription))
        return (
            root
            | "Once" >> beam.Impulse()
            | "ListPartitions" >> beam.FlatMap(self._list).with_output_types(Partition)
            | "SpreadPartitions" >> beam.Reshuffle()
            | "Read" >> read.with_output_types(messages.MessageBatch)
        )

    def _list(self, _: bytes) -> Sequence[Partition]:
        return self._partitions or kafka_partitions.list_partitions(self._subscription)


class ReadReferencesFromKafka(beam.PTransform):
    """Reads image references from a topic: JSON objects, or what a decoder makes of messages.

    A message that holds no reference becomes a dead letter with `topic/partition/offset` as its
    `data_id` and `source`; the reading goes on behind it.

    Args:
      subscription: what to read.
      decoder: makes fields of a message.
      fields: which of them are the parts of a reference.
      partitions: what `list_partitions` told of it; by default they are listed when the job starts.
      run_id: what dead letters carry.

    Returns:
      A PCollection of `ReferenceBatch`, bounded if the subscription is.
    """

    def __init__(
        self,
        subscription: Subscription,
        *,
        decoder: messages.Decoder = messages.decode_json,
        fields: messages.Fields = messages.FIELDS,
        partitions: Sequence[Partition] | None = None,
        run_id: str = "",
    ) -> None:
        super().__init__()
        self._read = ReadMessagesFromKafka(subscription, partitions)
        self._parse: Callable[[messages.MessageBatch], records.ReferenceBatch] = functools.partial(
            messages.parse_references, decoder=decoder, fields=fields, run_id=run_id
        )

    def expand(self, root: Any) -> Any:
        """Parses each batch where it was read."""
        return (
            root
            | "ReadMessages" >> self._read
            | "Parse" >> beam.Map(self._parse).with_output_types(records.ReferenceBatch)
        )


class _WriteFn(beam.DoFn):
    def __init__(
        self,
        topic: str,
        config: Mapping[str, Any],
        key: Callable[[Any], str | None],
        headers: Mapping[str, str],
        secrets: kafka_partitions.Secrets | None,
    ) -> None:
        self._topic = topic
        self._config, self._secrets = config, secrets
        self._key, self._headers = key, dict(headers)
        self._producer: Any = None

    def start_bundle(self) -> None:
        self._failures: list[Any] = []
        self._refused: list[tuple[bytes | str | None, bytes]] = []
        if self._producer is None:
            settings = kafka_partitions.settings(self._config, self._secrets)
            self._producer = kafka_partitions.client().Producer({**_PRODUCER, **settings})

    def process(self, row: Any) -> None:
        self._produce(self._key(row), messages.to_json(row))
        self._producer.poll(0)

    def _produce(self, key: bytes | str | None, value: bytes) -> None:
        """Queues a message as soon as there is room; one that the client refuses will never be."""
        message = {"key": key, "value": value, "headers": self._headers}
        while True:
            try:
                self._producer.produce(self._topic, on_delivery=self._delivered, **message)
            except BufferError:
                self._producer.poll(0.1)
            except kafka_partitions.client().KafkaException as error:
                if not _is_too_large(error.args[0]):
                    raise
                return self._leave_out(value)
            else:
                return None

    def _delivered(self, error: Any, message: Any) -> None:
        if error is not None and _is_too_large(error):
            self._refused.append((message.key(), message.value()))
        elif error is not None:
            self._failures.append(error)

    def finish_bundle(self) -> None:
        """Waits for the broker's word on every message, no longer than `message.timeout.ms`."""
        self._producer.flush()
        self._send_alone()
        if self._failures:
            self._producer = None  # after a fatal error it would refuse everything
            raise kafka_partitions.client().KafkaException(self._failures[0])

    def _send_alone(self) -> None:
        """Sends what was refused once more: it may have been others that made the request large."""
        refused, self._refused = self._refused, []
        for message in refused:
            self._produce(*message)
            self._producer.flush()
        for _, value in self._refused:
            self._leave_out(value)

    def _leave_out(self, value: bytes) -> None:
        metrics.add({"kafka_rows_too_large": 1})
        _LOG.warning("a row of %d bytes is too large for topic %s", len(value), self._topic)


def _is_too_large(error: Any) -> bool:
    return bool(error.code() == kafka_partitions.client().KafkaError.MSG_SIZE_TOO_LARGE)


def _data_id(row: Any) -> str:
    return str(row.data_id)


class WriteKafka(beam.PTransform):
    """Writes the rows of a table to a topic, each as a JSON object.

    A bundle succeeds when the broker has every message of it. A bundle that is done again writes
    its rows again: readers keep one row for each key of the table. A row that is too large for the
    client (`message.max.bytes`) or for the topic is left out, logged, and counted in the metric
    `kafka_rows_too_large`; it would fail its bundle for ever.

    Args:
      topic: its name.
      config: settings of librdkafka, `bootstrap.servers` among them. The producer is idempotent.
      key: the message's key; the row's `data_id` by default, so that one image's rows stay in
        order.
      headers: of every message.
      secrets: gives further settings, such as `sasl.password`, on each worker.

    Raises:
      KafkaException: while running, when a message could not be delivered.
    """

    def __init__(
        self,
        topic: str,
        config: Mapping[str, Any],
        *,
        key: Callable[[Any], str | None] = _data_id,
        headers: Mapping[str, str] = MappingProxyType({}),
        secrets: kafka_partitions.Secrets | None = None,
    ) -> None:
        super().__init__()
        self._write_fn = _WriteFn(topic, dict(config), key, headers, secrets)

    def expand(self, rows: Any) -> Any:
        """Produces where the rows are."""
        return rows | "Produce" >> beam.ParDo(self._write_fn)
