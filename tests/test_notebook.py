import ast
import pathlib
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import beam_moderation as bm
from beam_moderation import records

nbformat = pytest.importorskip("nbformat", reason="needs the extra notebook")
nbclient = pytest.importorskip("nbclient", reason="needs the extra notebook")
pytest.importorskip("matplotlib", reason="needs the extra notebook")
pytest.importorskip("pandas", reason="needs the extra notebook")
pytest.importorskip("duckdb", reason="needs the extra notebook")
zxingcpp = pytest.importorskip("zxingcpp", reason="needs the extra qrcode")

NOTEBOOK = pathlib.Path(__file__).parent.parent / "notebooks" / "explore_tables.ipynb"


def qr_code():
    code = zxingcpp.create_barcode("https://win.example", zxingcpp.BarcodeFormat.QRCode)
    return Image.fromarray(np.asarray(zxingcpp.write_barcode_to_image(code, scale=4)))


def moderate(folder, names):
    """A backfill of references to `names` below `folder`; returns the folder of its tables."""
    tables = folder / "tables"
    references = folder / "references.parquet"
    pq.write_table(pa.table({"data_id": names, "uri": names}), references)
    program = pathlib.Path(sys.executable).with_name("beam-moderation")
    command = [program, "backfill", references, "--out", tables, "--local-root", folder]
    subprocess.run([*command, "--scanner", "qrcode"], check=True, capture_output=True)
    return tables


def execute(monkeypatch, tables, root):
    """The notebook, executed in a fresh kernel."""
    monkeypatch.setenv("BEAM_MODERATION_TABLES", str(tables))
    monkeypatch.setenv("BEAM_MODERATION_ROOTS", str(root))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
    nbclient.NotebookClient(notebook, timeout=120, resources=resources).execute()
    return notebook


def outputs(notebook, mime_type):
    return [
        output.data[mime_type]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if mime_type in output.get("data", {})
    ]


def printed(notebook):
    return "".join(
        output.text
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream" and output.name == "stdout"
    )


def test_notebook_shows_scores_days_dead_letters_and_thumbnails(tmp_path, monkeypatch):
    qr_code().save(tmp_path / "qr.png")
    Image.effect_mandelbrot((200, 150), (-2, -1, 1, 1), 50).save(tmp_path / "plain.png")
    tables = moderate(tmp_path, ["qr.png", "plain.png", "missing.png"])
    notebook = execute(monkeypatch, tables, tmp_path)
    assert "2 images have a verdict, 1 references have none." in printed(notebook)
    assert len(outputs(notebook, "image/png")) == 5
    texts = "".join(outputs(notebook, "text/plain"))
    assert "qrcode" in texts
    assert "fetch-not-found" in texts


def test_notebook_runs_where_nothing_is_dead_and_nothing_flagged(tmp_path, monkeypatch):
    Image.effect_mandelbrot((200, 150), (-2, -1, 1, 1), 50).save(tmp_path / "plain.png")
    notebook = execute(monkeypatch, moderate(tmp_path, ["plain.png"]), tmp_path)
    assert "1 images have a verdict, 0 references have none." in printed(notebook)


def test_the_thresholds_that_are_drawn_are_the_policys():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    policy = bm.Policy(
        {"scenes": {"porn": {"porn": {"review": 0.3, "block": 0.7}, "sexy": "pass"}}}
    )
    known = {"policy": policy}
    (cell,) = [cell for cell in notebook.cells if "def bands(" in cell.source]
    functions = [node for node in ast.parse(cell.source).body if isinstance(node, ast.FunctionDef)]
    (bands,) = [node for node in functions if node.name == "bands"]
    exec(ast.unparse(bands), known)
    assert known["bands"]("porn", "porn") == [
        ("pass", 0, 0.3),
        ("review", 0.3, 0.7),
        ("block", 0.7, 1),
    ]
    for label in ("porn", "sexy", "unheard-of"):
        for suggestion, start, end in known["bands"]("porn", label):
            if start < end:
                finding = records.Finding(label, (start + end) / 2)
                assert policy.suggestion("porn", finding) == suggestion


def test_notebook_is_kept_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
