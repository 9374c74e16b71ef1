import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("onnx", reason="needs the extra dev")
pytest.importorskip("psutil", reason="needs the extra dev")

BENCHMARKS = pathlib.Path(__file__).parent.parent.parent / "benchmarks"

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("benchmark")


def run(script, *arguments):
    return subprocess.run(
        [sys.executable, BENCHMARKS / script, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("script", "arguments", "rows"),
    [
        (
            "backfill.py",
            ["--images", 40, "--rounds", 1],
            ["bound", "documented", "python", "command", "command-int8"],
        ),
        ("memory.py", ["--images", 40, "--times", 2, "--rounds", 1], ["once", "many", "bomb"]),
        (
            "isolation.py",
            ["--images", 40, "--rounds", 1, "--slices", 3],
            ["fp32", "int8", "here", "isolated"],
        ),
        ("read.py", ["--references", 1000, "--rounds", 1], ["pyarrow", "product", "product,"]),
        ("overhead.py", ["--references", 400, "--rounds", 1], ["read", "moderate", "write"]),
    ],
)
def test_every_configuration_has_a_row(folder, script, arguments, rows):
    where = [] if script in ("overhead.py", "read.py") else ["--folder", folder]
    ended = run(script, *where, *arguments)
    assert ended.returncode == 0, ended.stderr
    first_cells = {line.strip("│ ").partition(" ")[0] for line in ended.stdout.splitlines()}
    assert set(rows) <= first_cells


def test_every_poisonous_reference_has_its_outcome(folder):
    ended = run("poison.py", "--folder", folder)
    assert "55 references in, 55 outcomes out, 0 wrong" in ended.stdout, ended.stdout
    assert ended.returncode == 0


@pytest.mark.services
def test_references_of_a_stream_have_a_latency(kafka):
    """The services are its own; `kafka` skips the test where they cannot be had."""
    ended = run("latency.py", "--references", 300, "--rounds", 1)
    assert ended.returncode == 0, ended.stderr
    assert "median" in ended.stdout


def test_gpu_benchmark_says_that_it_needs_a_gpu(folder):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    ended = run("gpu.py", "--folder", folder)
    assert ended.returncode == 2
    assert "CUDAExecutionProvider" in ended.stderr
