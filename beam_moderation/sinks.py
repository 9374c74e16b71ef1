"""`WriteParquet`: outcomes into tables."""

from typing import Any

import apache_beam as beam

from beam_moderation import tables


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
        return outcomes | "Write" >> beam.Map(self._tables.write).with_output_types(tables.Commit)
