"""Jobs against emulated vendors: the vendors, runs of a pipeline, and the rows that it wrote."""

import dataclasses

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq

import beam_moderation as bm
from beam_moderation import (
    emulator,
    metrics,
    parquet_files,
    records,
    references,
    sources,
    vendors,
)
from beam_moderation.quota import Quota
from beam_moderation.vendor_moderation import ModerateWithVendor

KEYS = vendors.Credentials("testid", "testsecret")
QUOTA = Quota(1000, None, 20)
SCENES = {"alibaba": ("porn", "ad"), "tencent": ("porn", "ad"), "huawei": ("porn", "terrorism")}
HASTE = {"first_look_s": 0.05, "look_every_s": 0.05}
RETRIES = vendors.Retries(pause_s=0.01)


class QuickTencent(vendors.Tencent):
    """Tencent for a caller that looks for results at once."""

    @property
    def limits(self):
        return dataclasses.replace(super().limits, **HASTE)


class QuickHuawei(vendors.Huawei):
    """Huawei for a caller that looks for results at once."""

    @property
    def limits(self):
        return dataclasses.replace(super().limits, **HASTE)


def keys():
    return KEYS


def vendor_at(name, url, **options):
    """A vendor that an emulator plays."""
    options = {"scenes": SCENES[name], "endpoint": url, **options}
    if name == "alibaba":
        return vendors.Alibaba(**HASTE, **options)
    if name == "tencent":
        return QuickTencent(bucket="photos-1250000000", region="ap-guangzhou", **options)
    return QuickHuawei(region="cn-north-4", **options)


def by_id(images):
    """The images by their ids, which are their places."""
    return {f"id{n}": image for n, image in enumerate(images)}


def write_references(path, uris, contents=None):
    """References by their ids to URIs, or to images that are in the file."""
    contents = contents or {}
    ids = [*uris, *contents]
    columns = {
        "data_id": pa.array(ids, pa.string()),
        "uri": pa.array([uris.get(i) for i in ids], pa.string()),
        "content": pa.array([contents.get(i) for i in ids], pa.binary()),
    }
    pq.write_table(pa.table(columns), path)
    return path


def read(path, batch_size):
    """The reference batches of a file with one row group, for pipelines that are soon built."""
    (group,) = parquet_files.row_groups(str(path), {})
    columns = references.Columns("data_id", "uri", "content")
    return sources.read_batches(group, columns, batch_size=batch_size)


def run(
    path,
    out,
    vendor,
    *flags,
    batch_size=256,
    observe=metrics.summarise,
    **options,
):
    """Runs a backfill; returns what `observe` makes of its result, by default a summary."""
    tables = bm.Tables(str(out))
    options = {"credentials": keys, "retries": RETRIES, **options}
    quota = options.pop("quota", QUOTA)
    moderation = ModerateWithVendor(vendor, quota, resume_from=tables, **options)
    batches = beam.Create(list(read(path, batch_size)))
    chosen = beam.pipeline.PipelineOptions(list(flags))
    pipeline = beam.Pipeline("FnApiRunner", options=chosen)
    _ = pipeline | batches | moderation | bm.WriteParquet(tables)
    result = pipeline.run()
    result.wait_until_finish()
    return observe(result)


def rows(out, table):
    """The rows of a table, in order."""
    tables = bm.Tables(str(out))
    outcomes = [tables.read(tables.commit(batch_id)) for batch_id in sorted(tables.batch_ids())]
    record = records.TABLES[table]
    return sorted(row for o in outcomes for row in records.from_arrow(getattr(o, table), record))


def suggestions(out):
    """The suggestions of the table `scenes` by image and scene; each has one row."""
    found = rows(out, "scenes")
    told = {(row.data_id, row.scene): row.suggestion for row in found}
    assert len(told) == len(found)
    return told


def truths(name, images, scenes=None):
    """What the vendor says of images, each a data_id with its URL or bytes."""
    return {
        (data_id, scene): emulator.truth(name, image, scene).suggestion
        for data_id, image in images.items()
        for scene in scenes or SCENES[name]
    }


def decided_rows(count, **more):
    """Decisions to pass and to block in turn, as a reviewing tool has them."""
    return [
        {
            "uri": f"https://img.example.com/{n}.jpg",
            "suggestion": ("pass", "block")[n % 2],
            "scenes": ["porn"],
            "label": "Porn",
            **more,
        }
        for n in range(count)
    ]
