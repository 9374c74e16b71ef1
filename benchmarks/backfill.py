"""A backfill against the bound and against Beam's documented way, from Parquet to Parquet.

`python benchmarks/backfill.py [--folder F] [--images 2000] [--rounds 3] [--only NAME ...]`

- `bound`: a plain Python loop, tuned by hand: a thread a core, JPEGs scaled while they are decoded,
  one session with one thread a call, one image a call.
- `documented`: what Beam's documentation tells users to write, Map(decode) into RunInference with
  `OnnxModelHandlerNumpy`, in batches of 32.
- `python`, `command`: the product, as a pipeline and as the command `beam-moderation`, defaults.
- `bound-int8`, `command-int8`: the same with the quantised model.
"""

import argparse
import concurrent.futures
import importlib
import json
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SAMPLE = "references.parquet"


def bound(folder: pathlib.Path, output: pathlib.Path, model: str = "fp32") -> None:
    """What the machine can do, without a framework."""
    import onnxruntime
    import sample

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        folder / f"{model}.onnx", options, providers=["CPUExecutionProvider"]
    )

    def judge(uri: str) -> np.ndarray:
        return session.run(None, {"pixels": sample.pixels(uri.removeprefix("file://"))})[0][0]

    references = pq.read_table(folder / SAMPLE)
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        logits = np.stack(list(pool.map(judge, references["uri"].to_pylist())))
    _write(output, references["data_id"], logits)


def bound_int8(folder: pathlib.Path, output: pathlib.Path) -> None:
    """The bound with the quantised model."""
    bound(folder, output, "int8")


def _write(output: pathlib.Path, data_ids: Any, logits: np.ndarray) -> None:
    import sample

    odds = np.exp(logits - logits.max(1, keepdims=True))
    scores = odds / odds.sum(1, keepdims=True)
    labels = [sample.LABELS[index] for index in scores.argmax(1)]
    columns = {"data_id": data_ids, "label": labels, "score": scores.max(1)}
    pq.write_table(pa.table(columns), output / "scores.parquet")


def documented(folder: pathlib.Path, output: pathlib.Path) -> None:
    """Decoding in one step, RunInference in the next."""
    import apache_beam as beam
    from apache_beam.ml.inference import base, onnx_inference

    handler = onnx_inference.OnnxModelHandlerNumpy(
        str(folder / "fp32.onnx"), min_batch_size=32, max_batch_size=32
    )
    schema = pa.schema([("data_id", pa.string()), ("label", pa.string()), ("score", pa.float64())])
    with beam.Pipeline("FnApiRunner") as pipeline:
        (
            pipeline
            | beam.io.ReadFromParquet(str(folder / SAMPLE))
            | beam.Map(_decode)
            | base.RunInference(base.KeyedModelHandler(handler))
            | beam.MapTuple(_row)
            | beam.io.WriteToParquet(str(output / "scores"), schema, file_name_suffix=".parquet")
        )


def _decode(reference: dict[str, str]) -> tuple[str, np.ndarray]:
    import sample
    from PIL import Image

    with Image.open(reference["uri"].removeprefix("file://")) as image:
        small = image.convert("RGB").resize((sample.SIDE_PX,) * 2, Image.Resampling.BILINEAR)
    values = (np.asarray(small, np.float32) / 255 - sample.MEAN) / sample.STD
    return reference["data_id"], values.transpose(2, 0, 1).astype(np.float32)


def _row(data_id: str, prediction: Any) -> dict[str, Any]:
    import sample

    logits = np.asarray(prediction.inference).ravel()
    odds = np.exp(logits - logits.max())
    best = int(odds.argmax())
    return {
        "data_id": data_id,
        "label": sample.LABELS[best],
        "score": float(odds[best] / odds.sum()),
    }


def python(folder: pathlib.Path, output: pathlib.Path) -> None:
    """The product in a pipeline."""
    import apache_beam as beam

    import beam_moderation as bm

    tables = bm.Tables(str(output))
    fetcher = bm.Fetcher(bm.Filesystems.of(roots=[str(folder)]))
    model = bm.OnnxModel.from_manifest(str(folder / "fp32.yaml"))
    with beam.Pipeline("FnApiRunner") as pipeline:
        (
            pipeline
            | bm.ReadReferencesFromParquet(str(folder / SAMPLE))
            | bm.ModerateWithModel([model], fetcher=fetcher, resume_from=tables)
            | bm.WriteParquet(tables)
        )


def command(
    folder: pathlib.Path, output: pathlib.Path, model: str = "fp32", references: str = SAMPLE
) -> None:
    """The product on the command line."""
    from beam_moderation import cli

    manifest = str(folder / f"{model}.yaml")
    sys.argv = ["beam-moderation", "backfill", str(folder / references)]
    sys.argv += ["--out", str(output), "--model", manifest, "--local-root", str(folder)]
    try:
        cli.main()
    except SystemExit as end:
        if end.code:
            raise


def command_int8(folder: pathlib.Path, output: pathlib.Path) -> None:
    """The product on the command line with the quantised model."""
    command(folder, output, "int8")


class Configuration(NamedTuple):
    """A function, and the modules whose import is not part of its time."""

    work: Callable[[pathlib.Path, pathlib.Path], None]
    modules: Sequence[str]


PLAIN = ["onnxruntime", "sample"]
RUNNER = "apache_beam.runners.portability.fn_api_runner.fn_runner"
PRODUCT = ["beam_moderation.cli.commands", "beam_moderation.progress", RUNNER]

CONFIGURATIONS = {
    "bound": Configuration(bound, PLAIN),
    "documented": Configuration(
        documented, [*PLAIN, "apache_beam.ml.inference.onnx_inference", RUNNER]
    ),
    "python": Configuration(python, PRODUCT),
    "command": Configuration(command, PRODUCT),
    "bound-int8": Configuration(bound_int8, PLAIN),
    "command-int8": Configuration(command_int8, PRODUCT),
}


def run(name: str, folder: pathlib.Path) -> None:
    """Runs one configuration in this process and prints what `measure` reads."""
    configuration = CONFIGURATIONS[name]
    for module in configuration.modules:
        importlib.import_module(module)
    images = pq.read_metadata(folder / SAMPLE).num_rows
    with tempfile.TemporaryDirectory() as output:
        start = time.perf_counter()
        configuration.work(folder, pathlib.Path(output))
        seconds = time.perf_counter() - start
        check(name, pathlib.Path(output), images)
    print(json.dumps({"images": images, "seconds": seconds}))


def check(name: str, output: pathlib.Path, images: int) -> None:
    """Checks that a result was written for every image."""
    files = [path for path in output.rglob("*.parquet") if "dead_letters" not in path.parts]
    files = [path for path in files if "images" not in path.parts]
    rows = sum(pq.read_metadata(path).num_rows for path in files)
    if rows != images:
        raise RuntimeError(f"{name}: {rows} results for {images} images")


def main(arguments: Sequence[str]) -> None:
    """Makes the sample, runs every configuration and prints the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("out/benchmark"))
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=CONFIGURATIONS, default=list(CONFIGURATIONS))
    parser.add_argument("--run", choices=CONFIGURATIONS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.run:
        run(options.run, options.folder)
        return
    import measure
    import sample

    sample.make(options.folder, options.images)
    names = list(dict.fromkeys(["bound", *options.only]))
    commands = {
        name: [sys.executable, __file__, "--folder", str(options.folder), "--run", name]
        for name in names
    }
    results = measure.against("bound", commands, options.rounds)
    measure.report(results, "bound", f"Backfill of {options.images} images")


if __name__ == "__main__":
    main(sys.argv[1:])
