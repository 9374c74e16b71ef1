"""`WriteParquet`: outcomes into tables."""

import time
from typing import Any

import apache_beam as beam

from beam_moderation import metrics, records, tables


class WriteParquet(beam.PTransform):
    """Writes each batch's rows as files of its own; a batch that is there already stays.

    May run twice for the same batch: its files are named by its id, and appear together.

    Args:
      to: tables, or the fsspec URL of their folder.

    Returns:
      A PCollection of `Commit`, one for each batch.
    """

    def __init__(self, to: "tables.Tables | str") -> None:
        super().__init__()
        self._tables = tables.Tables(to) if isinstance(to, str) else to

    def expand(self, outcomes: Any) -> Any:
        """Writes where the batch is: nothing is shuffled."""
        return outcomes | "Write" >> beam.Map(self._write).with_output_types(tables.Commit)

    def _write(self, outcome: records.OutcomeBatch) -> tables.Commit:
        started = time.perf_counter()
        commit = self._tables.write(outcome)
        metrics.observe("write_ms", [(time.perf_counter() - started) * 1000])
        return commit
