"""The options of every command that moderates, and the moderation that they make."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from beam_moderation import (
    errors,
    fetch,
    images,
    kafka_secrets,
    moderate,
    tables,
    vendor_moderation,
)
from beam_moderation.cli import options, vendors

_LIMITS = fetch.FetchLimits()
_SECRETS = kafka_secrets.KafkaSecrets()

_FOR_JUDGES = ("scanner", "model", "gpu", "workers", "isolate")
_FOR_VENDORS = (
    *("region", "scene", "mode", "biz_type", "endpoint", "vendor_option", "credentials"),
    *("qps", "images_per_second", "max_in_flight", "lanes", "fit", "send_bytes", "deadline"),
    *("callback", "callbacks_from"),
)


@dataclasses.dataclass(frozen=True)
class Moderation:
    """Who judges, by which policy, and where images may be fetched from."""

    scanner: options.Scanners = dataclasses.field(default_factory=list)
    model: options.Models = dataclasses.field(default_factory=list)
    gpu: options.Gpu = False
    policy: options.PolicyUrl = None
    interval: options.Interval = None
    max_frames: options.MaxFrames = None
    workers: options.Workers = None
    isolate: options.Isolate = False
    vendor: vendors.Name = None
    region: vendors.Region = None
    scene: vendors.Scenes = dataclasses.field(default_factory=list)
    mode: vendors.Mode = "sync"
    biz_type: vendors.BizType = None
    endpoint: vendors.Endpoint = None
    vendor_option: vendors.Options = dataclasses.field(default_factory=list)
    credentials: vendors.Credentials = None
    qps: vendors.CallsPerSecond = None
    images_per_second: vendors.ImagesPerSecond = None
    max_in_flight: vendors.MaxInFlight = None
    lanes: vendors.Lanes = 1
    fit: vendors.Fit = False
    send_bytes: vendors.SendBytes = False
    deadline: vendors.Deadline = vendors.DEADLINE_S
    callback: vendors.Callback = None
    callbacks_from: vendors.CallbacksFrom = None
    local_root: options.LocalRoots = dataclasses.field(default_factory=list)
    bucket: options.Buckets = dataclasses.field(default_factory=list)
    allow_host: options.AllowHosts = dataclasses.field(default_factory=list)
    allow_network: options.AllowNetworks = dataclasses.field(default_factory=list)
    timeout: options.Timeout = _LIMITS.deadline_s
    max_bytes: options.MaxBytes = _LIMITS.max_bytes

    def transform(
        self,
        written: tables.Tables,
        run_id: str,
        *,
        resumes: bool,
        retry_dead_letters: Sequence[str] = (),
        secrets: kafka_secrets.KafkaSecrets = _SECRETS,
    ) -> moderate.ModerateWithModel | vendor_moderation.ModerateWithVendor:
        """The transform that the options describe.

        Args:
          written: the tables that outcomes go to; what a vendor answers is kept in their folder.
          run_id: what rows carry.
          resumes: whether batches that are in the tables are read back instead of judged again.
          retry_dead_letters: codes of dead letters whose references are judged again all the same.
          secrets: settings of the client of Kafka, where that is where callbacks are.

        Raises:
          ConfigurationError: an option is wrong, or does not go with another.
        """
        self._check_together()
        shared: dict[str, Any] = {"fetcher": self._fetcher(), "run_id": run_id}
        shared["resume_from"] = written if resumes else None
        shared["retry_dead_letters"] = retry_dead_letters
        if self.vendor is None:
            return self._with_model(shared)
        shared["answers"] = f"{written.url.rstrip('/')}/_answers"
        shared["inbox"] = vendors.make_inbox(
            self.callback, self.callbacks_from, secrets, self.deadline
        )
        return self._with_vendor(self.vendor, shared)

    def _check_together(self) -> None:
        """Refuses what would be passed over: options of the other kind of judge."""
        for option in _FOR_VENDORS if self.vendor is None else _FOR_JUDGES:
            if getattr(self, option) != getattr(_DEFAULTS, option):
                name = f"--{option.replace('_', '-')}"
                raise errors.ConfigurationError(
                    f"{name} needs --vendor"
                    if self.vendor is None
                    else f"{name} is for judges that run here, and --vendor names one that does not"
                )

    def _sampling(self) -> dict[str, Any]:
        """Which frames are judged, as far as that was said."""
        told = {"interval": self.interval, "max_frames": self.max_frames}
        return {name: value for name, value in told.items() if value is not None}

    def _fetcher(self) -> fetch.Fetcher:
        return options.make_fetcher(
            self.local_root,
            self.bucket,
            self.allow_host,
            self.allow_network,
            self.timeout,
            self.max_bytes,
        )

    def _with_model(self, shared: dict[str, Any]) -> moderate.ModerateWithModel:
        judges, rules = options.make_judges(self.scanner, self.model, self.gpu, self.policy)
        return moderate.ModerateWithModel(
            judges,
            policy=rules,
            sampling=images.Sampling(**self._sampling()),
            threads=self.workers,
            isolate=self.isolate,
            **shared,
        )

    def _with_vendor(
        self, name: str, shared: dict[str, Any]
    ) -> vendor_moderation.ModerateWithVendor:
        vendor = vendors.make_vendor(
            name,
            self.vendor_option,
            region=self.region,
            scenes=tuple(self.scene),
            asynchronous=self.mode == "async",
            biz_type=self.biz_type,
            endpoint=self.endpoint,
            **self._sampling(),
            **vendors.callback_options(name, self.callback, self.mode),
        )
        quota = vendors.make_quota(
            name, self.qps, self.images_per_second, self.max_in_flight, self.lanes
        )
        return vendors.make_moderation(
            vendor,
            quota,
            self.credentials,
            policy=options.make_policy(self.policy),
            fit=self.fit,
            send_bytes=self.send_bytes,
            deadline_s=self.deadline,
            **shared,
        )


_DEFAULTS = Moderation()
