"""What of a batch is done already, and what of it is to be done again.

A batch whose dead letters are done again has a second outcome beside its first, and so on: each
holds references that had no verdict in those before, and is named after the first, `<id>.2`.
"""

import dataclasses
import itertools
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from beam_moderation import errors, records, tables

RETRYABLE = "retryable"
"""Stands for every code that is retryable."""


class Rest(NamedTuple):
    """References that are to be judged, and the name of what becomes of them."""

    batch: records.ReferenceBatch
    outcome_id: str


@dataclasses.dataclass(frozen=True)
class Resumption:
    """Reads back what an earlier run did. Picklable.

    Args:
      written: the tables of earlier runs; where there are none, all is to be done.
      again: codes of dead letters, or `RETRYABLE`, whose references are to be judged again.
      run_id: of this run, which does nothing again that it did itself.

    Raises:
      ConfigurationError: there is no such code, or there are no tables.
    """

    written: tables.Tables | None
    again: Collection[str] = ()
    run_id: str = ""

    def __post_init__(self) -> None:
        known = {RETRYABLE, *errors.codes()}
        if unknown := sorted({*self.again} - known):
            raise errors.ConfigurationError(
                f"no code of dead letters: '{unknown[0]}'; there are {', '.join(sorted(known))}"
            )
        if self.again and self.written is None:
            raise errors.ConfigurationError("dead letters are done again where the tables are read")

    def split(
        self, batch: records.ReferenceBatch, outcome_id: str
    ) -> tuple[Sequence[records.OutcomeBatch], Rest | None]:
        """The outcomes that stand, and the rest of the batch.

        Every reference is in one of them exactly once.
        """
        commits = list(self._commits(outcome_id))
        if self.written is None or not commits:
            return [], Rest(batch, outcome_id)
        outcomes = _latest([self.written.read(commit) for commit in commits])
        if not self.again or commits[-1].run_id == self.run_id:
            return outcomes, None
        chosen = self._chosen(batch, outcomes)
        if not chosen:
            return outcomes, None
        number = len(commits) + 1
        rest = _only(batch, chosen, _attempt(batch.id, number))
        standing = [_without(outcome, chosen) for outcome in outcomes]
        return standing, Rest(rest, _attempt(outcome_id, number))

    def _commits(self, outcome_id: str) -> Iterator[tables.Commit]:
        """The commits of a batch, from the first attempt to the latest."""
        for number in itertools.count(1):
            commit = self.written and self.written.commit(_attempt(outcome_id, number))
            if not commit:
                return
            yield commit
            if number == 1 and not commit.dead_letters:
                return

    def _chosen(
        self, batch: records.ReferenceBatch, outcomes: Sequence[records.OutcomeBatch]
    ) -> set[str]:
        """The places of the references that are to be judged again."""
        readable = {*batch.references.column("source").to_pylist()}
        wanted = (place for outcome in outcomes for place in self._wanted(outcome.dead_letters))
        return readable.intersection(wanted)

    def _wanted(self, dead_letters: pa.RecordBatch) -> Sequence[str]:
        wanted = pc.is_in(dead_letters.column("code"), pa.array(list(self.again), pa.string()))
        if RETRYABLE in self.again:
            wanted = pc.or_(wanted, dead_letters.column("retryable"))
        places: list[str] = dead_letters.column("source").filter(wanted).to_pylist()
        return places


def is_repetition(outcome_id: str) -> bool:
    """Whether an outcome is of references that had one before."""
    return "." in outcome_id


def first(name: str) -> str:
    """The name of the batch, or of its first outcome, of which another is a repetition."""
    return name.partition(".")[0]


def _attempt(name: str, number: int) -> str:
    return name if number == 1 else f"{name}.{number}"


def _latest(outcomes: Sequence[records.OutcomeBatch]) -> list[records.OutcomeBatch]:
    """The outcomes without the dead letters that a later one supersedes."""
    standing, later = [], set[str]()
    for outcome in reversed(outcomes):
        standing.append(_without(outcome, later))
        later |= {*outcome.images.column("source").to_pylist()}
        later |= {*outcome.dead_letters.column("source").to_pylist()}
    return standing[::-1]


def _without(outcome: records.OutcomeBatch, sources: Collection[str]) -> records.OutcomeBatch:
    if not sources:
        return outcome
    standing = pc.invert(_are_of(outcome.dead_letters, sources))
    return dataclasses.replace(outcome, dead_letters=outcome.dead_letters.filter(standing))


def _only(
    batch: records.ReferenceBatch, sources: Collection[str], name: str
) -> records.ReferenceBatch:
    chosen = batch.references.filter(_are_of(batch.references, sources))
    return records.ReferenceBatch(name, chosen, batch.dead_letters.slice(0, 0))


def _are_of(rows: pa.RecordBatch, sources: Collection[str]) -> pa.Array:
    return pc.is_in(rows.column("source"), pa.array(list(sources), pa.string()))
