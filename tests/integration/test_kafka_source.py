import itertools
import json

import apache_beam as beam
import pytest
import recorder
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms import window
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from services import processes

from beam_moderation import errors, kafka_partitions, records
from beam_moderation.kafka import ReadMessagesFromKafka, ReadReferencesFromKafka, WriteKafka
from beam_moderation.kafka_partitions import Partition, Reader, Subscription

pytestmark = [pytest.mark.integration, pytest.mark.services, pytest.mark.timeout(900)]

STREAMING = [
    "--streaming",
    "--checkpointing_interval=2000",
    "--max_bundle_time_mills=500",
    "--finish_bundle_before_checkpointing",
]


@pytest.fixture
def topic(kafka, request):
    """An empty topic of four partitions with a name of its own."""
    name = f"t{abs(hash(request.node.name))}"
    kafka.create_topic(name, 4, max_message_bytes="8000000")
    return name


def config(kafka, **settings):
    quiet = {"bootstrap.servers": kafka.bootstrap, "log_level": 0}
    return quiet | {name.replace("_", "."): value for name, value in settings.items()}


def produce(kafka, topic, values, partitions=4):
    producer = Producer(config(kafka, message_max_bytes=8_000_000, enable_idempotence=True))
    for number, value in enumerate(values):
        producer.produce(topic, value, partition=number % partitions)
        producer.poll(0)
    assert producer.flush(60) == 0


def numbers(first, after):
    return [str(number) for number in range(first, after)]


def lines(batch):
    for message in batch.messages:
        yield f"{batch.partition} {message.offset} {message.value.decode()}"


def read_into(folder, subscription, options):
    pipeline = beam.Pipeline(options=PipelineOptions(options))
    (
        pipeline
        | ReadMessagesFromKafka(subscription)
        | beam.FlatMap(lines)
        | beam.ParDo(recorder.Record(folder))
    )
    return pipeline.run()


def values(folder):
    return [int(line.split()[2]) for line in recorder.recorded(folder)]


def committed(kafka, topic, group):
    consumer = Consumer(config(kafka, group_id=group))
    places = consumer.committed([TopicPartition(topic, number) for number in range(4)], 30)
    consumer.close()
    return [place.offset for place in places]


@pytest.mark.parametrize(
    ("start", "offsets"),
    [
        pytest.param("earliest", [0, 0, 0, 0], id="earliest"),
        pytest.param("latest", [2, 2, 2, 2], id="latest"),
        pytest.param("committed", [0, 1, 0, 0], id="committed"),
    ],
)
def test_partitions_start_where_they_are_told(kafka, topic, start, offsets):
    produce(kafka, topic, numbers(0, 8))
    subscription = Subscription(
        topic, config(kafka, group_id=f"group-{topic}"), start, until_latest=True
    )
    kafka_partitions.commit(subscription, Partition(topic, 1, 0, 2), 1)
    found = list(kafka_partitions.list_partitions(subscription))
    assert [partition.start for partition in found] == offsets
    assert {partition.stop for partition in found} == {2}


def test_missing_topic_is_the_operators_mistake(kafka):
    with pytest.raises(errors.ConfigurationError, match="no-such-topic"):
        list(kafka_partitions.list_partitions(Subscription("no-such-topic", config(kafka))))


def batches(reader, count):
    found = []
    while len(found) < count:
        batch = reader.read()
        if batch is not None:
            found.append(batch)
    reader.close()
    return found


def test_backlog_is_cut_alike_from_wherever_it_is_read(kafka, topic):
    produce(kafka, topic, numbers(0, 25), partitions=1)
    subscription = Subscription(topic, config(kafka), max_messages=10, max_wait_s=2)
    partition = Partition(topic, 0, 0, 25)
    for start in (0, 7):
        found = batches(Reader(subscription, partition, start), 3)
        assert [batch.messages[-1].offset for batch in found] == [9, 19, 24]
        assert found[0].messages[0].offset == start
        assert [batch.block for batch in found] == [(0, 10), (10, 20), (20, 30)]


def test_what_retention_deleted_is_told_and_not_passed_over(kafka, topic):
    produce(kafka, topic, numbers(0, 40), partitions=1)
    place = TopicPartition(topic, 0, 30)
    admin = AdminClient(config(kafka))
    admin.delete_records([place])[place].result(30)
    subscription = Subscription(topic, config(kafka))
    found = batches(Reader(subscription, Partition(topic, 0, 0, 40), 5), 2)
    assert [batch.lost for batch in found] == [(5, 30), None]
    assert [message.offset for message in found[1].messages] == list(range(30, 40))


def all_batches(kafka, topic, **options):
    """What one partition's bounded read is cut into."""
    subscription = Subscription(topic, config(kafka), until_latest=True, **options)
    partition = kafka_partitions.list_partitions(subscription)[0]
    reader, found = Reader(subscription, partition, partition.start), []
    while reader.offset < partition.stop:
        found.append(reader.read())
    reader.close()
    return [batch for batch in found if batch is not None]


