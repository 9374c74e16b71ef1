"""Streams of numbered references from a real broker through a real cluster, for tests that break
them: what is sent, what the job is, and what its readers see."""

import base64
import contextlib
import json
import threading
import time
import uuid

import apache_beam as beam
import duckdb
import psutil
from apache_beam.options.pipeline_options import PipelineOptions
from brightness import BRIGHT, Brightness, picture
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from services import processes
from vendor_jobs import keys, truths, vendor_at

import beam_moderation as bm
from beam_moderation import messages, records

PARTITIONS = 4
PATIENCE_S = 300
_STREAMING = (
    "--streaming",
    "--checkpointing_interval=2000",
    "--max_bundle_time_mills=500",
    "--finish_bundle_before_checkpointing",
)
_PICTURES = [base64.b64encode(picture(grey)).decode() for grey in (0, 150, 250)]
_VERDICTS = ("pass", "review", "block")


def message(number):
    """A reference with its picture inline; every tenth has none that can be decoded."""
    content = _PICTURES[number % 3] if number % 10 else base64.b64encode(b"no picture").decode()
    return json.dumps({"data_id": f"{number}", "content": content}).encode()


def expected(first, after):
    """The outcomes of such references by their ids."""
    verdicts = {
        n: _VERDICTS[n % 3] if n % 10 else "format-unsupported" for n in range(first, after)
    }
    return {f"{number}": verdict for number, verdict in verdicts.items()}


def bright(policy=BRIGHT):
    """Judges by brightness, at next to no cost."""
    return bm.ModerateWithModel([Brightness()], policy=bm.Policy(policy))


def by_url(number):
    """A reference to a picture that the vendor fetches."""
    return json.dumps({"data_id": f"{number}", "uri": url(number)}).encode()


def url(number):
    return f"https://img.example.com/{number}.jpg"


def truth(after):
    """What the vendor says of the first references by their ids."""
    told = {f"{number}": [] for number in range(after)}
    for (data_id, _), suggestion in truths("alibaba", {n: url(n) for n in told}).items():
        told[data_id].append(suggestion)
    return {data_id: records.worst(suggestions) for data_id, suggestions in told.items()}


def by_vendor(place, within, answers=None, **options):
    """Judges by an emulated vendor, within its quota."""
    vendor = vendor_at("alibaba", place, **options)
    return bm.ModerateWithVendor(vendor, within, credentials=keys, answers=answers)


