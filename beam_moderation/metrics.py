"""What a job counts, in the namespace `beam_moderation`, and the summary made from it.

Everything is counted from the outcomes as they are handed on, so the counters agree with the
tables.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.io.components.adaptive_throttler import ThrottlingSignaler
from apache_beam.metrics import Metrics
from apache_beam.metrics.metric import MetricsFilter

from beam_moderation import records

NAMESPACE = "beam_moderation"

_SCENE = "scene"
_DEAD_LETTERS = "dead_letters"


def counts(outcome: records.OutcomeBatch, resumed: bool) -> Counter[str]:
    """What an outcome adds to the counters, by name.

    `references` = `images` + `dead_letters`; `dead_letters/<code>` and
    `scene/<scene>/<suggestion>` add up to the rows of their tables. `resumed` counts the references
    whose outcome was there already; `bytes` and `billed_units` are without those.
    """
    count = Counter(
        references=len(outcome),
        images=outcome.images.num_rows,
        dead_letters=outcome.dead_letters.num_rows,
        resumed=len(outcome) if resumed else 0,
        bytes=0 if resumed else _sum(outcome.images.column("bytes")),
        billed_units=0 if resumed else _sum(outcome.images.column("billed_units")),
    )
    for code in outcome.dead_letters.column("code").to_pylist():
        count[f"{_DEAD_LETTERS}/{code}"] += 1
    scenes, suggestions = (outcome.scenes.column(name) for name in (_SCENE, "suggestion"))
    for scene, suggestion in zip(scenes.to_pylist(), suggestions.to_pylist(), strict=True):
        count[f"{_SCENE}/{scene}/{suggestion}"] += 1
    return count


def _sum(column: pa.Array) -> int:
    return pc.sum(column).as_py() or 0


def add(count: Mapping[str, int]) -> None:
    """Adds to the job's counters; called on the thread that runs the DoFn.

    Throttling is counted as Beam's runners know it too, so that they add no workers in vain.
    """
    for name, value in count.items():
        if value:
            Metrics.counter(NAMESPACE, name).inc(value)
    if throttled_s := count.get("vendor_throttled_s", 0):
        ThrottlingSignaler(NAMESPACE).signal_throttled(throttled_s)


def observe(name: str, values: Iterable[float]) -> None:
    """Adds to one of the job's distributions, in whole units."""
    distribution = Metrics.distribution(NAMESPACE, name)
    for value in values:
        distribution.update(round(value))


@dataclasses.dataclass(frozen=True)
class Summary:
    """A finished job in numbers."""

    references: int
    images: int
    dead_letters: Mapping[str, int]
    """By code."""
    suggestions: Mapping[tuple[str, str], int]
    """Rows of the table `scenes`, by scene and suggestion."""
    resumed: int
    """References whose outcome was there already."""
    billed_units: int


def summarise(result: Any) -> Summary:
    """The summary of a Beam pipeline's result."""
    query = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))
    total: Counter[str] = Counter()
    for metric in query["counters"]:
        total[metric.key.metric.name] += metric.result
    split = {tuple(name.split("/")): value for name, value in total.items()}
    return Summary(
        references=total["references"],
        images=total["images"],
        dead_letters={
            path[1]: value
            for path, value in split.items()
            if len(path) == 2 and path[0] == _DEAD_LETTERS
        },
        suggestions={
            (path[1], path[2]): value for path, value in split.items() if path[0] == _SCENE
        },
        resumed=total["resumed"],
        billed_units=total["billed_units"],
    )
