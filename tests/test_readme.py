"""What the documents show is so: snippets run, commands are understood, links lead somewhere."""

import importlib
import importlib.metadata
import json
import pathlib
import re
import runpy
import shlex
import sys

import apache_beam as beam
import duckdb
import networks
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from apache_beam.options.pipeline_options import PipelineOptions
from brightness import picture

import beam_moderation as bm
from beam_moderation import cli, errors, fetch, filesystems, images, records, sources
from beam_moderation.cli import commands, options, runners, vendors

TIMES = "\N{MULTIPLICATION SIGN}"
ROOT = pathlib.Path(__file__).parent.parent
README, TABLES = ROOT / "README.md", ROOT / "docs" / "tables.md"
STREAMING = ROOT / "docs" / "streaming.md"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])
A_DOCUMENT = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT))
)
COMMANDS = typer.main.get_command(commands.app).commands


def blocks(document, language):
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)


def prose(document):
    """The text without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)


def command_lines(document):
    lines = "".join(blocks(document, "sh")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


def backfills(document=README):
    return [words[2:] for words in command_lines(document) if words[1:2] == ["backfill"]]


def needs_the_world(arguments):
    """Whether a backfill asks a vendor itself, or reads a bucket."""
    calls_out = "--vendor" in arguments and "--endpoint" not in arguments
    return calls_out or any("s3://" in word for word in arguments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the snippets need: a sample, two models, the files shown, and the first one's tables."""
    folder = tmp_path_factory.mktemp("readme")
    _write_sample(folder / "out" / "sample")
    _write_references(folder / "links.parquet", ["https://example.com/a-porn-block.jpg"])
    _write_models(folder)
    for text in blocks(README, "yaml"):
        name = re.match(r"# (\S+)\n", text)[1]
        (folder / name).write_text(text.replace("0" * 64, networks.sha256(folder / "nsfw.onnx")))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_snippet(folder, blocks(README, "python")[0])
    return folder


def _write_references(path, uris):
    times = pa.array([1_760_000_000_000_000] * len(uris), pa.timestamp("us", tz="UTC"))
    pq.write_table(pa.table({"data_id": uris, "uri": uris, "time": times}), path)


def _write_sample(folder):
    folder.mkdir(parents=True)
    (folder / "dark.png").write_bytes(picture(5))
    (folder / "page.jpg").write_text("<html>")
    names = ["dark.png", "page.jpg", "gone.jpg"]
    _write_references(folder / "references.parquet", [f"file://{folder}/{name}" for name in names])


def _write_models(folder):
    networks.channel_means(folder / "nsfw.onnx", shape=("batch", 3, 224, 224))
    vit = folder / "nsfw-vit"
    vit.mkdir()
    networks.convolution(vit / "model.onnx", size=224)
    labels = {"id2label": {"0": "normal", "1": "nsfw"}}
    (vit / "config.json").write_text(json.dumps(labels))
    half = [0.5, 0.5, 0.5]
    preprocessor = {"size": {"height": 224, "width": 224}, "resample": 2}
    preprocessor |= {"image_mean": half, "image_std": half}
    (vit / "preprocessor_config.json").write_text(json.dumps(preprocessor))


def run_snippet(folder, text):
    script = folder / "snippet.py"
    script.write_text(text)
    return runpy.run_path(str(script), run_name="__main__")


@pytest.mark.parametrize("document", [README, TABLES, STREAMING], ids=lambda path: path.name)
def test_every_python_snippet_runs_as_it_stands(folder, monkeypatch, capsys, document):
    monkeypatch.chdir(folder)
    for text in blocks(document, "python"):
        if not text.startswith("# Spark"):
            run_snippet(folder, text)


def test_the_readmes_pipeline_writes_an_image_and_two_dead_letters(folder):
    tables = f"{folder}/out/tables"
    shown = duckdb.sql(
        f"SELECT data_id[-8:], suggestion, dt::text FROM '{tables}/images/**/*.parquet'"
    )
    assert shown.fetchall() == [("dark.png", "pass", "2025-10-09")]
    dead = duckdb.sql(f"SELECT code FROM '{tables}/dead_letters/**/*.parquet' ORDER BY code")
    assert dead.fetchall() == [("fetch-not-found",), ("format-unsupported",)]


