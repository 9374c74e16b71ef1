"""Fifty-five references, fifteen of them awkward and five of those unusable: what becomes of each.

`python benchmarks/poison.py [--folder F]` runs the command on them and prints each awkward one's
outcome. It exits with 1 unless every reference has exactly one outcome, and that the right one.
"""

import argparse
import io
import pathlib
import struct
import sys
import tempfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from rich.console import Console
from rich.table import Table

JUDGED = "judged"
GOOD = 40

EXPECTED = {
    "truncated.jpg": {"image-broken"},
    "empty.jpg": {"image-empty"},
    "page.jpg": {"format-unsupported"},
    "missing.jpg": {"fetch-not-found"},
    "bomb.png": {"image-too-many-pixels"},
    "corrupted-scan.jpg": {JUDGED, "image-broken"},
    "cmyk.jpg": {JUDGED},
    "grey.jpg": {JUDGED},
    "palette-alpha.png": {JUDGED},
    "rgba.png": {JUDGED},
    "grey-16-bit.png": {JUDGED},
    "photo.webp": {JUDGED},
    "animated.gif": {JUDGED},
    "strip-600x20000.jpg": {JUDGED},
    "exif-rotated.jpg": {JUDGED},
}
"""The awkward files, each with the outcomes that are right: judged, or the dead letter's code."""


def bomb(side_px: int = 30_000) -> bytes:
    """A PNG of about 100 kB with `side_px` squared pixels of 1 bit, all black."""
    header = struct.pack(">IIBBBBB", side_px, side_px, 1, 0, 0, 0, 0)
    deflate = zlib.compressobj(9)
    row = bytes(1 + (side_px + 7) // 8)
    pixels = b"".join(deflate.compress(row) for _ in range(side_px)) + deflate.flush()
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _encoded(image: Image.Image, file_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def corrupted(jpeg: bytes) -> bytes:
    """The JPEG with a hundred bytes of its scan replaced by noise; both its ends are whole."""
    random = np.random.default_rng(0)
    middle = len(jpeg) // 2
    return jpeg[:middle] + random.integers(0, 255, 100, np.uint8).tobytes() + jpeg[middle + 100 :]


def awkward(photo: Image.Image) -> dict[str, bytes | None]:
    """The content of each file of `EXPECTED`; None where there is none."""
    jpeg = _encoded(photo, "JPEG", quality=80)
    turned = Image.Exif()
    turned[0x0112] = 6
    deep = Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
    frames = [photo.resize((200, 200)).rotate(angle) for angle in range(0, 120, 10)]
    return {
        "truncated.jpg": jpeg[: len(jpeg) // 2],
        "empty.jpg": b"",
        "page.jpg": b"<!doctype html><title>Not found</title>",
        "missing.jpg": None,
        "bomb.png": bomb(),
        "corrupted-scan.jpg": corrupted(jpeg),
        "cmyk.jpg": _encoded(photo.convert("CMYK"), "JPEG"),
        "grey.jpg": _encoded(photo.convert("L"), "JPEG"),
        "palette-alpha.png": _encoded(photo.quantize(64), "PNG", transparency=0),
        "rgba.png": _encoded(photo.convert("RGBA"), "PNG"),
        "grey-16-bit.png": _encoded(deep, "PNG"),
        "photo.webp": _encoded(photo, "WEBP"),
        "animated.gif": _encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "strip-600x20000.jpg": _encoded(photo.resize((600, 20_000)), "JPEG"),
        "exif-rotated.jpg": _encoded(photo, "JPEG", exif=turned),
    }


def write_references(folder: pathlib.Path) -> list[str]:
    """Writes the files and `poison.parquet`, the awkward ones spread; returns the ids in order."""
    import sample

    sample.make(folder, GOOD)
    paths = {path.name: path for path in sample.write_images(folder / "images", GOOD)}
    files = folder / "poison"
    files.mkdir(exist_ok=True)
    with Image.open(next(iter(paths.values()))) as photo:
        contents = awkward(photo.copy())
    for name, content in contents.items():
        paths[name] = files / name
        if content is not None:
            paths[name].write_bytes(content)
    names = list(np.random.default_rng(0).permutation(list(paths)))
    uris = [paths[name].resolve().as_uri() for name in names]
    pq.write_table(pa.table({"data_id": names, "uri": uris}), folder / "poison.parquet")
    return names


def outcomes(tables: pathlib.Path) -> dict[str, list[str]]:
    """What became of each reference: normally a list of one."""
    found: dict[str, list[str]] = {}
    for path in sorted((tables / "images").rglob("*.parquet")):
        for data_id in pq.ParquetFile(path).read()["data_id"].to_pylist():
            found.setdefault(data_id, []).append(JUDGED)
    for path in sorted((tables / "dead_letters").rglob("*.parquet")):
        for row in pq.ParquetFile(path).read(["data_id", "code"]).to_pylist():
            found.setdefault(row["data_id"], []).append(row["code"])
    return found


def report(names: list[str], found: Mapping[str, list[str]]) -> bool:
    """Prints the outcomes of the awkward references; returns whether all are right."""
    table = Table("reference", "outcome", "right", title="Awkward references")
    wrong = [name for name in found if name not in names]
    for name in names:
        right = EXPECTED.get(name, {JUDGED})
        result = found.get(name, ["nothing"])
        is_right = len(result) == 1 and result[0] in right
        if name in EXPECTED or not is_right:
            table.add_row(name, ", ".join(result), "yes" if is_right else "NO")
        if not is_right:
            wrong.append(name)
    console = Console(width=120)
    console.print(table)
    total = sum(map(len, found.values()))
    console.print(f"{len(names)} references in, {total} outcomes out, {len(wrong)} wrong")
    return not wrong


def main() -> int:
    """Runs the command on the poison set; returns the exit code."""
    import backfill

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("out/benchmark"))
    folder = parser.parse_args().folder
    names = write_references(folder)
    with tempfile.TemporaryDirectory() as output:
        backfill.command(folder, pathlib.Path(output), references="poison.parquet")
        return 0 if report(names, outcomes(pathlib.Path(output))) else 1


if __name__ == "__main__":
    sys.exit(main())
