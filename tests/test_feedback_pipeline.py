"""The pipeline of feedback, as a user runs it."""

import importlib
import json
import pathlib
import random
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from vendor_jobs import KEYS, decided_rows

from beam_moderation import emulator, errors

PIPELINES = pathlib.Path(__file__).parent.parent / "pipelines"


@pytest.fixture
def pipeline(monkeypatch):
    monkeypatch.syspath_prepend(str(PIPELINES))
    return importlib.import_module("feedback")


def arguments(folder, url, table=None):
    (folder / "keys.yaml").write_text(
        json.dumps({"alibaba": {"key_id": KEYS.key_id, "key_secret": KEYS.key_secret}})
    )
    table = table or [*decided_rows(30), {"uri": "https://x.example/", "suggestion": "?"}]
    pq.write_table(pa.Table.from_pylist(table), folder / "decisions.parquet", row_group_size=8)
    return [
        f"--decisions={folder / 'decisions.parquet'}",
        f"--markers={folder / 'markers'}",
        "--vendor=alibaba",
        f"--vendor_option=endpoint={url}",
        f"--credentials={folder / 'keys.yaml'}",
        "--qps=200",
    ]


def test_the_pipeline_tells_the_rows_of_a_parquet_table(emulate, pipeline, tmp_path, capsys):
    running = emulate("alibaba")
    asked = arguments(tmp_path, running.url)
    assert pipeline.run(asked) == {"taken": 30, "invalid": 1}
    (line,) = capsys.readouterr().err.splitlines()
    assert (json.loads(line)["url"], json.loads(line)["state"]) == ("https://x.example/", "invalid")
    assert pipeline.run([*asked, f"--out={tmp_path / 'untold.jsonl'}"]) == {
        "taken-earlier": 30,
        "invalid": 1,
    }
    assert (tmp_path / "untold.jsonl").read_text() == f"{line}\n"
    assert running.stats()["calls"] == {"feedback": 30}


@pytest.mark.parametrize(
    ("bad", "code"), [([], 0), ([{"uri": "https://x/", "suggestion": "?"}], 1)]
)
def test_the_exit_code_says_whether_all_was_taken(
    emulate, pipeline, tmp_path, monkeypatch, capsys, bad, code
):
    asked = arguments(tmp_path, emulate("alibaba").url, [*decided_rows(3), *bad])
    monkeypatch.setattr(sys, "argv", ["feedback.py", *asked])
    assert pipeline.main() == code
    assert "3 taken" in capsys.readouterr().out


def test_a_cell_that_is_not_utf_8_costs_its_row_alone(emulate, pipeline, tmp_path):
    running = emulate("alibaba")
    asked = arguments(tmp_path, running.url)
    uris = [b"https://x.example/1", b"\xff", b"https://x.example/2"]
    broken = pa.Array.from_buffers(pa.string(), 3, pa.array(uris, pa.binary()).buffers())
    scenes = pa.array([["porn"]] * 3)
    table = pa.table(
        {
            "uri": broken,
            "suggestion": ["pass"] * 3,
            "scenes": scenes,
            "decision_id": [1, 2, 3],
            "photo": uris,
        }
    )
    pq.write_table(table, tmp_path / "decisions.parquet")
    assert pipeline.run(asked) == {"taken": 2, "invalid": 1}


def mistakes(pipeline, monkeypatch, capsys, asked):
    """The one line of an error."""
    monkeypatch.setattr(sys, "argv", ["feedback.py", *asked])
    assert pipeline.main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_mistake_ends_in_one_line(emulate, pipeline, tmp_path, monkeypatch, capsys):
    asked = arguments(tmp_path, emulate("alibaba").url)

    def line(*more):
        return mistakes(pipeline, monkeypatch, capsys, [*asked, *more])

    assert "no file matches" in line("--decisions=/nowhere.parquet")
    assert "no such option: --agian; did you mean --again?" in line("--agian")
    assert "no such option: --again_" in line("--again_")
    assert "cannot write to /dev/null/m" in line("--markers=/dev/null/m")
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1 no table PAR1")
    assert "cannot read" in line(f"--decisions={tmp_path / 'damaged.parquet'}")
    pq.write_table(pa.table({"uri": ["u"]}), tmp_path / "half.parquet")
    assert "has no column 'suggestion'" in line(f"--decisions={tmp_path / 'half.parquet'}")
    (tmp_path / "keys.yaml").write_text('{"alibaba": {"key_id": "testid", "key_secret": "other"}}')
    assert "SignatureDoesNotMatch" in line()


def test_the_pipeline_needs_one_table(pipeline, tmp_path, emulate):
    asked = arguments(tmp_path, "http://127.0.0.1:9")
    with pytest.raises(errors.ConfigurationError, match="name --decisions"):
        pipeline.run(asked[1:])
    with pytest.raises(errors.ConfigurationError, match="and not both"):
        pipeline.run([*asked, "--topic=t", "--brokers=h:9092"])


@pytest.mark.integration
def test_a_pipeline_that_is_killed_tells_nothing_twice(tmp_path):
    with emulator.spawn("alibaba", emulator.Settings(latency_s=0.1)) as running:
        asked = [sys.executable, str(PIPELINES / "feedback.py"), *arguments(tmp_path, running.url)]
        for count in sorted(random.sample(range(1, 25), 3)):
            with subprocess.Popen(asked, stdout=subprocess.DEVNULL) as process:
                while sum(running.stats()["feedback_per_image"].values()) < count:
                    assert process.poll() is None
                    time.sleep(0.005)
                process.send_signal(signal.SIGKILL)
        untold = tmp_path / "untold.jsonl"
        out = subprocess.run(
            [*asked, f"--out={untold}"], check=False, capture_output=True, text=True
        )
        assert out.returncode == 1
        told = running.stats()["feedback_per_image"]
        assert set(told.values()) == {1}
        lines = [json.loads(line) for line in untold.read_text().splitlines()]
        unknown = {line["url"] for line in lines if line["state"] == "unknown"}
        assert len(unknown) <= 3 * 8
        assert told.keys() | unknown == {row["uri"] for row in decided_rows(30)}
        again = subprocess.run([*asked, "--again"], check=False, capture_output=True, text=True)
        assert again.returncode == 1
        finally_told = running.stats()["feedback_per_image"]
        assert finally_told == {
            row["uri"]: told.get(row["uri"], 0) + (row["uri"] in unknown)
            for row in decided_rows(30)
        }