def test_the_judge_of_the_readme_judges(folder, tmp_path):
    (text,) = [text for text in blocks(README, "python") if "class Darkness" in text]
    rows = {"data_id": ["dark", "light"], "content": [picture(5), picture(250)]}
    pq.write_table(pa.table(rows), tmp_path / "references.parquet")
    read = bm.ReadReferencesFromParquet(
        str(tmp_path / "references.parquet"), uri_column=None, content_column="content"
    )
    tables = bm.Tables(str(tmp_path / "out"))
    with beam.Pipeline("FnApiRunner") as pipeline:
        _ = pipeline | read | run_snippet(folder, text)["moderate"] | bm.WriteParquet(tables)
    shown = duckdb.sql(f"SELECT data_id, suggestion FROM '{tmp_path}/out/scenes/**/*.parquet'")
    assert sorted(shown.fetchall()) == [("dark", "review"), ("light", "pass")]


def test_every_query_for_duckdb_runs(folder, monkeypatch):
    monkeypatch.chdir(folder)
    database = duckdb.connect()
    database.execute(bm.views("out/tables"))
    for text in blocks(TABLES, "sql"):
        if text.startswith("-- DuckDB"):
            database.execute(text)
    assert pq.read_table("out/again.parquet").num_rows == 0


def parsed(command, arguments):
    """The options of a command as click understands them; Beam takes the rest."""
    context = COMMANDS[command].make_context(command, list(arguments))
    if context.args:
        options.make_beam_options(context.args, [])
    return context.params


@pytest.mark.parametrize("arguments", backfills(), ids=lambda words: words[2])
def test_every_backfill_shown_is_understood(arguments):
    given = parsed("backfill", arguments)
    if given["vendor"]:
        vendors.make_vendor(
            given["vendor"],
            given["vendor_option"],
            region=given["region"],
            scenes=tuple(given["scene"]),
            asynchronous=given["mode"] == "async",
            endpoint=given["endpoint"],
        )


