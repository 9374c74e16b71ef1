"""Faults on demand: which call of which operation goes wrong, and how.

A spec is a YAML or JSON document:

```yaml
seed: 7
faults:
  - {kind: drop, operation: scan, probability: 0.02, after: true}
  - {kind: throttled, nth: [3, 10], retry_after_s: 2}
  - {kind: delay, delay_s: 0.5, probability: 0.1}
```

Whether the n-th call of an operation is hit depends on the seed, the fault, the operation and n,
and on nothing else.
"""

import collections
import hashlib
import pathlib
from typing import Literal

import pydantic
import yaml

MIB = 1024 * 1024

Kind = Literal[
    "drop",
    "cut",
    "delay",
    "server_error",
    "throttled",
    "malformed",
    "wrong_encoding",
    "huge",
    "partial",
    "missing_item",
    "duplicate",
    "out_of_order",
    "missing_scene",
]


class Fault(pydantic.BaseModel, frozen=True, extra="forbid"):
    """One way to go wrong, and the calls that it hits: those in `nth`, else some at random.

    | kind | what the caller sees |
    | --- | --- |
    | drop | the connection closes without a byte |
    | cut | the connection closes in the middle of the body |
    | delay | the answer comes `delay_s` later |
    | server_error | the vendor's own error with HTTP `status` |
    | throttled | the vendor's refusal over quota, with `Retry-After` if `retry_after_s` is given |
    | malformed | the first half of the body, as if it were whole |
    | wrong_encoding | a body that says UTF-8 and holds GBK |
    | huge | a good answer, padded to `size_bytes`, without a length |
    | partial | every other item failed on the vendor's side |
    | missing_item | the last item is left out |
    | duplicate | the first item comes twice |
    | out_of_order | the items come in reverse |
    | missing_scene | of the first item one scene is left out |

    The operation `callback` knows drop (one delivery is lost), duplicate and delay.
    """

    kind: Kind
    operation: str = "*"
    nth: tuple[pydantic.PositiveInt, ...] = ()
    """Calls of the operation, counted from 1."""
    probability: float = pydantic.Field(default=1.0, ge=0, le=1)
    after: bool = False
    """For drop, server_error and throttled: the vendor did the work, and billed it, before."""
    delay_s: float = pydantic.Field(default=1.0, ge=0)
    status: int = pydantic.Field(default=503, ge=500, le=599)
    retry_after_s: int | None = pydantic.Field(default=None, ge=0)
    size_bytes: int = pydantic.Field(default=50 * MIB, ge=0)

    @property
    def before_work(self) -> bool:
        """Whether the vendor never sees the call."""
        return self.kind in {"drop", "server_error", "throttled"} and not self.after

    def hits(self, seed: str, operation: str, count: int) -> bool:
        """Whether the `count`-th call of the operation is hit."""
        if self.operation not in {"*", operation}:
            return False
        return count in self.nth if self.nth else _chance(seed, operation, count) < self.probability


class FaultSpec(pydantic.BaseModel, frozen=True, extra="forbid"):
    """All faults of a run."""

    seed: int = 0
    faults: tuple[Fault, ...] = ()


class FaultPlan:
    """Deals out the faults of a spec, call by call."""

    def __init__(self, spec: FaultSpec) -> None:
        self.replace(spec)

    def replace(self, spec: FaultSpec) -> None:
        """Deals out another spec from now on, counting calls from 1 again."""
        self.spec = spec
        self._counts: collections.Counter[str] = collections.Counter()

    def draw(self, operation: str) -> list[Fault]:
        """The faults that hit this call of the operation."""
        self._counts[operation] += 1
        count = self._counts[operation]
        return [
            fault
            for index, fault in enumerate(self.spec.faults)
            if fault.hits(f"{self.spec.seed}/{index}", operation, count)
        ]


def read_faults(path: str | pathlib.Path) -> FaultSpec:
    """The spec of a YAML file. Raises `pydantic.ValidationError` where it is none."""
    return parse_faults(pathlib.Path(path).read_text(encoding="utf-8"))


def parse_faults(text: str) -> FaultSpec:
    """The spec of a YAML or JSON text. Raises `pydantic.ValidationError` where it is none."""
    return FaultSpec.model_validate(yaml.safe_load(text) or {})


def _chance(seed: str, operation: str, count: int) -> float:
    """A number in [0, 1) that looks random and is the same in every run."""
    digest = hashlib.blake2b(f"{seed}/{operation}/{count}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
