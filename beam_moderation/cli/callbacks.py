"""The command `callbacks`."""

import dataclasses
import importlib
import socket
from collections.abc import Sequence
from typing import Annotated, Any

import pydantic
import typer
from rich.console import Console

from beam_moderation import callbacks as deliveries
from beam_moderation import configuration, errors, kafka_secrets, vendors
from beam_moderation.cli import vendors as options

UID_VARIABLE = "BEAM_MODERATION_CALLBACK_UID"

_BACKLOG = 256
_AT_ONCE = 256


class _Secrets(pydantic.BaseModel):
    """A file of what proves Alibaba's callbacks."""

    model_config = pydantic.ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    uid: str = pydantic.Field(repr=False)
    seed: str = pydantic.Field(repr=False)


def callbacks(
    vendor: Annotated[str, typer.Option(help="Vendor that posts: alibaba or tencent.")],
    to: Annotated[
        str,
        typer.Option(
            metavar="FOLDER|kafka://HOST:PORT/TOPIC",
            help="Where to. Settings of Kafka's client come from variables as "
            f"{kafka_secrets.variable('security.protocol')}.",
        ),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8090,
    path: Annotated[str, typer.Option(help="Path that is posted to; best a long random one.")] = (
        "/"
    ),
    uid: Annotated[
        str | None, typer.Option(envvar=UID_VARIABLE, help="Alibaba: the main account's id.")
    ] = None,
    seed: Annotated[
        str | None,
        typer.Option(envvar=options.SEED_VARIABLE, help="Alibaba: the seed of the scans."),
    ] = None,
    secrets: Annotated[
        str | None, typer.Option(metavar="FILE", help="Alibaba: YAML with uid and seed.")
    ] = None,
    region: options.Region = None,
    endpoint: options.Endpoint = None,
    vendor_option: options.Options = [],  # noqa: B006
    credentials: options.Credentials = None,
    max_bytes: Annotated[int, typer.Option(min=1, help="Largest post that is read.")] = 2**20,
    max_per_second: Annotated[
        int, typer.Option(min=1, help="Posts without a right checksum that are looked at.")
    ] = 200,
    qps: Annotated[
        int, typer.Option(min=1, help="Tencent: queries a second that confirm posts.")
    ] = deliveries.CONFIRMATION_QUOTA.calls_per_second,
) -> None:
    """Takes the results that a vendor posts, proves and keeps them, and only then says so.

    `backfill` and `stream` read them there, with --callback URL --callbacks-from.

    Put it behind a proxy that speaks TLS to be reached from outside.
    """
    service = _service()
    proof = _proof(vendor, uid, seed, secrets, region, endpoint, vendor_option, credentials, qps)
    limits = service.ServiceLimits(max_bytes, max_per_second)
    store = deliveries.open_store(to, kafka_secrets.KafkaSecrets()())
    app = service.app(proof, store, _path(path), limits)
    listener = _listen(host, port)
    where = f"http://{host}:{listener.getsockname()[1]}{path}"
    Console().print(
        f"callbacks of {vendor} on {where}, kept in {to}", highlight=False, soft_wrap=True
    )
    _run(app, listener)


def _service() -> Any:
    try:
        importlib.import_module("uvicorn")
        return importlib.import_module("beam_moderation.callbacks.service")
    except ImportError as error:
        raise errors.ConfigurationError(
            f"callbacks need {error.name}: pip install 'beam-moderation[callbacks]'"
        ) from error


def _proof(
    name: str,
    uid: str | None,
    seed: str | None,
    secrets: str | None,
    region: str | None,
    endpoint: str | None,
    vendor_option: Sequence[str],
    credentials: str | None,
    qps: int,
) -> deliveries.Proof:
    if name == "alibaba":
        return _checksum(uid, seed, secrets)
    if not issubclass(vendors.VENDORS.get(name, vendors.Tencent), vendors.Tencent):
        raise errors.ConfigurationError(f"{name} delivers no results")
    vendor = options.make_vendor(
        name, vendor_option, region=region, endpoint=endpoint, asynchronous=True
    )
    assert isinstance(vendor, vendors.Tencent)
    source = vendors.CredentialsSource(name, credentials)
    source()
    within = dataclasses.replace(deliveries.CONFIRMATION_QUOTA, calls_per_second=qps)
    return deliveries.Confirmation(vendor, source, within)


def _checksum(uid: str | None, seed: str | None, secrets: str | None) -> deliveries.Checksum:
    if secrets is not None:
        known = configuration.read_yaml(secrets, _Secrets)
        uid, seed = known.uid, known.seed
    if not (uid and seed):
        raise errors.ConfigurationError(
            f"alibaba needs a uid and a seed: set {UID_VARIABLE} and {options.SEED_VARIABLE}, or "
            "name a file: --secrets FILE"
        )
    return deliveries.Checksum(uid, seed)


def _path(path: str) -> str:
    if not path.startswith("/") or "{" in path:
        raise errors.ConfigurationError(f"a path begins with / and has no braces: {path}")
    return path


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=_BACKLOG)
    except OSError as error:
        raise errors.ConfigurationError(f"cannot listen on {host}:{port}: {error}") from error


def _run(app: Any, listener: socket.socket) -> None:
    uvicorn: Any = importlib.import_module("uvicorn")
    config = uvicorn.Config(
        app,
        loop="asyncio",
        ws="none",
        log_level="critical",
        access_log=False,
        server_header=False,
        limit_concurrency=_AT_ONCE,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=10,
    )
    uvicorn.Server(config).run([listener])
