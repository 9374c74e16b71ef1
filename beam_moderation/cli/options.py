"""Options that several commands share, and what is made from them."""

import argparse
import difflib
import io
import pathlib
import re
from collections.abc import Sequence
from contextlib import redirect_stderr
from typing import Annotated

import typer
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from beam_moderation import (
    addresses,
    errors,
    fetch,
    filesystems,
    judges,
    models,
    policy,
    scanners,
)
from beam_moderation.cli import runners

EMBEDDED_RUNNER = "FnApiRunner"
"""The runner where none is named: `DirectRunner` is another one wherever it can download Prism."""

VENDORS_SCENES = ("porn", "terrorism", "ad", "qrcode", "live", "logo", "politics", "quality")
"""Scenes that some vendor judges, which a policy may name though this job does not judge them."""

Out = Annotated[str, typer.Option("--out", help="Folder of the tables; an fsspec URL.")]
Scanners = Annotated[
    list[str],
    typer.Option("--scanner", help=f"Local scanner: {', '.join(scanners.SCANNERS)}. Repeatable."),
]
Models = Annotated[
    list[str],
    typer.Option("--model", metavar="MANIFEST", help="Manifest of an ONNX model. Repeatable."),
]
Gpu = Annotated[bool, typer.Option("--gpu", help="Run models by CUDA, in large batches.")]
PolicyUrl = Annotated[
    str | None, typer.Option("--policy", metavar="POLICY.yaml", help="Thresholds by label.")
]
Interval = Annotated[
    int | None,
    typer.Option(
        min=1, help="Judge every n-th frame or tile.", show_default="1, or the vendor's own"
    ),
]
MaxFrames = Annotated[
    int | None,
    typer.Option(
        min=1, help="Frames or tiles judged of an image.", show_default="10, or the vendor's own"
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Threads that decode and judge, an image each.",
        show_default="one a core, and with --gpu 128 more",
    ),
]
Isolate = Annotated[
    bool,
    typer.Option(
        "--isolate", help="Decode in processes that an image may crash without harm to others."
    ),
]
LocalRoots = Annotated[
    list[str],
    typer.Option(
        "--local-root",
        metavar="FOLDER",
        help="Folder whose files may be read; relative references start in the first. Repeatable.",
    ),
]
Buckets = Annotated[
    list[str], typer.Option("--bucket", help="Bucket that may be read, as s3://name. Repeatable.")
]
AllowHosts = Annotated[
    list[str],
    typer.Option(
        "--allow-host",
        metavar="HOST[:PORT]",
        help="Host that may be fetched from though its address is internal. Repeatable.",
    ),
]
AllowNetworks = Annotated[
    list[str],
    typer.Option(
        "--allow-network",
        metavar="CIDR",
        help="Internal network that may be fetched from, as 10.1.0.0/16. Repeatable.",
    ),
]
Timeout = Annotated[
    float, typer.Option(metavar="SECONDS", help="From the name's look-up to an image's last byte.")
]
MaxBytes = Annotated[int, typer.Option(min=1, help="Largest image that is fetched.")]


def make_policy(url: str | None, chosen: Sequence[judges.Judge] = ()) -> policy.Policy:
    """The policy at a URL, or the package's own.

    Raises:
      ConfigurationError: it is broken, or names a scene that nothing judges.
    """
    if url is None:
        return policy.Policy.default()
    rules = policy.Policy.from_yaml(url)
    rules.check_scenes({*VENDORS_SCENES, *(scene for judge in chosen for scene in judge.labels)})
    return rules


def make_judges(
    scanner_names: Sequence[str], manifests: Sequence[str], gpu: bool, policy_url: str | None
) -> tuple[list[judges.Judge], policy.Policy]:
    """The judges, loaded once to see that they can be, and the policy for what they find.

    Raises:
      ConfigurationError: there is no judge, or one cannot be had.
    """
    runtime = models.ON_GPU if gpu else models.ON_CPU
    found: list[judges.Judge] = [
        models.OnnxModel.from_manifest(manifest, runtime) for manifest in manifests
    ]
    words = make_policy(policy_url, found).words if policy_url else {}
    found += [
        scanners.by_name(name, **({"words": words} if name == "text" else {}))
        for name in scanner_names
    ]
    if not found:
        raise errors.ConfigurationError("name at least one --scanner or --model")
    for judge in found:
        judge.load()
    return found, make_policy(policy_url, found)


def make_fetcher(
    roots: Sequence[str],
    buckets: Sequence[str],
    hosts: Sequence[str],
    networks: Sequence[str],
    timeout_s: float,
    max_bytes: int,
) -> fetch.Fetcher:
    """The filesystems that references may point to.

    Raises:
      ConfigurationError: one of them cannot be had.
    """
    for root in roots:
        if not pathlib.Path(root).is_dir():
            raise errors.ConfigurationError(f"--local-root {root} is no folder")
    table = filesystems.Filesystems.of(
        roots=roots,
        buckets=buckets,
        policy=addresses.AddressPolicy(allow_hosts=tuple(hosts), allow_networks=tuple(networks)),
        base=f"{pathlib.Path(roots[0]).absolute().as_uri()}/" if roots else None,
    )
    return fetch.Fetcher(table, fetch.FetchLimits(deadline_s=timeout_s, max_bytes=max_bytes))


_SECONDS = {"s": 1, "m": 60, "h": 3600}


def parse_duration(text: str) -> float:
    """Seconds of a duration such as 60s, 5m or 1h.

    Raises:
      ConfigurationError: it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if match is None or not float(match[1]):
        raise errors.ConfigurationError(f"a duration is given as 60s, 5m or 1h, not '{text}'")
    return float(match[1]) * _SECONDS[match[2]]


def names(context: typer.Context) -> list[str]:
    """The names of a command's own options."""
    return [name for parameter in context.command.params for name in parameter.opts]


def make_beam_options(
    arguments: Sequence[str], own: Sequence[str], *, streams: bool = False
) -> PipelineOptions:
    """Pipeline options from what the command itself does not know.

    Args:
      own: the names of the command's own options, for a hint.
      streams: whether the job has no end.

    Raises:
      ConfigurationError: Beam does not know one of them either, or there is no such runner, or it
        does not stream.
    """
    _check_known(arguments, own)
    standard = PipelineOptions(list(arguments)).view_as(StandardOptions)
    runner = standard.runner or EMBEDDED_RUNNER
    runners.check(runner)
    more = runners.streaming_arguments(runner, arguments) if streams else []
    return PipelineOptions([*arguments, *more], runner=runner)


def _check_known(arguments: Sequence[str], own: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)
    for name in runners.FLINK_OPTIONS:
        parser.add_argument(f"--{name}", nargs="?")
    complaint = io.StringIO()
    try:
        with redirect_stderr(complaint):
            _, unknown = parser.parse_known_args(list(arguments))
    except SystemExit as error:
        raise errors.ConfigurationError(complaint.getvalue().splitlines()[-1]) from error
    if unknown:
        close = difflib.get_close_matches(unknown[0].partition("=")[0], own, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise errors.ConfigurationError(f"no such option: {unknown[0]}{hint}")
