"""The command `emulate`."""

import importlib
from typing import Annotated, Any

import typer
from rich.console import Console

from beam_moderation import errors


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
    try:
        spec = emulator.read_faults(faults) if faults else emulator.FaultSpec()
        settings = emulator.Settings(calls_per_second=qps, latency_s=latency, faults=spec)
    except (OSError, ValueError) as error:
        raise errors.ConfigurationError(f"{faults}: {error}".splitlines()[0]) from error
    Console().print(f"{vendor} on http://127.0.0.1:{port} (Ctrl-C ends it)", highlight=False)
    emulator.run(vendor, port, settings)


def _emulator() -> Any:
    try:
        return importlib.import_module("beam_moderation.emulator")
    except ImportError as error:
        raise errors.ConfigurationError(
            f"the emulator needs {error.name}: pip install 'beam-moderation[emulator]'"
        ) from error