class Stream:
    """A topic of references, the job that reads it, its tables, and its topic of verdicts.

    Both topics have four partitions. Windows are of two seconds.
    """

    def __init__(self, kafka, flink, folder):
        self.kafka, self.flink, self.folder = kafka, flink, folder
        name = uuid.uuid4().hex[:8]
        self.refs, self.verdicts = f"refs-{name}", f"verdicts-{name}"
        for topic in (self.refs, self.verdicts):
            kafka.create_topic(topic, PARTITIONS)

    def config(self, **settings):
        quiet = {"bootstrap.servers": self.kafka.bootstrap, "log_level": 0}
        return quiet | {name.replace("_", "."): value for name, value in settings.items()}

    def start(self, judge, *options, max_messages=100, carried=()):
        """Runs the job until somebody stops it; returns its id."""
        subscription = bm.Subscription(
            self.refs, self.config(group_id=self.refs), max_messages=max_messages, max_delay_s=1
        )
        fields = messages.Fields(carried=carried)
        flags = [*self.flink.options(), *_STREAMING, *options]
        known = len(self.flink.jobs("FAILED"))
        pipeline = beam.Pipeline(options=PipelineOptions(flags))
        outcomes = pipeline | bm.ReadReferencesFromKafka(subscription, fields=fields) | judge
        _ = outcomes | bm.WriteParquet(str(self.folder), window=2.0, shards=2)
        _ = outcomes | bm.WriteOutcomesToKafka(self.verdicts, self.config())
        pipeline.run()
        wait_until(lambda: self._failed(known) or self.flink.jobs(), "the start of the job")
        (job,) = self.flink.jobs()
        return job

    def _failed(self, known):
        return len(self.flink.jobs("FAILED")) > known

    def produce(self, first, after, make=message, a_second=None):
        """Sends references, spread over the partitions; a broker that is down is waited for."""
        producer = Producer(self.config(enable_idempotence=True, linger_ms=5))
        began = time.monotonic()
        for number in range(first, after):
            if a_second:
                due = began + (number - first) / a_second
                producer.poll(max(0.0, due - time.monotonic()))
            producer.produce(self.refs, make(number), partition=number % PARTITIONS)
            producer.poll(0)
        assert producer.flush(PATIENCE_S) == 0

    @contextlib.contextmanager
    def producing(self, *numbers, **options):
        """Sends references while the context is open, and all of them before it ends.

        It is a thread that is alive until all are sent.
        """
        thread = threading.Thread(target=self.produce, args=numbers, kwargs=options)
        thread.start()
        try:
            yield thread
        finally:
            thread.join()

    def told(self):
        """How many outcomes are in the topic of verdicts, repeated ones too."""
        return sum(self._ends(self.verdicts))

    def lag(self):
        """How many references are not committed yet."""
        consumer = Consumer(self.config(group_id=self.refs))
        with contextlib.closing(consumer):
            places = consumer.committed(_places(self.refs), 30)
        return sum(self._ends(self.refs)) - sum(max(0, place.offset) for place in places)

    def restart_broker(self):
        restart(self.kafka.broker)
        for topic in (self.refs, self.verdicts):
            self._ends(topic)

    def _ends(self, topic):
        """The ends of a topic's partitions; of a broker that came back, once it leads them."""
        consumer = Consumer(self.config(group_id="watcher"))
        patient_until = time.monotonic() + PATIENCE_S
        with contextlib.closing(consumer):
            while True:
                try:
                    return [consumer.get_watermark_offsets(p, 30)[1] for p in _places(topic)]
                except KafkaException:
                    if time.monotonic() > patient_until:
                        raise
                    time.sleep(0.5)

    def wait_until_told(self, count):
        wait_until(lambda: self.told() >= count, f"{count} outcomes on the topic")

    def told_ids(self):
        """The ids of all that is in the topic of verdicts."""
        consumer = Consumer(self.config(group_id="reader"))
        consumer.assign(_places(self.verdicts, 0))
        found, count = [], self.told()
        with contextlib.closing(consumer):
            while len(found) < count:
                found += [m.key().decode() for m in consumer.consume(10_000, 1) if not m.error()]
        return found

    def outcomes(self):
        """What a reader of the tables sees, by reference; each has one outcome."""
        rows = self._rows(
            "SELECT data_id, suggestion FROM images UNION ALL "
            "SELECT data_id, code FROM dead_letters"
        )
        assert len(rows) == len(dict(rows))
        return dict(rows)

    def policies(self):
        """The version of the policy that decided on each image."""
        return dict(self._rows("SELECT data_id, policy_version FROM images"))

    def rows_written(self):
        """How many outcomes are in the files, repeated ones too."""
        tables = [
            t for t in ("images", "dead_letters") if any((self.folder / t).rglob("*.parquet"))
        ]
        files = [f"SELECT data_id FROM '{self.folder}/{table}/**/*.parquet'" for table in tables]
        return self._rows(f"SELECT count(*) FROM ({' UNION ALL '.join(files)})")[0][0]

    def _rows(self, query):
        with contextlib.closing(duckdb.connect()) as database:
            database.execute(bm.views(str(self.folder)))
            return database.sql(query).fetchall()

    def wait_for_tables(self, count):
        """Waits until so many references have an outcome in the tables."""
        self.wait_until_told(count)
        wait_until(lambda: len(self.outcomes()) >= count, f"{count} outcomes in the tables", 1.0)

    def python_worker(self):
        """The process that runs the job's Python, the newest of the pool's."""
        pool = psutil.Process(self.flink.workers.pid).children()
        alive = [process for process in pool if process.status() != psutil.STATUS_ZOMBIE]
        return max(alive, key=psutil.Process.create_time)

    def end(self):
        """Ends its jobs."""
        wait_until(self.flink.job_manager.ready, "the JobManager")
        for job in self.flink.jobs():
            self.flink.cancel(job)


def _places(topic, *offset):
    return [TopicPartition(topic, number, *offset) for number in range(PARTITIONS)]


def wait_until(ready, what, every_s=0.2):
    processes.wait_until(ready, what, PATIENCE_S, every_s)


def restart(service):
    """Kills a service as a crash would, and starts it again."""
    service.kill()
    service.start()
