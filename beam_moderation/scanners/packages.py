"""What a scanner needs of an optional package: its version, its files, a clear word if missing."""

import importlib
import importlib.metadata
import pathlib
from typing import Any

from beam_moderation import errors


def version(distribution: str, extra: str) -> str:
    """The version that is installed.

    Raises:
      ConfigurationError: none is; the message says which extra to install.
    """
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError as error:
        raise _missing(distribution, extra) from error


def require_version(distribution: str, extra: str, expected: str) -> None:
    """Refuses another version than the provider's name says.

    Raises:
      ConfigurationError: another is installed, or none.
    """
    found = version(distribution, extra)
    if found != expected:
        raise errors.ConfigurationError(
            f"{distribution} is {found} here and {expected} where the pipeline was built"
        )


def load(module: str, distribution: str, extra: str) -> Any:
    """Imports a module of the package.

    Raises:
      ConfigurationError: it cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise _missing(distribution, extra) from error


def file(distribution: str, extra: str, pattern: str) -> pathlib.Path:
    """The one file that came with the package and whose path fits a glob pattern.

    Raises:
      ConfigurationError: the package is not installed, or has no or several such files.
    """
    version(distribution, extra)
    found = [path for path in importlib.metadata.files(distribution) or () if path.match(pattern)]
    if len(found) != 1:
        raise errors.ConfigurationError(
            f"{distribution} has {len(found)} files {pattern}, expected one: install it again"
        )
    return pathlib.Path(str(found[0].locate()))


def _missing(distribution: str, extra: str) -> errors.ConfigurationError:
    return errors.ConfigurationError(
        f"{distribution} is not installed: pip install 'beam-moderation[{extra}]'"
    )
