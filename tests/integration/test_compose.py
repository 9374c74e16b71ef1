"""`compose.yaml` and the services of the tests are the same: only read here, there is no Docker."""

import importlib.metadata
import pathlib
import re
from xml.etree import ElementTree

import pytest
import yaml
from services import broker

ROOT = pathlib.Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
BEAM = importlib.metadata.version("apache-beam")


def dependencies(name):
    """The versions that a pom file asks for, by the names of the artifacts."""
    root = ElementTree.parse(pathlib.Path(broker.__file__).with_name(f"{name}.pom.xml"))
    maven = {"m": "http://maven.apache.org/POM/4.0.0"}
    found = root.iterfind("m:dependencies/m:dependency", maven)
    return {
        d.findtext("m:artifactId", None, maven): d.findtext("m:version", None, maven) for d in found
    }


def test_kafka_has_the_version_of_the_tests():
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{dependencies('kafka')['kafka_2.13']}"


def test_flink_and_the_job_server_have_the_versions_of_the_tests():
    ((flink, beam),) = (
        (artifact.rpartition("-")[2], version)
        for artifact, version in dependencies("flink").items()
        if artifact.startswith("beam-runners-flink-")
    )
    assert SERVICES["job-server"]["image"] == f"apache/beam_flink{flink}_job_server:{beam}"
    for name in ("job-manager", "task-manager"):
        assert re.fullmatch(rf"flink:{re.escape(flink)}\.\d+-java17", SERVICES[name]["image"])


def test_workers_have_the_version_of_beam_that_is_installed():
    dockerfile = SERVICES["workers"]["build"]["dockerfile_inline"]
    assert dockerfile.startswith(f"FROM apache/beam_python3.11_sdk:{BEAM}\n")


def test_workers_have_extras_that_there_are():
    dockerfile = SERVICES["workers"]["build"]["dockerfile_inline"]
    extras = set(re.search(r"/source\[(.*)\]", dockerfile)[1].split(","))
    text = (ROOT / "pyproject.toml").read_text()
    assert all(re.search(rf"^{extra} = \[", text, re.MULTILINE) for extra in extras)


def test_broker_is_set_like_that_of_the_tests():
    own = ("listeners", "voters", "dirs")
    for line in broker._PROPERTIES.splitlines():
        name, _, value = line.partition("=")
        if not name.endswith(own):
            variable = f"KAFKA_{name.upper().replace('.', '_')}"
            assert str(SERVICES["kafka"]["environment"][variable]) == value, name


@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
def test_ports_are_open_to_this_machine_alone(service):
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
def test_what_a_service_names_is_there(service):
    needed = [*service.get("depends_on", ()), service.get("network_mode", "").partition(":")[2]]
    assert {name for name in needed if name} <= SERVICES.keys()
    for volume in service.get("volumes", []):
        source = volume.partition(":")[0]
        assert source in COMPOSE["volumes"] or source.startswith("./")


def test_files_that_an_image_copies_are_there():
    for line in SERVICES["workers"]["build"]["dockerfile_inline"].splitlines():
        if line.startswith("COPY"):
            assert all((ROOT / name).exists() for name in line.split()[1:-1])
