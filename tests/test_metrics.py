from apache_beam.metrics.metric import MetricsFilter
from brightness import picture
from vendor_jobs import rows, run, vendor_at, write_references

from beam_moderation import metrics


def counters(result):
    found = result.metrics().query(MetricsFilter().with_namespace(metrics.NAMESPACE))["counters"]
    return {metric.key.metric.name: metric.result for metric in found}


def test_bytes_and_billed_units_are_those_of_the_tables_and_of_no_resumed_job(emulate, tmp_path):
    urls = {f"url{n}": f"https://img.example.com/{n}.jpg" for n in range(5)}
    contents = {f"inline{n}": picture(n * 50) for n in range(4)} | {"lost": b"<html>"}
    references = write_references(tmp_path / "r.parquet", urls, contents)
    vendor = vendor_at("alibaba", emulate("alibaba").url)
    counted = run(references, tmp_path / "out", vendor, observe=counters)
    images = rows(tmp_path / "out", "images")
    assert counted["billed_units"] == sum(row.billed_units for row in images) >= len(images) == 9
    assert counted["bytes"] == sum(row.bytes or 0 for row in images) > 0
    again = run(references, tmp_path / "out", vendor, observe=counters)
    assert again["resumed"] == again["references"] == 10
    assert "billed_units" not in again
    assert "bytes" not in again
