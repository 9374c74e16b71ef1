"""When a request is sent again, which depends on what is known of its cost.

- Throttled, or not reached: nothing was judged, so it is sent again until the patience ends.
- Answered with a failure of the vendor's own (HTTP 5xx), not answered, answered with what cannot
  be read, or an image that failed on the vendor's side: the work may have been done, and the next
  call may be billed in addition, so there are few tries.
- An image on which the vendor's algorithm failed is tried once more; one that it refuses never is.
"""

import asyncio
import dataclasses
import random

from beam_moderation import errors

_LONGEST_PAUSE_S = 30.0
_GROWTH = 4
"""Of the pauses: few tries must outlast a failure of some seconds."""


@dataclasses.dataclass(frozen=True)
class Retries:
    """How often, and for how long.

    Args:
      tries: how often an image is sent whose last call may have cost money.
      patience_s: for how long, from their first failure on, calls that cost nothing are repeated.
      pause_s: before the second attempt; before each next it is four times as long, up to 30 s.
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
        self.began = _now()
        self._failed_at: float | None = None
        self._paid = 0
        self._unpaid = False

    def made(self, failure: errors.VendorError | None = None, *, free: bool = False) -> None:
        """Counts an attempt, with what failed of it as a whole.

        Args:
          free: whether the vendor asks nothing for such a call, whatever becomes of it.
        """
        self.count += 1
        unpaid = isinstance(failure, (errors.VendorThrottled, errors.VendorUnreached))
        self._unpaid = free or unpaid
        self._paid += not self._unpaid

    def again(self, error: errors.VendorError) -> bool:
        """Whether what failed with `error` in the last attempt is to be sent once more."""
        if self._failed_at is None:
            self._failed_at = _now()
        if self._unpaid or isinstance(error, errors.VendorThrottled):
            return error.retryable and _now() - self._failed_at < self._retries.patience_s
        if isinstance(error, errors.VendorFailedInput):
            return self._paid < min(2, self._retries.tries)
        return error.retryable and self._paid < self._retries.tries

    @property
    def pause_s(self) -> float:
        """The pause before the next attempt, in part left to chance."""
        grown = self._retries.pause_s * _GROWTH ** min(self.count - 1, 10)
        return min(_LONGEST_PAUSE_S, grown) * random.uniform(0.5, 1)  # noqa: S311


def _now() -> float:
    return asyncio.get_running_loop().time()
