"""The jars and the binary of the services, downloaded on first use into a cache folder.

The folder is `.cache/services` of the repository, or what BEAM_MODERATION_CACHE names. Jars come
by their coordinates through Maven, Prism through Go's module system; both clients use whatever
mirror the machine has configured for them.
"""

import hashlib
import importlib.metadata
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

_HERE = pathlib.Path(__file__).parent
_COPY_DEPENDENCIES = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_BEAM = importlib.metadata.version("apache-beam")
_OLDEST_JAVA = 17
_PLACES = {"flink": "gradle/wrapper"}
"""Where jars are, if not in `lib`. Beam's job server sends its classpath to the cluster with every
job (150 MB, half a minute), except what has these words in its path
(`PipelineResources.isStageable`). Ours is there already."""

_DOWNLOAD_TIMEOUT_S = 900


class ServiceMissing(Exception):
    """A service cannot be had on this machine; the message is the one line that says why."""


def cache() -> pathlib.Path:
    """The folder for everything that is downloaded or written by a service."""
    folder = os.environ.get("BEAM_MODERATION_CACHE") or _HERE.parents[2] / ".cache" / "services"
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    return pathlib.Path(folder)


def _tool(name: str, purpose: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise ServiceMissing(f"`{name}` is not on the PATH: {purpose}")
    return path


def java() -> str:
    """The path of a Java that is new enough.

    Raises:
      ServiceMissing: there is none.
    """
    path = _tool("java", f"the services need Java {_OLDEST_JAVA} or newer")
    said = subprocess.run([path, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < _OLDEST_JAVA:
        raise ServiceMissing(f"the services need Java {_OLDEST_JAVA} or newer, `java` is: {said!r}")
    return path


def _run(command: list[str], **environment: str) -> None:
    try:
        done = subprocess.run(
            command,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=_DOWNLOAD_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ServiceMissing(f"`{command[0]}` took over {_DOWNLOAD_TIMEOUT_S} s") from error
    if done.returncode:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise ServiceMissing(f"`{' '.join(command)}` failed: {said[0] if said else 'silently'}")


def jars(name: str) -> pathlib.Path:
    """The folder with every jar that `<name>.pom.xml` depends on.

    Raises:
      ServiceMissing: no Maven, or it cannot resolve them.
    """
    pom, place = _HERE / f"{name}.pom.xml", _PLACES.get(name, "lib")
    folder = cache() / f"{name}-{hashlib.sha256(pom.read_bytes()).hexdigest()[:12]}"
    if not folder.exists():
        mvn = _tool("mvn", f"the jars of {name} are downloaded with Maven")
        with tempfile.TemporaryDirectory(dir=cache()) as scratch:
            made = pathlib.Path(scratch) / "made"
            wanted = [f"-DoutputDirectory={made / place}", "-DincludeScope=runtime"]
            _run([mvn, "-q", "-B", "-f", str(pom), _COPY_DEPENDENCIES, *wanted])
            _move(made, folder)
    return folder / place


def prism() -> pathlib.Path:
    """The Prism runner of the installed Beam's version, built from its Go module.

    Raises:
      ServiceMissing: no Go, or the module cannot be built with it.
    """
    binary = cache() / f"prism-{_BEAM}"
    if not binary.exists():
        go = _tool("go", "Prism is built from its Go module")
        with tempfile.TemporaryDirectory(dir=cache()) as scratch:
            _run(
                [go, "install", f"github.com/apache/beam/sdks/v2/go/cmd/prism@v{_BEAM}"],
                GOBIN=scratch,
                GOTOOLCHAIN="local",
            )
            _move(pathlib.Path(scratch) / "prism", binary)
    return binary


def download() -> None:
    """Has every service that is not there yet.

    Raises:
      ServiceMissing: one cannot be had.
    """
    for pom in sorted(_HERE.glob("*.pom.xml")):
        jars(pom.name.removesuffix(".pom.xml"))
    prism()


def _move(made: pathlib.Path, wanted: pathlib.Path) -> None:
    """Renames in one step, so that nobody sees a half; another process may have been faster."""
    try:
        made.rename(wanted)
    except OSError:
        if not wanted.exists():
            raise
