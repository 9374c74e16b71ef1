"""The pipelines that are there to be launched or copied run as they stand."""

import pathlib
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from brightness import picture
from vendor_jobs import rows

pytest.importorskip("zxingcpp", reason="needs the extra qrcode")

BACKFILL = pathlib.Path(__file__).parent.parent / "pipelines" / "backfill.py"


@pytest.fixture
def references(tmp_path):
    """A relative reference, a file's URL, one outside the roots, and one that leads nowhere."""
    roots = tmp_path / "first", tmp_path / "second"
    for folder in (*roots, tmp_path / "other"):
        folder.mkdir()
        (folder / "a.png").write_bytes(picture(200))
    uris = {
        "relative": "a.png",
        "url": (tmp_path / "second" / "a.png").as_uri(),
        "outside": (tmp_path / "other" / "a.png").as_uri(),
        "gone": "b.png",
    }
    path = tmp_path / "references.parquet"
    pq.write_table(pa.table({"data_id": list(uris), "uri": list(uris.values())}), path)
    return path


def run(*arguments):
    """What a new interpreter prints; options of one pipeline are not to reach another's."""
    command = [sys.executable, *arguments]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_backfill_to_copy_judges_what_is_below_its_roots(references, tmp_path):
    command = [BACKFILL, "--references", references, "--out", tmp_path / "out"]
    command += ["--scanner", "qrcode"]
    for folder in ("first", "second"):
        command += ["--local_root", tmp_path / folder]
    run(*command)
    images = {row.data_id: row.suggestion for row in rows(tmp_path / "out", "images")}
    assert images == {"relative": "pass", "url": "pass"}
    dead = {row.data_id: row.code for row in rows(tmp_path / "out", "dead_letters")}
    assert dead == {"outside": "scheme-refused", "gone": "fetch-not-found"}


CHOSEN_RUNNERS = """
import sys
sys.path.insert(0, sys.argv[1])
import backfill
for arguments in [], ["--runner=PrismRunner"]:
    arguments += "--references=r", "--out=o"
    _, options = backfill.make_options(arguments)
    print(options.get_all_options()["runner"])
"""


@pytest.mark.parametrize("name", ["backfill", "stream"])
def test_a_pipeline_to_copy_says_what_its_own_options_are(name):
    said = run(BACKFILL.with_name(f"{name}.py"), "--help")
    assert f"usage: {name}.py" in said
    for option in ("--out", "--scanner", "--model", "--local_root"):
        assert option in said


def test_the_backfill_to_copy_runs_on_the_embedded_runner_unless_told():
    assert run("-c", CHOSEN_RUNNERS, BACKFILL.parent).split() == ["FnApiRunner", "PrismRunner"]
