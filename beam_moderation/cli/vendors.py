"""The options that name a vendor, and what is made from them."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import typer
import yaml

from beam_moderation import callbacks, errors, quota, vendor_moderation, vendors

CALLS_PER_SECOND = {"alibaba": 50, "tencent": 20, "huawei": 10}
"""Calls a second where none are given: Alibaba's documented 50 (document_detail/70292.html); what
the others document is how many may be in flight, so these are cautious."""

IMAGES_PER_SECOND = {"alibaba": 50}
"""Images a second where no number is given: what a new account has (document_detail/53414.html)."""

IN_FLIGHT = {"alibaba": 50, "tencent": 100, "huawei": 10}
"""Calls in flight where no number is given: Tencent's and Huawei's documented defaults."""

DEADLINE_S = 600.0
SEED_VARIABLE = "BEAM_MODERATION_CALLBACK_SEED"

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
Deadline = Annotated[
    float,
    typer.Option(min=1, metavar="SECONDS", help="When a task of --mode async is given up."),
]
Callback = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Where the vendor posts results to, with --mode async."),
]
CallbackSeed = Annotated[
    str | None,
    typer.Option(
        envvar=SEED_VARIABLE, show_default=False, help="Of the checksum of Alibaba's callbacks."
    ),
]
CallbacksFrom = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER",
        help="Where `callbacks` keeps results: waited for, and asked for only at the deadline.",
    ),
]


def make_vendor(name: str, options: Sequence[str], **named: Any) -> vendors.Vendor:
    """The vendor with the options that were given.

    Args:
      options: of the vendor, each as `name=value`, the value in YAML.
      named: further options; None and empty ones were not given.

    Raises:
      ConfigurationError: there is no such vendor, or it does not take an option.
    """
    if name not in vendors.VENDORS:
        raise errors.ConfigurationError(
            f"no vendor '{name}'; there are {', '.join(vendors.VENDORS)}"
        )
    kind: Any = vendors.VENDORS[name]
    given = {key: value for key, value in named.items() if value not in (None, (), [], False)}
    given |= dict(map(_option, options))
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
    vendor: vendors.Vendor = kind(**given)
    return vendor


def _option(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator:
        raise errors.ConfigurationError(f"an option is given as name=value, not '{text}'")
    return name.replace("-", "_"), yaml.safe_load(value)


def callback_options(name: str, callback: str | None, seed: str | None) -> dict[str, str | None]:
    """The vendor's options for callbacks to an address; none without an address."""
    if callback is None:
        return {}
    return {"callback": callback, **({"seed": seed} if name == "alibaba" else {})}


def make_inbox(callback: str | None, folder: str | None) -> callbacks.Folder | None:
    """What callbacks delivered.

    Raises:
      ConfigurationError: the vendor was not told where to deliver to.
    """
    if folder is None:
        return None
    if callback is None:
        raise errors.ConfigurationError("--callbacks-from needs --callback URL")
    return callbacks.Folder(folder)


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
