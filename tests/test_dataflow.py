"""What Dataflow gets, as far as that can be seen without it: graphs, options, the image's steps."""

import base64
import importlib.metadata
import json
import os
import pathlib
import re
import shutil
import string
import subprocess
import sys
import venv

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PIPELINES = ROOT / "pipelines"
DOCKERFILE = PIPELINES / "dataflow" / "Dockerfile"
TEMPLATES = sorted((PIPELINES / "dataflow").glob("*.metadata.json"))
GRAPHS = pathlib.Path(__file__).with_name("dataflow_graphs.py")

A_TEMPLATE = pytest.mark.parametrize(
    "template", TEMPLATES, ids=lambda path: path.name.partition(".")[0]
)

IMAGE = "europe-docker.pkg.dev/a-project/images/moderation:1"

JOB = [
    "--project=a-project",
    "--region=europe-west4",
    "--temp_location=gs://a-bucket/temp",
    "--staging_location=gs://a-bucket/staging",
    f"--sdk_container_image={IMAGE}",
    "--number_of_worker_harness_threads=4",
    "--experiments=no_use_multiple_sdk_containers",
    "--no_use_public_ips",
]
"""Options that docs/dataflow.md speaks of."""

OWN = {"backfill": ["--scanner=qrcode"], "stream": ["--scanner=qrcode"]}
"""Options of a pipeline beside those that it must have."""


def pipeline_of(template):
    return PIPELINES / f"{template.name.partition('.')[0]}.py"


def run(command, **options):
    done = subprocess.run(command, check=False, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def asked(pipeline):
    return json.loads(run([sys.executable, GRAPHS, "options", pipeline]))


def required(pipeline, scheme):
    names = [option["name"] for option in asked(pipeline) if option["required"]]
    return [f"--{name}={scheme}://a-bucket/{name}" for name in names]


@A_TEMPLATE
def test_template_asks_what_the_pipeline_asks(template):
    parameters = json.loads(template.read_text())["parameters"]
    options = {option["name"]: option for option in asked(pipeline_of(template))}
    assert [parameter["name"] for parameter in parameters] == list(options)
    for parameter in parameters:
        option = options[parameter["name"]]
        assert parameter["isOptional"] is not option["required"]
        assert option["help"] in (None, parameter["helpText"])
        choices = [f"^({'|'.join(option['choices'])})$"] if option["choices"] else None
        assert parameter.get("regexes") == choices


@A_TEMPLATE
def test_template_says_whether_it_ends(template):
    streaming = json.loads(template.read_text())["streaming"]
    assert streaming is (pipeline_of(template).stem == "stream")


@pytest.fixture(scope="module")
def graph():
    """The graph of a pipeline under Dataflow's options; it was read back by who wrote it."""
    pytest.importorskip("zxingcpp", reason="needs the extra qrcode")

    def make(pipeline):
        chosen = [*required(pipeline, "memory"), *OWN.get(pipeline.stem, [])]
        command = [sys.executable, GRAPHS, "graph", pipeline, "--runner=dataflow_graphs.Graph"]
        return json.loads(run([*command, *JOB, *chosen]))

    return make


@A_TEMPLATE
def test_graph_is_small_enough_and_runs_in_the_image_alone(graph, template):
    """A job's graph may have 10 MB: https://cloud.google.com/dataflow/quotas."""
    made = graph(pipeline_of(template))
    assert made["bytes"] < 1_000_000
    found = made["components"]["environments"].values()
    images = {base64.b64decode(environment["payload"])[2:].decode() for environment in found}
    assert images == {IMAGE}


def test_image_has_the_version_of_beam_that_is_installed():
    version = importlib.metadata.version("apache-beam")
    text = DOCKERFILE.read_text()
    assert re.findall(r"apache/beam_python3\.11_sdk:(\S+)", text) == [version]
    assert re.findall(r"apache-beam\[gcp\]==([\d.]+)", text) == [version]


def test_image_stands_on_versions_and_not_on_the_latest():
    for base in re.findall(r"^FROM (\S+)", DOCKERFILE.read_text(), re.MULTILINE):
        assert re.search(r":[\w.-]*\d", base), base


class Image:
    """Does an image's steps below a folder and in a virtual environment, in place of a container.

    What comes from other images is not copied.
    """

    def __init__(self, folder):
        self.folder = folder
        self.python = folder / "venv" / "bin" / "python"
        self.environment = {
            "PATH": os.pathsep.join([str(self.python.parent), os.environ["PATH"]]),
            **{name: os.environ[name] for name in os.environ if name.startswith(("PIP_", "HOME"))},
        }

    def build(self, dockerfile):
        venv.create(self.folder / "venv", with_pip=True)
        for line in dockerfile.read_text().splitlines():
            step, _, rest = line.partition(" ")
            getattr(self, f"_{step.lower()}", lambda _: None)(rest)

    def at(self, text):
        """A text in which the image's own folders are those below ours."""
        return re.sub(r"(?<![\w./}])/(?=source|wheels|template)", f"{self.folder}/", text)

    def run(self, command):
        return run(["sh", "-c", self.at(command)], env=self.environment, cwd=self.folder)

    def _arg(self, rest):
        name, _, value = rest.partition("=")
        self.environment[name] = value

    def _env(self, rest):
        self._arg(self.at(string.Template(rest).substitute(self.environment)))

    def _copy(self, rest):
        if rest.startswith("--from"):
            return
        *sources, target = string.Template(rest).substitute(self.environment).split()
        target = pathlib.Path(self.at(target))
        target.mkdir(parents=True, exist_ok=True)
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, target, dirs_exist_ok=True)
            else:
                shutil.copy(ROOT / source, target)

    def _run(self, rest):
        self.run(rest)


@pytest.mark.integration
@pytest.mark.timeout(1200)
def test_steps_of_the_image_make_an_environment_that_submits_to_dataflow(tmp_path):
    image = Image(tmp_path)
    image.build(DOCKERFILE)
    assert "usage: backfill.py" in image.run("python ${FLEX_TEMPLATE_PYTHON_PY_FILE} --help")
    for pipeline in map(pipeline_of, TEMPLATES):
        chosen = [*required(pipeline, "gs"), *OWN[pipeline.stem]]
        dry = ["--runner=DataflowRunner", "--dry_run=True", *JOB, *chosen]
        image.run(f"python {pipeline} {' '.join(dry)}")
