"""The command in processes of their own, what goes in by Kafka, and what its readers see."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile

import duckdb
from confluent_kafka import Consumer, Producer, TopicPartition
from services import processes

import beam_moderation as bm

PROGRAM = [sys.executable, "-c", "from beam_moderation import cli; cli.main()"]
PARTITIONS = 4


def asked(kafka, topic, pictures):
    """What `stream` needs: the tables go beside the folder of the pictures."""
    words = ["stream", "--brokers", kafka.bootstrap, "--topic", topic, "--scanner", "qrcode"]
    return [*words, "--local-root", pictures, "--out", pictures.parent / "out"]


def references(pictures, first, after):
    """Numbered references; every tenth leads nowhere."""
    names = {number: number % 10 or "gone" for number in range(first, after)}
    return [
        {"data_id": f"{number}", "uri": (pictures / f"{name}.png").as_uri()}
        for number, name in names.items()
    ]


def expected(first, after):
    """The outcomes of such references."""
    return {f"{n}": "pass" if n % 10 else "fetch-not-found" for n in range(first, after)}


class Command:
    """`beam-moderation` with some arguments and variables.

    What it says goes to a file, for a pipe that nobody reads would hold it up.
    """

    def __init__(self, *arguments, **variables):
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - `kill` closes it
        pipes = {"stdout": subprocess.PIPE, "stderr": self._said, "text": True}
        command = [*PROGRAM, *map(str, arguments)]
        self.process = subprocess.Popen(command, env=os.environ | variables, **pipes)

    def end(self, timeout_s=300):
        """Its exit code, what it has printed, and what it has said on the way."""
        out, _ = self.process.communicate(timeout=timeout_s)
        self._said.seek(0)
        return self.process.returncode, out, self._said.read()

    def alive(self):
        assert self.process.poll() is None, self.end()
        return True

    def kill(self):
        self.process.kill()
        self.end()
        self._said.close()


@contextlib.contextmanager
def jobs_on(flink):
    """Starts jobs by their command's arguments, one at a time; they end with the context."""
    commands = []

    def start(verb, *arguments, **variables):
        flags = [*flink.options(), "--parallelism=2", "--checkpointing_interval=2000"]
        command = Command(verb, *flags, *arguments, **variables)
        commands.append(command)
        processes.wait_until(lambda: command.alive() and len(flink.jobs()) == 1, "the job")
        return command

    try:
        yield start
    finally:
        for job in flink.jobs():
            flink.cancel(job)
        for command in commands:
            command.kill()


def _is_delivered(error, message):
    assert error is None, error


def produce(kafka, topic, values, partitions=PARTITIONS, **more):
    """Sends values, dictionaries as JSON, to one partition after the other.

    Args:
      more: of each message, such as `timestamp` in milliseconds.
    """
    settings = {"message.max.bytes": 2**26, "log_level": 0}
    producer = Producer({"bootstrap.servers": kafka.bootstrap, **settings})
    for number, value in enumerate(values):
        body = json.dumps(value).encode() if isinstance(value, dict) else value
        place = {"partition": number % partitions, **more}
        producer.produce(topic, body, on_delivery=_is_delivered, **place)
        producer.poll(0)
    assert producer.flush(60) == 0


def outcomes(folder):
    """What a reader of the tables sees, by reference; each has one outcome."""
    database = duckdb.connect()
    database.execute(bm.views(str(folder)))
    rows = database.sql(
        "SELECT data_id, suggestion FROM images UNION ALL SELECT data_id, code FROM dead_letters"
    ).fetchall()
    assert len(rows) == len(dict(rows))
    return dict(rows)


def wait_for(command, folder, count):
    """Waits until so many references have an outcome."""
    processes.wait_until(
        lambda: command.alive() and len(outcomes(folder)) >= count, f"{count} outcomes", 180
    )


def committed(kafka, topic, group):
    """The next offsets of a group, by partition; a negative one where there is none."""
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group, "log_level": 0})
    places = consumer.committed([TopicPartition(topic, n) for n in range(PARTITIONS)], 30)
    consumer.close()
    return [place.offset for place in places]


def messages_of(kafka, topic, count):
    """The first messages of a topic: their keys, tables and rows."""
    config = {"bootstrap.servers": kafka.bootstrap, "group.id": "reader", "log_level": 0}
    consumer = Consumer({**config, "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
    found = []
    with contextlib.closing(consumer):
        while len(found) < count:
            for message in consumer.consume(count, 5):
                assert message.error() is None
                table = dict(message.headers())["table"].decode()
                found.append((message.key().decode(), table, json.loads(message.value())))
    return found
