"""The options that name a vendor, and what is made from them."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, get_type_hints

import pydantic
import typer
import yaml

from beam_moderation import (
    callbacks,
    errors,
    kafka_secrets,
    quota,
    vendor_moderation,
    vendors,
)

CALLS_PER_SECOND = {"alibaba": 50, "tencent": 20, "huawei": 10}
"""Calls a second where none are given: Alibaba's documented 50 (document_detail/70292.html); what
the others document is how many may be in flight, so these are cautious."""

IMAGES_PER_SECOND = {"alibaba": 50}
"""Images a second where no number is given: what a new account has (document_detail/53414.html)."""

IN_FLIGHT = {"alibaba": 50, "tencent": 100, "huawei": 10}
"""Calls in flight where no number is given: Tencent's and Huawei's documented defaults."""

DEADLINE_S = 600.0
_STRICT = pydantic.ConfigDict(extra="forbid")
SEED_VARIABLE = "BEAM_MODERATION_CALLBACK_SEED"
"""Of the checksum of Alibaba's callbacks. No option: a command line is seen by everybody."""

Name = Annotated[
    str | None, typer.Option("--vendor", help=f"Vendor: {', '.join(vendors.VENDORS)}.")
]
Region = Annotated[str | None, typer.Option(help="The vendor's region.")]
Scenes = Annotated[
    list[str], typer.Option("--scene", help="Scene that the vendor judges. Repeatable.")
]
Mode = Annotated[
    Literal["sync", "async"], typer.Option(help="Whether the vendor judges at once or by tasks.")
]
BizType = Annotated[str | None, typer.Option(help="The vendor's name of your policy.")]
Endpoint = Annotated[str | None, typer.Option(help="Address instead of the vendor's own.")]
Options = Annotated[
    list[str],
    typer.Option(
        "--vendor-option",
        metavar="NAME=VALUE",
        help="Any other option of the vendor, as bucket=photos-125. Repeatable.",
    ),
]
Credentials = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", help="Credentials; by default the vendor's usual environment variables."
    ),
]
CallsPerSecond = Annotated[
    int | None, typer.Option("--qps", min=1, help="Calls a second, of the whole job.")
]
ImagesPerSecond = Annotated[
    int | None, typer.Option(min=1, help="Images a second, of the whole job.")
]
MaxInFlight = Annotated[int | None, typer.Option(min=1, help="Calls in flight, of the whole job.")]
Lanes = Annotated[int, typer.Option(min=1, help="Workers that share the quota.")]
Fit = Annotated[
    bool,
    typer.Option("--fit", help="Shrink or transcode what is over the vendor's limits."),
]
SendBytes = Annotated[
    bool,
    typer.Option(
        "--send-bytes", help="Fetch every image here, so that the vendor is shown no address."
    ),
]
Deadline = Annotated[
    float,
    typer.Option(min=1, metavar="SECONDS", help="When a task of --mode async is given up."),
]
Callback = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Where the vendor posts results to, with --mode async. Alibaba needs a seed too: set "
        f"{SEED_VARIABLE}.",
    ),
]
CallbacksFrom = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER|kafka://HOST:PORT/TOPIC",
        help="Where `callbacks` keeps results: waited for, and asked for only at the deadline.",
    ),
]


def make_vendor(name: str, options: Sequence[str], **named: Any) -> vendors.Vendor:
    """The vendor with the options that were given.

    Args:
      options: of the vendor, each as `name=value`; a value that is no text is in YAML.
      named: further options; None and empty ones were not given.

    Raises:
      ConfigurationError: there is no such vendor, it does not take an option, or not that value.
    """
    if name not in vendors.VENDORS:
        raise errors.ConfigurationError(
            f"no vendor '{name}'; there are {', '.join(vendors.VENDORS)}"
        )
    kind: Any = vendors.VENDORS[name]
    given = {key: value for key, value in named.items() if value not in (None, (), [], False)}
    told = dict(map(_option, options))
    given |= told
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if unknown := sorted(given.keys() - fields.keys()):
        raise errors.ConfigurationError(
            f"{name} has no option '{unknown[0]}'; it has {', '.join(fields)}"
        )
    needed = [
        field.name
        for field in fields.values()
        if field.default is field.default_factory is dataclasses.MISSING
    ]
    if missing := [field for field in needed if field not in given]:
        raise errors.ConfigurationError(
            f"{name} needs {' and '.join(missing)}: --vendor-option {missing[0]}=…"
        )
    given |= _typed(kind, told)
    vendor: vendors.Vendor = kind(**given)
    return vendor


def _option(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise errors.ConfigurationError(f"an option is given as name=value, not '{text}'")
    if name == "seed":
        raise errors.ConfigurationError(
            f"seed does not belong on a command line: set {SEED_VARIABLE}"
        )
    return name.replace("-", "_"), value


def _typed(kind: type, told: Mapping[str, str]) -> dict[str, Any]:
    """Options that were told as texts, as the types of the fields that they are for."""
    types = get_type_hints(kind)
    return {name: _value(name, text, types[name]) for name, text in told.items()}


def _value(name: str, text: str, kind: Any) -> Any:
    """The text itself where that will do, so that digits and dates stay text; else what YAML says.

    Raises:
      ConfigurationError: neither is a value of the type.
    """
    adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(kind, config=_STRICT)
    try:
        return adapter.validate_python(text)
    except pydantic.ValidationError:
        pass
    try:
        return adapter.validate_python(yaml.safe_load(text))
    except pydantic.ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"]
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or "not YAML"
    raise errors.ConfigurationError(f"--vendor-option {name}={text}: {problem}")


def callback_options(name: str, callback: str | None, mode: str) -> dict[str, str]:
    """The vendor's options for callbacks to an address; none without an address.

    Raises:
      ConfigurationError: something else is needed for them.
    """
    if callback is None:
        return {}
    if mode != "async":
        raise errors.ConfigurationError("--callback needs --mode async")
    if name != "alibaba":
        return {"callback": callback}
    seed = os.environ.get(SEED_VARIABLE)
    if not seed:
        raise errors.ConfigurationError(f"--callback of alibaba needs a seed: set {SEED_VARIABLE}")
    return {"callback": callback, "seed": seed}


def make_inbox(
    callback: str | None,
    place: str | None,
    secrets: kafka_secrets.KafkaSecrets,
    deadline_s: float,
) -> callbacks.Folder | callbacks.TopicInbox | None:
    """What callbacks delivered, in a folder or a topic.

    Raises:
      ConfigurationError: the vendor was not told where to deliver to, or there is no such topic.
    """
    if place is None:
        return None
    if callback is None:
        raise errors.ConfigurationError("--callbacks-from needs --callback URL")
    return callbacks.open_inbox(place, secrets=secrets, lookback_s=deadline_s)


def make_quota(
    name: str, calls: int | None, images: int | None, in_flight: int | None, lanes: int
) -> quota.Quota:
    """The quota that was given, and the vendor's documented one for what was not."""
    return quota.Quota(
        calls or CALLS_PER_SECOND[name],
        images or IMAGES_PER_SECOND.get(name),
        in_flight or IN_FLIGHT[name],
        lanes,
    )


def make_moderation(
    vendor: vendors.Vendor, within: quota.Quota, credentials: str | None, **options: Any
) -> vendor_moderation.ModerateWithVendor:
    """The transform, once it is known that there are credentials.

    Raises:
      ConfigurationError: there are none.
    """
    source = vendors.CredentialsSource(vendor.name, credentials)
    source()
    return vendor_moderation.ModerateWithVendor(vendor, within, credentials=source, **options)