@pytest.mark.parametrize(
    "arguments",
    [words for words in backfills() if not needs_the_world(words)],
    ids=lambda words: words[2],
)
def test_every_backfill_that_needs_nobody_else_runs(
    folder, monkeypatch, capsys, emulate, arguments
):
    monkeypatch.chdir(folder)
    for words in command_lines(README):
        for variable in words[1:] if words[0] == "export" else ():
            monkeypatch.setenv(*variable.split("=", 1))
    if "--endpoint" in arguments:
        place = arguments.index("--endpoint") + 1
        arguments = [*arguments[:place], emulate("alibaba").url, *arguments[place + 1 :]]
    monkeypatch.setattr(sys, "argv", ["beam-moderation", "backfill", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr()
    assert ended.value.code in (None, 0), printed.err
    assert "1 images judged" in printed.out


def test_every_other_command_shown_exists():
    extras = importlib.metadata.metadata("beam-moderation").get_all("Provides-Extra")
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for document in DOCUMENTS:
        for program, *arguments in command_lines(document):
            if program == "make":
                assert set(arguments) <= set(targets)
            elif program == "pip":
                (wanted,) = re.findall(r"\[(.*)\]", arguments[-1])
                assert set(wanted.split(",")) <= set(extras)
            elif program == "beam-moderation":
                parsed(*arguments[:1], arguments[1:])
            elif program in ("python", "py-spy"):
                script = next(word for word in arguments if word.endswith(".py"))
                assert (ROOT / script).is_file()
            else:
                assert program in ("export", ".ci/run", "git")


@pytest.mark.parametrize("document", [README, TABLES, STREAMING], ids=lambda path: path.name)
def test_every_option_named_is_one(document):
    ours = {name for command in COMMANDS.values() for p in command.params for name in p.opts}
    beams = {name.partition("=")[0] for name in _beam_options()}
    beams |= {f"--{name}" for name in runners.FLINK_OPTIONS}
    for span in re.findall(r"`(--[^`]+)`", prose(document)):
        for name in re.findall(r"--[a-z_-]+", span):
            assert name in ours | beams, name


def _beam_options():
    parser = options.argparse.ArgumentParser(allow_abbrev=False)
    for kind in PipelineOptions.__subclasses__():
        kind._add_argparse_args(parser)
    return parser._option_string_actions


def anchors(document):
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


def links(document):
    return re.findall(r"\[([^\]]+)\]\(([^)\s]+)\)", prose(document))


@A_DOCUMENT
def test_every_link_leads_somewhere(document):
    for text, target in links(document):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        there = (document.parent / path).resolve() if path else document
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target
        if test := re.fullmatch(r"`(test_\w+)`", text):
            assert f"def {test[1]}(" in there.read_text(), text


@A_DOCUMENT
def test_every_public_name_shown_is_one(document):
    for name in re.findall(r"\bbm\.(\w+)", document.read_text()):
        assert name in bm.__all__


@A_DOCUMENT
def test_every_module_of_the_package_that_is_named_exists(document):
    for name in re.findall(r"`(beam_moderation/[\w./]+)`", prose(document)):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize(
    ("row", "value"),
    [
        (r"bytes of an image \|", fetch.FetchLimits().max_bytes),
        ("seconds from a name", fetch.FetchLimits().deadline_s),
        ("tries, where another", fetch.FetchLimits().attempts),
        ("fetches at once", fetch.FetchLimits().concurrency),
        ("redirects", filesystems.Web().max_redirects),
        ("ports", bm.AddressPolicy().ports),
        ("formats", images.FORMATS),
        ("pixels of a frame", bm.ImageLimits().max_pixels),
        ("pixels of its longer side", bm.ImageLimits().max_side),
        ("pixels that must be decoded", bm.ImageLimits().max_total_pixels),
        ("frames judged", bm.Sampling().max_frames),
        ("references a batch", sources.DEFAULT_BATCH_SIZE),
        ("Alibaba", (vendors.CALLS_PER_SECOND["alibaba"], vendors.IN_FLIGHT["alibaba"])),
        ("images in a request to Alibaba", bm.vendors.Alibaba().max_items),
        ("bytes of an image that is sent to Alibaba", bm.vendors.Alibaba().max_bytes),
        ("Tencent", (vendors.CALLS_PER_SECOND["tencent"], vendors.IN_FLIGHT["tencent"])),
        ("Huawei", (vendors.CALLS_PER_SECOND["huawei"], vendors.IN_FLIGHT["huawei"])),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_limits_of_the_readme_are_those_of_the_code(row, value):
    (cells,) = re.findall(rf"^\| {row}.*$", README.read_text(), re.MULTILINE)
    values = value if isinstance(value, tuple) else (value,)
    assert cells.split("|")[2].strip() == ", ".join(
        v if isinstance(v, str) else f"{v:,}" for v in values
    )


def test_memory_formula_of_the_readme_is_that_of_the_code():
    text = README.read_text()
    assert f"({images.BYTES_PER_PIXEL} {TIMES} max_pixels" in text
    assert f"`buffer_bytes` {fetch.FetchLimits().buffer_bytes:,}" in text


@pytest.mark.parametrize("table", records.TABLES)
def test_every_column_of_a_table_is_described(table):
    section = TABLES.read_text().split(f"## {table}\n")[1].split("\n## ")[0]
    described = set(
        re.findall(r"`(\w+)`", "".join(re.findall(r"^\|([^|]*)\|", section, re.MULTILINE)))
    )
    assert described >= set(records.TABLES[table]._fields)


def _codes(kind):
    return {kind.code}.union(*map(_codes, kind.__subclasses__()))


def test_every_code_of_a_dead_letter_is_listed():
    importlib.import_module("beam_moderation.vendors")
    listed = set(re.findall(r"`([a-z0-9-]+)`", TABLES.read_text()))
    roots = {errors.FetchError, errors.ImageError, errors.JudgeError, errors.VendorError}
    bases = {"fetch-failed", "image-invalid", "vendor-failed"}
    stopping = {"vendor-refused-request", "vendor-refused-login"}
    ended = set().union(*map(_codes, roots)) - bases - stopping
    assert listed >= ended | {errors.ModerationError.code} | set(errors.READ_CODES)


def test_every_module_is_in_the_table_of_contributing():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    package = pathlib.Path(bm.__file__).parent
    modules = {path.stem for path in package.glob("*.py")} - {"__init__"}
    folders = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    assert {name for name in modules | folders if f"`{name}`" not in text} == set()
