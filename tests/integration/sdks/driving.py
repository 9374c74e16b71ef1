"""Runs the cases of an SDK and prints what came of each, as one JSON object.

Imported by the drivers, which run in the environment of their SDK and not in that of the tests.
"""

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any


def configuration() -> dict[str, Any]:
    """What the test hands to the driver: address, port, keys."""
    return json.loads(sys.argv[1])


def with_bad_keys(
    operations: Mapping[str, Callable[[Any], Any]], clients: Mapping[str, Callable[[], Any]]
) -> dict[str, Callable[[], Any]]:
    """A case for each operation and client, which has a bad key: `feedback_with_wrong_key`."""

    def case(operation: Callable[[Any], Any], client: Callable[[], Any]) -> Callable[[], Any]:
        return lambda: operation(client())

    return {
        f"{name}_with_{fault}": case(operation, client)
        for name, operation in operations.items()
        for fault, client in clients.items()
    }


def report(cases: Mapping[str, Callable[[], Any]]) -> None:
    """Prints, by case, the `answer` or the `error`: its type, code, status and message."""
    json.dump({name: _outcome(case) for name, case in cases.items()}, sys.stdout)


def _outcome(case: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"answer": case()}
    except Exception as error:  # noqa: BLE001
        return {"error": {"type": type(error).__name__, **_details(error)}}


def _details(error: Exception) -> dict[str, Any]:
    """Code, status and message, under whatever names the SDK has for them."""
    names = {
        "code": ("error_code", "get_error_code"),
        "status": ("status_code", "http_status", "get_status_code"),
        "message": ("error_msg", "message", "get_error_msg"),
    }
    return {word: _first(error, attributes) for word, attributes in names.items()}


def _first(error: Exception, attributes: tuple[str, ...]) -> Any:
    for attribute in attributes:
        value = getattr(error, attribute, None)
        if value is not None:
            return value() if callable(value) else value
    return str(error)