def test_a_batch_stays_in_its_block_where_offsets_are_missing(kafka, topic):
    """Each commit of a transaction takes an offset, here the last of a block, or a whole block."""
    producer = Producer(config(kafka, transactional_id=topic))
    producer.init_transactions(30)
    for count in (3, 3, 3, 1, 1):
        producer.begin_transaction()
        for _ in range(count):
            producer.produce(topic, b"{}", partition=0)
        producer.commit_transaction(30)
    found = all_batches(kafka, topic, max_messages=4)
    offsets = [[message.offset for message in batch.messages] for batch in found]
    assert offsets == [[0, 1, 2], [4, 5, 6], [8, 9, 10], [12, 14]]
    assert [batch.block for batch in found] == [(0, 4), (4, 8), (8, 12), (12, 16)]
    alone = all_batches(kafka, topic, max_messages=1)
    assert [batch.block[0] for batch in alone] == list(itertools.chain(*offsets))
    assert [len(batch.messages) for batch in alone] == [1] * 11


def test_a_batch_is_full_at_its_bytes(kafka, topic, monkeypatch):
    monkeypatch.setattr(kafka_partitions, "_BATCH_BYTES", 1000)
    produce(kafka, topic, [b"x" * size for size in (1200, 400, 400, 400, 10, 10)], partitions=1)
    found = all_batches(kafka, topic, max_messages=5)
    offsets = [[message.offset for message in batch.messages] for batch in found]
    assert offsets == [[0], [1, 2, 3], [4], [5]]
    assert [batch.block for batch in found] == [(0, 5)] * 3 + [(5, 10)]


def test_a_group_is_not_taken_back(kafka, topic):
    subscription = Subscription(topic, config(kafka, group_id=f"group-{topic}"))
    partitions = [Partition(topic, number, 0, 5) for number in range(4)]
    kafka_partitions.commit(subscription, partitions[1], 9)
    kafka_partitions.commit_stops(subscription, partitions)
    assert committed(kafka, topic, f"group-{topic}") == [5, 9, 5, 5]


@pytest.fixture(params=["in_memory", "multi_threading", "multi_processing", "prism", "flink"])
def runner_options(request):
    if request.param == "flink":
        return request.getfixturevalue("flink").options()
    if request.param == "prism":
        return ["--runner=PrismRunner", f"--prism_location={request.getfixturevalue('prism')}"]
    mode = f"--direct_running_mode={request.param}"
    return ["--runner=FnApiRunner", mode, "--direct_num_workers=2"]


def test_reading_until_latest_ends_by_itself(kafka, topic, tmp_path, runner_options):
    produce(kafka, topic, numbers(0, 3000), partitions=3)
    subscription = Subscription(topic, config(kafka), until_latest=True)
    read_into(tmp_path, subscription, runner_options).wait_until_finish()
    assert sorted(values(tmp_path)) == list(range(3000))


BAD_MESSAGES = {
    "message-tombstone": None,
    "message-empty": b"",
    "message-malformed": b"{",
    "message-not-utf-8": b"\xff\xfe",
    "message-schema-unknown": b"[1]",
    "uri-missing": b"{}",
    "type-wrong": b'{"uri": 1}',
    "content-not-base64": b'{"content": "' + b"%" * 5_000_000 + b'"}',
}


def as_json(batch):
    for reference in batch:
        yield json.dumps(["good", reference.source, reference.data_id])
    for letter in records.from_arrow(batch.dead_letters, records.DeadLetter):
        yield json.dumps([letter.code, letter.source, letter.data_id])


def test_bad_message_is_one_dead_letter_and_reading_goes_on(kafka, topic, tmp_path):
    good = b'{"uri": "https://x.test/1.jpg"}'
    sent = [value for bad in BAD_MESSAGES.values() for value in (good, bad)]
    produce(kafka, topic, sent, partitions=1)
    with beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"])) as pipeline:
        (
            pipeline
            | ReadReferencesFromKafka(Subscription(topic, config(kafka), until_latest=True))
            | beam.FlatMap(as_json)
            | beam.ParDo(recorder.Record(tmp_path))
        )
    codes = [code for bad in BAD_MESSAGES for code in ("good", bad)]
    assert sorted(map(json.loads, recorder.recorded(tmp_path))) == sorted(
        [code, f"{topic}/0/{offset}", f"{topic}/0/{offset}"] for offset, code in enumerate(codes)
    )


def dead_letter(number):
    return records.DeadLetter(
        f"id-{number}", "read", None, None, None, "c", "m", False, 1, "{}", "s", None,
        beam.utils.timestamp.Timestamp(0), "run",
    )  # fmt: skip


def write(kafka, topic, rows, **settings):
    with beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"])) as pipeline:
        pipeline | beam.Create(rows) | WriteKafka(topic, config(kafka, **settings))


def keys_and_values(kafka, topic):
    found = {}
    subscription = Subscription(topic, config(kafka), until_latest=True, max_wait_s=1)
    for partition in kafka_partitions.list_partitions(subscription):
        reader = Reader(subscription, partition, 0)
        while reader.offset < partition.stop:
            batch = reader.read()
            for message in batch.messages if batch else ():
                found[message.key.decode()] = json.loads(message.value)
        reader.close()
    return found


