"""Objects that are made once a process, however many copies of their owner there are."""

import threading
import weakref
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Made = TypeVar("Made")


class Once(Generic[Made]):
    """One object a key, alive as long as someone holds it. Thread-safe.

    Not Beam's `Shared`: that keeps alive only the object that was acquired last, and a pipeline
    may run several models. The objects must be weak-referenceable.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._alive: weakref.WeakValueDictionary[Hashable, Made] = weakref.WeakValueDictionary()

    def get(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """The key's object, made if there is none."""
        with self._lock:
            made = self._alive.get(key)
            if made is None:
                made = self._alive[key] = make()
            return made
