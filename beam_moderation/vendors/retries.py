"""When a request is sent again, which depends on what is known of its cost.

- Throttled, not reached, or failed as a whole by the vendor: nothing was judged, so it is sent
  again until the patience ends.
- No answer, one that cannot be read, or an image that failed on the vendor's side: the next call
  may be paid in addition, so there are few tries.
- An image on which the vendor's algorithm failed is tried once more; one that it refuses never is.
"""

import asyncio
import dataclasses
import random

from beam_moderation import errors

_LONGEST_PAUSE_S = 30.0


@dataclasses.dataclass(frozen=True)
class Retries:
    """How often, and for how long.

    Args:
      tries: how often an image is sent whose last call may have cost money.
      patience_s: for how long calls that cost nothing are repeated.
      pause_s: before the second attempt; before each next it is twice as long, up to 30 s.
    """

    tries: int = 4
    patience_s: float = 600.0
    pause_s: float = 1.0

    def __post_init__(self) -> None:
        if self.tries < 1 or self.patience_s < 0 or self.pause_s < 0:
            raise errors.ConfigurationError(f"need tries >= 1, patience_s and pause_s >= 0: {self}")


class Attempts:
    """The attempts at one request, from its first on."""

    def __init__(self, retries: Retries) -> None:
        self.count = 0
        self._retries = retries
        self._began = _now()
        self._paid = 0
        self._unpaid = False

    @property
    def latency_s(self) -> float:
        """The time since the first attempt began."""
        return _now() - self._began

    def made(self, failure: errors.VendorError | None = None) -> None:
        """Counts an attempt, with what failed of it as a whole."""
        self.count += 1
        self._unpaid = isinstance(failure, (errors.VendorThrottled, errors.VendorUnavailable))
        self._paid += not self._unpaid

    def again(self, error: errors.VendorError) -> bool:
        """Whether what failed with `error` in the last attempt is to be sent once more."""
        if self._unpaid or isinstance(error, errors.VendorThrottled):
            return self.latency_s < self._retries.patience_s
        if isinstance(error, errors.VendorFailedInput):
            return self._paid < min(2, self._retries.tries)
        return error.retryable and self._paid < self._retries.tries

    @property
    def pause_s(self) -> float:
        """The pause before the next attempt, in part left to chance."""
        longest = min(_LONGEST_PAUSE_S, self._retries.pause_s * 2 ** min(self.count - 1, 10))
        return longest * random.uniform(0.5, 1)  # noqa: S311


def _now() -> float:
    return asyncio.get_running_loop().time()
