"""A real Apache Kafka broker in one JVM (KRaft, no ZooKeeper), with its data in a folder."""

import contextlib
import pathlib
import tempfile
import uuid
from collections.abc import Iterator

from confluent_kafka import admin

from services import downloads, processes

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
num.partitions=4
auto.create.topics.enable=false
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
"""


class Kafka:
    """A broker on loopback.

    Args:
      folder: where its settings, its data and its log go.
      port: where it listens; a free one by default.
    """

    def __init__(self, folder: pathlib.Path, port: int = 0) -> None:
        self.port = port or processes.free_port()
        self.bootstrap = self.where = f"{processes.LOOPBACK}:{self.port}"
        self._folder = folder
        self.broker = processes.Service(
            self._java("kafka.Kafka", str(self._properties)),
            folder / "broker.log",
            self._answers,
        )

    @property
    def _properties(self) -> pathlib.Path:
        return self._folder / "server.properties"

    def _java(self, *program: str) -> list[str]:
        log4j = pathlib.Path(__file__).with_name("log4j2.properties")
        memory = ["-Xms128m", "-Xmx512m", f"-Dlog4j2.configurationFile={log4j}"]
        return [downloads.java(), *memory, "-cp", f"{downloads.jars('kafka')}/*", *program]

    def _answers(self) -> bool:
        if not processes.listens(self.port):
            return False
        try:
            return bool(self.admin().list_topics(timeout=5).brokers)
        except Exception:  # noqa: BLE001 - any failure means: not yet
            return False

    def admin(self) -> admin.AdminClient:
        """A client for topics, groups and settings."""
        return admin.AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

    def start(self, *, survives: bool = False) -> None:
        """Starts the broker; the first time with nothing, then with what it had."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if not self._properties.exists():
            self._format()
        self.broker.start(survives=survives)

    def _format(self) -> None:
        settings = _PROPERTIES.format(
            host=processes.LOOPBACK,
            port=self.port,
            controller_port=processes.free_port(),
            data=self._folder / "data",
        )
        self._properties.write_text(settings)
        cluster = ["-t", uuid.uuid4().hex[:22], "-c", str(self._properties)]
        processes.run(self._java("kafka.tools.StorageTool", "format", *cluster))

    @property
    def members(self) -> dict[str, processes.Service]:
        """Its one process by the name of its log."""
        return {"broker": self.broker}

    def create_topic(self, name: str, partitions: int = 4, **settings: str) -> None:
        """Makes a topic; `settings` with underscores for dots, such as `max_message_bytes`."""
        config = {key.replace("_", "."): value for key, value in settings.items()}
        client = self.admin()
        client.create_topics([admin.NewTopic(name, partitions, 1, config=config)])[name].result(30)

    def stop(self) -> None:
        """Ends the broker in good order."""
        self.broker.stop()


@contextlib.contextmanager
def kafka() -> Iterator[Kafka]:
    """A broker with an empty log, gone afterwards.

    Raises:
      ServiceMissing: it cannot be had on this machine.
    """
    with tempfile.TemporaryDirectory(prefix="kafka-") as folder:
        broker = Kafka(pathlib.Path(folder))
        try:
            broker.start()
            yield broker
        finally:
            broker.stop()
