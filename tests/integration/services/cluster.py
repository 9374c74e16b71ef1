"""A real Apache Flink cluster on loopback, with Beam's job server in front of it.

ZooKeeper, a JobManager, TaskManagers and the job server are JVMs of their own, each of which a test
may kill. ZooKeeper makes the JobManager highly available: a new one takes its jobs up again.
"""

import contextlib
import json
import os
import pathlib
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

from services import downloads, processes

_OPENED = (
    "java.lang",
    "java.lang.reflect",
    "java.io",
    "java.net",
    "java.nio",
    "sun.nio.ch",
    "java.text",
    "java.time",
    "java.util",
    "java.util.concurrent",
    "java.util.concurrent.atomic",
    "java.util.concurrent.locks",
)
"""The packages that Flink's own configuration opens for Java 17."""

_ENTRY = "org.apache.flink.runtime"


class Flink:
    """A cluster: `zookeeper`, `job_manager`, `task_managers`, `job_server` and `workers`.

    `workers` is a pool that starts one Python process for each TaskManager and job.

    Args:
      folder: where settings, logs, checkpoints and savepoints go.
      task_managers: how many processes run tasks.
      slots: how many parallel pipelines each of them can hold.
    """

    def __init__(self, folder: pathlib.Path, task_managers: int = 1, slots: int = 4) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._zookeeper_port, self.rest_port, self.job_port, self._workers_port = _ports(4)
        self.rest = f"http://{processes.LOOPBACK}:{self.rest_port}"
        self.job_endpoint = f"{processes.LOOPBACK}:{self.job_port}"
        self._write("config.yaml", self._settings(slots))
        self._write("zoo.cfg", self._zookeeper_settings(), "=")
        self.zookeeper = self._zookeeper()
        self.job_manager = self._job_manager()
        self.task_managers = [self._task_manager(number) for number in range(task_managers)]
        self.job_server = self._job_server()
        self.workers = self._workers()

    def _write(self, name: str, settings: Mapping[str, Any], sign: str = ": ") -> None:
        lines = [f"{key}{sign}{value}\n" for key, value in settings.items()]
        (self.folder / name).write_text("".join(lines))

    def _settings(self, slots: int) -> dict[str, Any]:
        return {
            "jobmanager.rpc.address": processes.LOOPBACK,
            "jobmanager.bind-host": processes.LOOPBACK,
            "taskmanager.host": processes.LOOPBACK,
            "taskmanager.bind-host": processes.LOOPBACK,
            "rest.address": processes.LOOPBACK,
            "rest.bind-address": processes.LOOPBACK,
            "rest.port": self.rest_port,
            "high-availability.type": "zookeeper",
            "high-availability.zookeeper.quorum": f"{processes.LOOPBACK}:{self._zookeeper_port}",
            "high-availability.storageDir": (self.folder / "ha").as_uri(),
            "state.checkpoints.dir": (self.folder / "checkpoints").as_uri(),
            "state.savepoints.dir": (self.folder / "savepoints").as_uri(),
            "io.tmp.dirs": self.folder / "tmp",
            "taskmanager.numberOfTaskSlots": slots,
            "taskmanager.cpu.cores": 2,
            "taskmanager.memory.framework.heap.size": "128m",
            "taskmanager.memory.framework.off-heap.size": "128m",
            "taskmanager.memory.task.heap.size": "768m",
            "taskmanager.memory.task.off-heap.size": "128m",
            "taskmanager.memory.network.min": "64m",
            "taskmanager.memory.network.max": "64m",
            "taskmanager.memory.managed.size": "64m",
            "taskmanager.memory.jvm-metaspace.size": "256m",
            "taskmanager.memory.jvm-overhead.min": "128m",
            "taskmanager.memory.jvm-overhead.max": "128m",
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": 1000,
            "restart-strategy.fixed-delay.delay": "1 s",
            "heartbeat.interval": 1000,
            "heartbeat.timeout": 8000,
            # The jobs' own jars are the same as the cluster's: one copy of each class.
            "classloader.resolve-order": "parent-first",
        }

    def _zookeeper_settings(self) -> dict[str, Any]:
        return {
            "clientPort": self._zookeeper_port,
            "clientPortAddress": processes.LOOPBACK,
            "dataDir": self.folder / "zk",
            "admin.enableServer": "false",
        }

    def _java(self, memory: str, *program: str) -> list[str]:
        opened = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED]
        log4j = pathlib.Path(__file__).with_name("log4j2.properties")
        quick = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", f"-Xmx{memory}"]
        settings = [*quick, *opened, f"-Dlog4j2.configurationFile={log4j}"]
        jars = downloads.jars("flink")
        return [downloads.java(), *settings, "-cp", f"{jars}/*", *program]

    def _zookeeper(self) -> processes.Service:
        peer = f"{_ENTRY}.zookeeper.FlinkZooKeeperQuorumPeer"
        own = ["--zkConfigFile", str(self.folder / "zoo.cfg"), "--peerId", "1"]
        return processes.Service(
            self._java("96m", peer, *own),
            self.folder / "zookeeper.log",
            lambda: processes.listens(self._zookeeper_port),
        )

    def _job_manager(self) -> processes.Service:
        entry = f"{_ENTRY}.entrypoint.StandaloneSessionClusterEntrypoint"
        return processes.Service(
            self._java("512m", entry, "--configDir", str(self.folder)),
            self.folder / "job_manager.log",
            self._answers,
        )

    def _answers(self) -> bool:
        try:
            return "taskmanagers" in self.get("/overview")
        except (OSError, ValueError):
            return False

    def _task_manager(self, number: int) -> processes.Service:
        runner = f"{_ENTRY}.taskexecutor.TaskManagerRunner"
        (port,) = _ports(1)
        own = ["--configDir", str(self.folder), "-D", f"taskmanager.rpc.port={port}"]
        return processes.Service(
            self._java("896m", runner, *own),
            self.folder / f"task_manager_{number}.log",
            lambda: processes.listens(port),
        )

    def _job_server(self) -> processes.Service:
        (artifact_port,) = _ports(1)
        return processes.Service(
            self._java(
                "512m",
                "org.apache.beam.runners.flink.FlinkJobServerDriver",
                f"--flink-master={processes.LOOPBACK}:{self.rest_port}",
                f"--job-host={processes.LOOPBACK}",
                f"--job-port={self.job_port}",
                f"--artifact-port={artifact_port}",
                "--expansion-port=-1",
                f"--artifacts-dir={self.folder / 'artifacts'}",
            ),
            self.folder / "job_server.log",
            lambda: processes.listens(self.job_port),
        )

    def _workers(self) -> processes.Service:
        # The pool starts its workers as `python`.
        path = os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]])
        return processes.Service(
            [sys.executable, "-m", "services.workers", str(self._workers_port)],
            self.folder / "workers.log",
            lambda: processes.listens(self._workers_port),
            {"PATH": path, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    @property
    def members(self) -> dict[str, processes.Service]:
        """Every process of the cluster by the name of its log, in the order of their start."""
        servers = [self.zookeeper, self.job_manager, *self.task_managers, self.job_server]
        return {member.log.stem: member for member in [*servers, self.workers]}

    @property
    def where(self) -> list[str]:
        """What a user needs to know: the options of a pipeline."""
        return self.options()

    def options(self, *, in_process: bool = False) -> list[str]:
        """The options of a pipeline that runs here: in `workers`, or in the submitting process."""
        where = ["--environment_type=LOOPBACK"]
        if not in_process:
            address = f"{processes.LOOPBACK}:{self._workers_port}"
            where = ["--environment_type=EXTERNAL", f"--environment_config={address}"]
        return ["--runner=PortableRunner", f"--job_endpoint={self.job_endpoint}", *where]

    def start(self, *, survives: bool = False) -> None:
        """Starts every process; the TaskManagers have registered when it returns."""
        for member in self.members.values():
            member.launch(survives=survives)
        for member in self.members.values():
            member.wait()
        processes.wait_until(self._complete, "registration of the TaskManagers")

    def _complete(self) -> bool:
        ready = all(member.ready() for member in self.task_managers)
        return ready and self.get("/overview")["taskmanagers"] == len(self.task_managers)

    def stop(self) -> None:
        """Ends every process, the newest first."""
        for member in reversed(self.members.values()):
            member.stop()

    def get(self, path: str) -> Any:
        """What the JobManager's REST interface says at `path`."""
        with urllib.request.urlopen(self.rest + path, timeout=10) as answer:
            return json.load(answer)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """What the JobManager's REST interface answers to a request."""
        head = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.rest + path, json.dumps(body).encode(), head)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def jobs(self, status: str = "RUNNING") -> list[str]:
        """The ids of the jobs in a state."""
        return [job["id"] for job in self.get("/jobs")["jobs"] if job["status"] == status]

    def completed_checkpoints(self, job: str) -> int:
        """How many checkpoints of a job have completed since its JobManager started."""
        return self.get(f"/jobs/{job}/checkpoints")["counts"]["completed"]

    def cancel(self, job: str) -> None:
        """Ends a job without a savepoint."""
        request = urllib.request.Request(f"{self.rest}/jobs/{job}?mode=cancel", method="PATCH")
        urllib.request.urlopen(request, timeout=10).close()
        processes.wait_until(lambda: job in self.jobs("CANCELED"), f"the end of job {job}")

    def stop_with_savepoint(self, job: str) -> str:
        """Stops a job and returns the place of its savepoint.

        Raises:
          RuntimeError: there is no savepoint; the message is Flink's.
        """
        wanted = {"targetDirectory": (self.folder / "savepoints").as_uri(), "drain": False}
        path = f"/jobs/{job}/savepoints/{self.post(f'/jobs/{job}/stop', wanted)['request-id']}"
        processes.wait_until(
            lambda: self.get(path)["status"]["id"] == "COMPLETED", f"the savepoint of job {job}"
        )
        done = self.get(path)["operation"]
        if "location" not in done:
            raise RuntimeError(f"no savepoint of job {job}: {done}")
        return done["location"]


def _ports(count: int) -> list[int]:
    return [processes.free_port() for _ in range(count)]


@contextlib.contextmanager
def flink(task_managers: int = 1, slots: int = 4) -> Iterator[Flink]:
    """A cluster without jobs, gone afterwards.

    Raises:
      ServiceMissing: it cannot be had on this machine.
    """
    with tempfile.TemporaryDirectory(prefix="flink-", ignore_cleanup_errors=True) as folder:
        cluster = Flink(pathlib.Path(folder), task_managers, slots)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
