"""The product with large batches on a GPU, against its CPU path and a bare loop on CUDA.

`python benchmarks/gpu.py [--folder F] [--images 2000] [--rounds 3] [--batch 64]` needs an NVIDIA
GPU and onnxruntime-gpu (the extra `gpu`, in place of onnxruntime); without, it exits with 2.

- `bare-cuda`: a thread a core decodes, one session on the GPU judges batches; no framework.
- `product-cuda`, `product-cpu`: the product with the same model on the GPU and on the CPU.
"""

import argparse
import concurrent.futures
import importlib
import importlib.util
import json
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"


def bare_cuda(folder: pathlib.Path, output: pathlib.Path, batch: int) -> None:
    """Decodes ahead in threads and judges batches on the GPU."""
    import sample

    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    session = onnxruntime.InferenceSession(folder / "fp32.onnx", providers=[CUDA, CPU])
    references = pq.read_table(folder / "references.parquet")
    paths = [uri.removeprefix("file://") for uri in references["uri"].to_pylist()]
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        batches = map(np.concatenate, _ahead(pool, sample.pixels, paths, batch))
        logits = [session.run(None, {"pixels": pixels})[0] for pixels in batches]
    columns = {"data_id": references["data_id"], "logits": np.concatenate(logits).tolist()}
    pq.write_table(pa.table(columns), output / "scores.parquet")


def _ahead(
    pool: concurrent.futures.Executor, decode: Callable, paths: list[str], batch: int
) -> Iterator[list[np.ndarray]]:
    """Batches of decoded images in order, four batches of decoding ahead."""
    pending = []
    for start in range(0, len(paths), batch):
        pending.append([pool.submit(decode, path) for path in paths[start : start + batch]])
        if len(pending) > 4:
            yield [future.result() for future in pending.pop(0)]
    for futures in pending:
        yield [future.result() for future in futures]


def product_cuda(folder: pathlib.Path, output: pathlib.Path, batch: int) -> None:
    """The pipeline on the GPU."""
    from beam_moderation import models

    _product(folder, output, models.Runtime(execution_providers=(CUDA, CPU), batch_size=batch))


def product_cpu(folder: pathlib.Path, output: pathlib.Path, _: int) -> None:
    """The pipeline on the CPU, with its defaults."""
    from beam_moderation import models

    _product(folder, output, models.Runtime())


def _product(folder: pathlib.Path, output: pathlib.Path, runtime: Any) -> None:
    import apache_beam as beam

    import beam_moderation as bm

    model = bm.OnnxModel.from_manifest(str(folder / "fp32.yaml"), runtime=runtime)
    fetcher = bm.Fetcher(bm.Filesystems.of(roots=[str(folder)]))
    with beam.Pipeline("FnApiRunner") as pipeline:
        (
            pipeline
            | bm.ReadReferencesFromParquet(str(folder / "references.parquet"))
            | bm.ModerateWithModel([model], fetcher=fetcher)
            | bm.WriteParquet(bm.Tables(str(output)))
        )


CONFIGURATIONS = {
    "bare-cuda": (bare_cuda, "onnxruntime"),
    "product-cuda": (product_cuda, "beam_moderation"),
    "product-cpu": (product_cpu, "beam_moderation"),
}


def run(name: str, folder: pathlib.Path, batch: int) -> None:
    """Runs one configuration in this process and prints what `measure` reads."""
    work, module = CONFIGURATIONS[name]
    importlib.import_module(module)
    images = pq.read_metadata(folder / "references.parquet").num_rows
    with tempfile.TemporaryDirectory() as output:
        start = time.perf_counter()
        work(folder, pathlib.Path(output), batch)
        print(json.dumps({"images": images, "seconds": time.perf_counter() - start}))


def main() -> int:
    """Runs what this machine can run and prints the ratios; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("out/benchmark"))
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--run", choices=CONFIGURATIONS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run(options.run, options.folder, options.batch)
        return 0
    if CUDA not in onnxruntime.get_available_providers():
        print(f"this onnxruntime has no {CUDA}; install onnxruntime-gpu", file=sys.stderr)
        return 2
    import measure
    import sample

    sample.make(options.folder, options.images)
    own = [sys.executable, __file__, "--folder", str(options.folder), "--batch", str(options.batch)]
    names = list(CONFIGURATIONS)
    if importlib.util.find_spec("apache_beam") is None:
        print("apache-beam is not installed: the product is left out", file=sys.stderr)
        names = ["bare-cuda"]
    results = measure.against(
        "bare-cuda", {name: [*own, "--run", name] for name in names}, options.rounds
    )
    measure.report(results, "bare-cuda", f"{options.images} images, batches of {options.batch}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
