"""Where outcomes go: `WriteParquet` into tables, `WriteOutcomesToKafka` to a topic."""

import time
from collections.abc import Mapping
from typing import Any

import apache_beam as beam

from beam_moderation import kafka, kafka_partitions, metrics, moderate, records, tables, windows


class WriteParquet(beam.PTransform):
    """Writes rows as files that appear together; what is there already stays.

    Without a window each batch has files of its own, named by its id, and nothing is shuffled. In a
    stream, where batches are small, a window's batches are merged first: the files are named by the
    window, the shard and the batches in it with their results, so that the same make the same files
    and others make further ones. Rows are in the partition of their own event time, not of the
    window.

    May run twice for the same batch.

    Args:
      to: tables, or the fsspec URL of their folder.
      window: seconds of event time whose batches are merged; None for a bounded job.
      shards: into how many sets of files a window's batches are merged, in parallel.

    Returns:
      A PCollection of `Commit`, one for each set of files.

    Raises:
      ConfigurationError: there is no window or no shard, or the tables cannot be had.
    """

    def __init__(
        self, to: "tables.Tables | str", *, window: float | None = None, shards: int = 1
    ) -> None:
        super().__init__()
        self._tables = tables.Tables(to) if isinstance(to, str) else to
        self._merge = None if window is None else windows.MergeWindows(window, shards)

    def expand(self, outcomes: Any) -> Any:
        """Writes where the batch is, merged or not."""
        batches = outcomes if self._merge is None else outcomes | "Merge" >> self._merge
        return batches | "Write" >> beam.Map(self._write).with_output_types(tables.Commit)

    def _write(self, outcome: records.OutcomeBatch) -> tables.Commit:
        started = time.perf_counter()
        commit = self._tables.write(outcome)
        metrics.observe("write_ms", [(time.perf_counter() - started) * 1000])
        return commit


class WriteOutcomesToKafka(beam.PTransform):
    """Writes one message a reference: its row of `images`, or else of `dead_letters`, as JSON.

    The key is the `data_id`; the header `table` says which table the row is of.

    Args:
      topic: its name.
      config: settings of librdkafka, `bootstrap.servers` among them.
      secrets: gives further settings, such as `sasl.password`, on each worker.
    """

    def __init__(
        self,
        topic: str,
        config: Mapping[str, Any],
        *,
        secrets: kafka_partitions.Secrets | None = None,
    ) -> None:
        super().__init__()
        self._topic, self._config, self._secrets = topic, dict(config), secrets

    def expand(self, outcomes: Any) -> Any:
        """Produces where the outcomes are."""
        return tuple(self._write(outcomes, table) for table in ("images", "dead_letters"))

    def _write(self, outcomes: Any, table: str) -> Any:
        rows = outcomes | moderate.Rows(table)
        write = kafka.WriteKafka(
            self._topic, self._config, headers={"table": table}, secrets=self._secrets
        )
        return rows | f"Write_{table}" >> write
