"""How long a reference takes through a stream: from produce to its outcome on the output topic.

`python benchmarks/latency.py [--references 3000] [--a-second 50] [--rounds 3]`

References with a tiny image inline come at a steady rate to a broker, through Flink and a null
model, and back to another topic; broker and cluster are those of the tests, on loopback. The clock
starts when the producer is given the message and stops when a consumer has the outcome's. The first
fifth of each round warms up and is not counted.
"""

import argparse
import base64
import io
import json
import pathlib
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from confluent_kafka import Consumer, Producer, TopicPartition
from PIL import Image
from rich.console import Console
from rich.table import Table

import beam_moderation as bm

PARTITIONS = 4
WARM_UP = 0.2
START_TIMEOUT_S, END_TIMEOUT_S = 120, 60
OPTIONS = (
    "--streaming",
    "--parallelism=2",
    "--checkpointing_interval=10000",
    "--max_bundle_time_mills=500",
    "--finish_bundle_before_checkpointing",
)
"""As the command `stream` has them."""


def start(flink: Any, config: Mapping[str, Any], topics: Mapping[str, str], out: str) -> str:
    """Runs the stream; returns its job's id."""
    import overhead

    judge = bm.ModerateWithModel(
        [overhead.NullModel()], policy=bm.Policy({"scenes": {"null": {"normal": "pass"}}})
    )
    pipeline = beam.Pipeline(options=PipelineOptions([*flink.options(), *OPTIONS]))
    read = bm.ReadReferencesFromKafka(bm.Subscription(topics["refs"], config))
    outcomes = pipeline | read | judge
    _ = outcomes | bm.WriteParquet(out, window=60.0)
    _ = outcomes | bm.WriteOutcomesToKafka(topics["verdicts"], config)
    pipeline.run()
    return wait_for(flink.jobs)[0]


def wait_for(get: Any) -> Any:
    """What `get` gives as soon as it is something."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not (got := get()):
        if time.monotonic() > deadline:
            raise TimeoutError(get)
        time.sleep(0.1)
    return got


def produce(
    config: Mapping[str, Any], topic: str, count: int, a_second: float, sent: dict[str, float]
) -> None:
    """Sends references at a steady rate, and notes when."""
    with io.BytesIO() as file:
        Image.new("RGB", (8, 8)).save(file, "JPEG")
        content = base64.b64encode(file.getvalue()).decode()
    producer = Producer(config)
    began = time.monotonic()
    for number in range(count):
        producer.poll(max(0.0, began + number / a_second - time.monotonic()))
        data_id = f"{number}"
        sent[data_id] = time.monotonic()
        producer.produce(topic, json.dumps({"data_id": data_id, "content": content}))
    producer.flush()


def arrivals(consumer: Consumer, count: int) -> Iterator[tuple[str, float]]:
    """The ids of outcomes, each with the time when it was here first."""
    seen: set[str] = set()
    while len(seen) < count:
        message = consumer.poll(END_TIMEOUT_S)
        if message is None or message.error() is not None:
            raise TimeoutError(f"{count - len(seen)} outcomes did not come")
        data_id = message.key().decode()
        if data_id not in seen:
            seen.add(data_id)
            yield data_id, time.monotonic()


def measure(kafka: Any, flink: Any, count: int, a_second: float, number: int) -> list[float]:
    """The seconds that each reference of a round took, but for those that warm up."""
    topics = {name: f"{name}-{number}" for name in ("refs", "verdicts")}
    for topic in topics.values():
        kafka.create_topic(topic, PARTITIONS)
    config = {"bootstrap.servers": kafka.bootstrap, "log_level": 0}
    consumer = Consumer({**config, "group.id": "latency", "fetch.wait.max.ms": 10})
    consumer.assign([TopicPartition(topics["verdicts"], place, 0) for place in range(PARTITIONS)])
    sent: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as out:
        job = start(flink, config, topics, out)
        arguments = (config, topics["refs"], count, a_second, sent)
        producer = threading.Thread(target=produce, args=arguments)
        producer.start()
        arrived = dict(arrivals(consumer, count))
        producer.join()
        flink.cancel(job)
    consumer.close()
    counted = [f"{reference}" for reference in range(int(count * WARM_UP), count)]
    return [arrived[data_id] - sent[data_id] for data_id in counted]


def report(rounds: list[list[float]], a_second: float) -> None:
    """Prints the quantiles of each round, and their medians."""
    table = Table("round", title=f"From produce to outcome, {a_second:g} references a second")
    names = ("p50", "p90", "p99", "the slowest")
    for name in names:
        table.add_column(f"{name}, ms", justify="right")
    rows = []
    for number, seconds in enumerate(rounds, 1):
        cuts = statistics.quantiles(seconds, n=100)
        rows.append([1000 * value for value in (cuts[49], cuts[89], cuts[98], max(seconds))])
        table.add_row(f"{number}", *(f"{value:.0f}" for value in rows[-1]))
    medians = (statistics.median(column) for column in zip(*rows, strict=True))
    table.add_row("median", *(f"{value:.0f}" for value in medians))
    Console(width=120).print(table)


def main() -> int:
    """Measures in rounds; 2 where there is no Java, or Maven, for the services."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--references", type=int, default=3000)
    parser.add_argument("--a-second", type=float, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "integration"))
    import services

    try:
        with services.kafka() as kafka, services.flink() as flink:
            rounds = [
                measure(kafka, flink, options.references, options.a_second, number)
                for number in range(options.rounds)
            ]
    except services.ServiceMissing as missing:
        print(missing, file=sys.stderr)
        return 2
    report(rounds, options.a_second)
    return 0


if __name__ == "__main__":
    sys.exit(main())
