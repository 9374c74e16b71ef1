"""The demo of streams: Kafka in, Flink at work, tables out. `make demo-stream` runs it.

Starts a real broker and a real cluster on loopback (Java 17 and Maven, which downloads them the
first time), sends 1,000 references to the images of the sample, runs `beam-moderation stream` until
each of them has an outcome, shows the tables, and ends everything that it has started.
"""

import contextlib
import json
import pathlib
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import demo_sample
import duckdb
import pyarrow.parquet as pq
from confluent_kafka import Producer, admin
from rich.console import Console
from rich.table import Table

import beam_moderation as bm

CONSOLE = Console()
REFERENCES = 1000
TOPIC = "references"
A_SECOND = 100
TIMEOUT_S = 600

_SERVICES = pathlib.Path(__file__).resolve().parents[1] / "tests" / "integration"

_SHOWN = {
    "Outcomes": """
        SELECT suggestion AS outcome, count(*) AS "references" FROM images GROUP BY ALL
        UNION ALL SELECT code, count(*) FROM dead_letters GROUP BY ALL ORDER BY ALL""",
    "The table scenes, some rows": """
        SELECT data_id, scene, label, round(score, 2) AS score, suggestion, source
        FROM scenes WHERE suggestion <> 'pass' ORDER BY data_id LIMIT 5""",
    "The table dead_letters, some rows": """
        SELECT data_id, stage, code, source FROM dead_letters ORDER BY data_id LIMIT 5""",
}


def services(verb: str, folder: pathlib.Path) -> dict[str, Any]:
    """Starts or stops the services whose data are in `folder`; returns where they are.

    Raises:
      SystemExit: they cannot be had; the message says why.
    """
    command = [sys.executable, "-m", "services", verb, "--folder", str(folder.resolve())]
    ended = subprocess.run(command, cwd=_SERVICES, capture_output=True, text=True, check=False)  # noqa: S603
    if ended.returncode:
        sys.exit(f"the demo needs a broker and a cluster: {ended.stderr.strip().splitlines()[-1]}")
    where: dict[str, Any] = json.loads(ended.stdout)
    return where


@contextlib.contextmanager
def running(folder: pathlib.Path) -> Iterator[dict[str, Any]]:
    """A broker and a cluster, gone afterwards."""
    try:
        yield services("start", folder)
    finally:
        services("stop", folder)
        shutil.rmtree(folder, ignore_errors=True)


def create_topic(brokers: str) -> None:
    """Makes the topic, with four partitions."""
    client = admin.AdminClient({"bootstrap.servers": brokers})
    client.create_topics([admin.NewTopic(TOPIC, 4, 1)])[TOPIC].result(30)


def produce(brokers: str, references: pathlib.Path) -> None:
    """Sends references to the images of the sample, over and over."""
    sample = pq.read_table(references, columns=["data_id", "uri"]).to_pylist()
    producer = Producer({"bootstrap.servers": brokers})
    for number in range(REFERENCES):
        row = sample[number % len(sample)]
        body = {"data_id": f"{number:04}-{row['data_id']}", "uri": row["uri"]}
        producer.produce(TOPIC, json.dumps(body))
        producer.poll(1 / A_SECOND)
    producer.flush(30)


@contextlib.contextmanager
def stream(
    where: dict[str, Any], references: pathlib.Path, tables: pathlib.Path
) -> Iterator["subprocess.Popen[bytes]"]:
    """The command that moderates the stream, shown first."""
    arguments = ["beam-moderation", "stream", "--brokers", where["kafka"], "--topic", TOPIC]
    arguments += ["--out", str(tables), "--scanner", "qrcode"]
    arguments += ["--local-root", str(references.parent), "--window", "5s"]
    arguments += [*where["flink"], "--parallelism=2", "--checkpointing_interval=2000"]
    CONSOLE.print(f"$ {shlex.join(arguments)}", style="bold", markup=False, soft_wrap=True)
    program = pathlib.Path(sys.executable).with_name(arguments[0])
    with subprocess.Popen([program, *arguments[1:]]) as process:  # noqa: S603
        try:
            yield process
        finally:
            process.terminate()


def view(tables: pathlib.Path) -> duckdb.DuckDBPyConnection:
    """The tables as readers see them."""
    database = duckdb.connect()
    database.execute(bm.views(str(tables)))
    return database


def wait(process: "subprocess.Popen[bytes]", tables: pathlib.Path) -> None:
    """Waits until each reference has an outcome.

    Raises:
      SystemExit: the stream ended, or took too long.
    """
    deadline, done = time.monotonic() + TIMEOUT_S, -1
    query = "SELECT (SELECT count(*) FROM images) + (SELECT count(*) FROM dead_letters)"
    while done < REFERENCES:
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"the stream ended, or took too long, at {done} of {REFERENCES} references")
        time.sleep(1)
        ((seen,),) = view(tables).sql(query).fetchall()
        if seen > done:
            CONSOLE.print(f"{seen:,} of {REFERENCES:,} references are in the tables")
        done = seen


def show(tables: pathlib.Path) -> None:
    """Prints what a reader would look at first."""
    for title, query in _SHOWN.items():
        found = view(tables).sql(query)
        table = Table(*found.columns, title=title, title_justify="left")
        for row in found.fetchall():
            table.add_row(*map(str, row))
        CONSOLE.print(table)
    files = len(list((tables / "_batches").iterdir()))
    CONSOLE.print(f"{REFERENCES:,} references, {files} sets of files, each of a window: {tables}")


def main(folder: pathlib.Path) -> None:
    """Runs the demo below `folder`."""
    tables = folder / "stream"
    if (tables / "_batches").is_dir():
        shutil.rmtree(tables)  # an earlier demo's outcomes would be taken for this one's
    references = demo_sample.write_sample(folder / "sample")
    CONSOLE.print("starting Kafka and Flink")
    with running(folder / "services") as where:
        create_topic(where["kafka"])
        with stream(where, references, tables) as process:
            produce(where["kafka"], references)
            wait(process, tables)
    show(tables)


if __name__ == "__main__":
    try:
        main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "out"))
    except KeyboardInterrupt:
        sys.exit("stopped")