def test_rows_are_written_as_json_under_their_id(kafka, topic):
    write(kafka, topic, [dead_letter(number) for number in range(50)])
    found = keys_and_values(kafka, topic)
    assert sorted(found) == sorted(f"id-{number}" for number in range(50))
    assert found["id-7"]["failed_at"] == "1970-01-01T00:00:00Z"


def test_only_the_row_that_is_too_large_for_its_topic_is_left_out(kafka, topic):
    """The others were sent in one request with it, which together is too large, too."""
    kafka.create_topic(f"{topic}-small", 1, max_message_bytes="1000")
    rows = [dead_letter(number) for number in range(50)]
    rows[20] = rows[20]._replace(payload="x" * 2000)
    write(kafka, f"{topic}-small", rows)
    found = keys_and_values(kafka, f"{topic}-small")
    assert sorted(found) == sorted(f"id-{number}" for number in range(50) if number != 20)


def test_message_that_cannot_be_delivered_fails_the_bundle(kafka):
    with pytest.raises((RuntimeError, KafkaException), match="KafkaError"):
        write(kafka, "no-such-topic", [dead_letter(1)], message_timeout_ms=3000)


def count_windows(pipeline, subscription, folder, window_folder):
    read = pipeline | ReadMessagesFromKafka(subscription) | beam.FlatMap(lines)
    read | "Record" >> beam.ParDo(recorder.Record(folder))
    (
        read
        | beam.WindowInto(window.FixedWindows(5))
        | beam.WithKeys(lambda line: line.split()[0])
        | beam.combiners.Count.PerKey()
        | beam.MapTuple(lambda partition, count: f"{partition} {count} 0")
        | "RecordWindows" >> beam.ParDo(recorder.Record(window_folder))
    )


@pytest.fixture
def stream(kafka, topic, flink, tmp_path):
    """Starts the stream; its lines go to `lines`, the counts of its windows to `windows`."""
    folders = tmp_path / "lines", tmp_path / "windows"
    for folder in folders:
        folder.mkdir()
    subscription = Subscription(topic, config(kafka, group_id=f"group-{topic}"), max_delay_s=2)

    def start(*options):
        everything = [*flink.options(), *STREAMING, *options]
        pipeline = beam.Pipeline(options=PipelineOptions(everything))
        count_windows(pipeline, subscription, *folders)
        pipeline.run()
        processes.wait_until(lambda: len(flink.jobs()) == 1, "the start of the job")
        return flink.jobs()[0]

    yield start
    for job in flink.jobs():
        flink.cancel(job)


def wait_for(folder, count):
    processes.wait_until(lambda: len(set(values(folder))) >= count, f"{count} values", 120)


def python_worker(flink):
    import psutil

    return psutil.Process(flink.workers.pid).children()[-1]


def test_nothing_is_lost_whoever_dies(kafka, topic, flink, stream, tmp_path):
    deaths = {
        "the Python worker": lambda: python_worker(flink).kill(),
        "the TaskManager": lambda: restart(flink.task_managers[0]),
        "the JobManager": lambda: restart(flink.job_manager),
        "the broker": lambda: restart(kafka.broker),
    }
    folder = tmp_path / "lines"
    stream("--parallelism=4")
    produced = 0
    for death in [lambda: None, *deaths.values()]:
        produce(kafka, topic, numbers(produced, produced + 500))
        wait_for(folder, produced + 100)
        death()
        produce(kafka, topic, numbers(produced + 500, produced + 1000))
        produced += 1000
        wait_for(folder, produced)
    assert set(values(folder)) == set(range(produced))
    places = {}
    for line in recorder.recorded(folder):
        partition, offset, value = line.split()
        assert places.setdefault((partition, offset), value) == value


def restart(service):
    service.kill()
    service.start()


def test_offsets_are_committed_when_a_checkpoint_is_complete(kafka, topic, flink, stream):
    job = stream("--parallelism=4")
    produce(kafka, topic, numbers(0, 400))
    group = f"group-{topic}"
    processes.wait_until(lambda: committed(kafka, topic, group) == [100] * 4, "the commits")
    assert flink.completed_checkpoints(job) >= 1


def test_savepoint_goes_on_with_another_parallelism(kafka, topic, flink, stream, tmp_path):
    folder = tmp_path / "lines"
    job = stream("--parallelism=2")
    produce(kafka, topic, numbers(0, 1000))
    wait_for(folder, 1000)
    savepoint = flink.stop_with_savepoint(job)
    produce(kafka, topic, numbers(1000, 2000))
    stream("--parallelism=4", f"--savepoint_path={savepoint}")
    wait_for(folder, 2000)
    assert sorted(values(folder)) == list(range(2000))


def test_empty_partition_does_not_hold_the_windows(kafka, topic, flink, stream, tmp_path):
    stream("--parallelism=4")
    produce(kafka, topic, numbers(0, 300), partitions=3)

    def windowed():
        found = [line.split() for line in recorder.recorded(tmp_path / "windows")]
        return sum(int(count) for _, count, _ in found)

    processes.wait_until(lambda: windowed() == 300, "the windows", 120)
