"""Keeps libtiff quiet: it writes to standard error, past all logging, what it makes of a file."""

import contextlib
import ctypes
import functools

from PIL import _imaging


@functools.cache
def silence() -> None:
    """Takes away the handlers of the libtiff that Pillow decodes with; once a process.

    A Pillow that was built otherwise goes on writing.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(_imaging.__file__)
        for handler in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            getattr(library, handler)(None)
