"""What every local model and scanner is: a `Judge` of decoded frames.

A judge works in two steps, so that decoding may happen in another thread or another process than
judging, and so that only what the judge needs of a frame travels between them.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from PIL import Image

if TYPE_CHECKING:  # records bring Beam, which a process that only decodes does without
    from beam_moderation import records

Preparation = Callable[[Image.Image], Any]
"""Turns a frame (RGB, upright, of any size) into what `Judge.judge` takes; picklable, stateless."""


def fingerprint(*options: Any) -> str:
    """Eight hexadecimal digits that change with the options; for a provider's version."""
    content = json.dumps(options, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()[:8]


class SceneFindings(NamedTuple):
    """What a judge says of one frame and one scene.

    `findings` holds every label with its score in [0, 1], never none: a scene in which nothing was
    found has the finding `normal`. `detail` is what JSON can hold.
    """

    scene: str
    findings: Sequence["records.Finding"]
    detail: Mapping[str, Any] = {}


class Judge(Protocol):
    """A local model or scanner. Picklable at all times; loads on the worker, once a process."""

    provider: str
    """What the tables show: a name and a version that changes with the verdicts."""

    labels: Mapping[str, frozenset[str]]
    """The scenes that it judges, each with every label that it may give."""

    sufficient_size: tuple[int, int] | None
    """Width and height in pixels beyond which a larger decoding adds nothing; None: full size."""

    max_batch: int
    """How many prepared frames it wants at once: 1 on a CPU, more on a GPU."""

    prepare: Preparation

    def load(self) -> None:
        """Makes `judge` ready in this process; does nothing the second time.

        Raises:
          ConfigurationError: the model cannot be read, or is not what it says.
        """

    def judge(self, prepared: Sequence[Any]) -> Sequence[Sequence[SceneFindings]]:
        """For each prepared frame, its findings in every scene of `labels`. Thread-safe.

        Raises:
          Exception: any, when a frame cannot be judged; a batch that fails is tried in halves.
        """
