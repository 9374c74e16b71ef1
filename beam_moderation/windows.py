"""Outcomes of a stream, merged: one batch for each window and shard."""

import zlib
from collections.abc import Iterable
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.transforms.trigger import AccumulationMode, DefaultTrigger
from apache_beam.transforms.window import FixedWindows

from beam_moderation import errors, records

ALLOWED_LATENESS_S = 7 * 86_400.0
"""How late an outcome may be: as long as a Kafka topic keeps messages by default. Our own source is
never late; a runner drops what comes later from another one, and keeps a little state till then."""


_PASSING = {"latency_ms", "run_id"}


def shard_of(outcome: records.OutcomeBatch, shards: int) -> int:
    """The shard of an outcome, the same in every run."""
    return zlib.crc32(outcome.id.encode()) % shards


def merge(
    outcomes: Iterable[records.OutcomeBatch], window_start: str, shard: int
) -> records.OutcomeBatch:
    """The rows of some outcomes as one; an outcome that is there twice with one result counts once.

    Its id depends on the window, the shard and the results of the outcomes, in whatever order they
    are: where a vendor that was down has come back, what it says now is another batch.
    """
    once = {_result(outcome): outcome for outcome in outcomes}
    results = sorted(once)
    tables = {
        name: pa.concat_batches([getattr(once[result], name) for result in results])
        for name in records.TABLES
    }
    return records.OutcomeBatch(records.stable_id(window_start, str(shard), *results), **tables)


def _result(outcome: records.OutcomeBatch) -> str:
    """The outcome's id and a hash of its rows, but for when and how fast they were made."""
    rows = [row for _, table in outcome.tables() for row in _lasting(table).to_pylist()]
    return f"{outcome.id} {records.stable_id(*sorted(map(repr, rows)))}"


def _lasting(table: pa.RecordBatch) -> pa.RecordBatch:
    return table.select(
        field.name
        for field in table.schema
        if field.name not in _PASSING and not pa.types.is_timestamp(field.type)
    )


class MergeWindows(beam.PTransform):
    """Merges outcomes by their windows and shards.

    A window's outcomes come when the watermark passes its end; what is late comes behind them, as
    batches of its own. Only rows are shuffled.

    Args:
      window: seconds.
      shards: how many batches a window has; a shard's rows must fit into a worker's memory.

    Returns:
      A PCollection of `OutcomeBatch`.

    Raises:
      ConfigurationError: there is no window, or no shard.
    """

    def __init__(self, window: float, shards: int = 1) -> None:
        super().__init__()
        if not 0 < window < float("inf"):
            raise errors.ConfigurationError(f"a window is longer than no time, not {window} s")
        if shards < 1:
            raise errors.ConfigurationError(f"shards must be at least 1, not {shards}")
        self._window, self._shards = window, shards

    def expand(self, outcomes: Any) -> Any:
        """Groups by key, which is the shard's number, within windows."""
        shards = self._shards
        return (
            outcomes
            | "KeyByShard"
            >> beam.Map(lambda outcome: (shard_of(outcome, shards), outcome)).with_output_types(
                tuple[int, records.OutcomeBatch]
            )
            | "Window"
            >> beam.WindowInto(
                FixedWindows(self._window),
                trigger=DefaultTrigger(),
                accumulation_mode=AccumulationMode.DISCARDING,
                allowed_lateness=ALLOWED_LATENESS_S,
            )
            | "Group" >> beam.GroupByKey()
            | "Merge" >> beam.Map(_merge_shard).with_output_types(records.OutcomeBatch)
        )


def _merge_shard(
    shard: tuple[int, Iterable[records.OutcomeBatch]], window: Any = beam.DoFn.WindowParam
) -> records.OutcomeBatch:
    number, outcomes = shard
    return merge(outcomes, str(window.start.micros), number)
