"""The command `emulate`."""

import importlib
from typing import Annotated, Any

import typer
from rich.console import Console

from beam_moderation import configuration, errors


def emulate(
    vendor: Annotated[str, typer.Option(help="Vendor: alibaba, tencent or huawei.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8080,
    qps: Annotated[int | None, typer.Option(min=1, help="Calls a second that are let in.")] = None,
    latency: Annotated[float, typer.Option(min=0, help="Seconds that an answer takes.")] = 0.05,
    faults: Annotated[
        str | None, typer.Option(metavar="SPEC.yaml", help="What goes wrong, and when.")
    ] = None,
) -> None:
    """Serves a vendor's protocol on 127.0.0.1 until it is stopped, for tests and demos.

    Its keys are testid and testsecret; /_stats tells what it was asked.
    """
    emulator = _emulator()
    if vendor not in emulator.VENDORS:
        raise errors.ConfigurationError(
            f"no vendor '{vendor}'; there are {', '.join(emulator.VENDORS)}"
        )
    spec = emulator.FaultSpec()
    if faults is not None:
        spec = configuration.read_yaml(faults, emulator.FaultSpec)
    settings = emulator.Settings(calls_per_second=qps, latency_s=latency, faults=spec)
    try:
        emulator.run(
            vendor, port, settings, lambda url: _say(f"{vendor} on {url} (Ctrl-C ends it)")
        )
    except OSError as error:
        raise errors.ConfigurationError(f"cannot listen on port {port}: {error}") from error


def _say(line: str) -> None:
    Console().print(line, highlight=False, soft_wrap=True)


def _emulator() -> Any:
    try:
        return importlib.import_module("beam_moderation.emulator")
    except ImportError as error:
        raise errors.ConfigurationError(
            f"the emulator needs {error.name}: pip install 'beam-moderation[emulator]'"
        ) from error
