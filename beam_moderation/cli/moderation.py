"""The options of every command that moderates, and the moderation that they make."""

import dataclasses
from typing import Any

from beam_moderation import fetch, images, moderate, tables, vendor_moderation
from beam_moderation.cli import options, vendors

_LIMITS = fetch.FetchLimits()
_SAMPLING = images.Sampling()


@dataclasses.dataclass(frozen=True)
class Moderation:
    """Who judges, by which policy, and where images may be fetched from."""

    scanner: options.Scanners = dataclasses.field(default_factory=list)
    model: options.Models = dataclasses.field(default_factory=list)
    gpu: options.Gpu = False
    policy: options.PolicyUrl = None
    interval: options.Interval = _SAMPLING.interval
    max_frames: options.MaxFrames = _SAMPLING.max_frames
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
        self, written: tables.Tables, run_id: str, *, resumes: bool
    ) -> moderate.ModerateWithModel | vendor_moderation.ModerateWithVendor:
        """The transform that the options describe.

        Args:
          written: the tables that outcomes go to; what a vendor answers is kept in their folder.
          run_id: what rows carry.
          resumes: whether batches that are in the tables are read back instead of judged again.

        Raises:
          ConfigurationError: an option is wrong, or does not go with another.
        """
        shared: dict[str, Any] = {"fetcher": self._fetcher(), "run_id": run_id}
        shared["resume_from"] = written if resumes else None
        if self.vendor is None:
            return self._with_model(shared)
        shared["answers"] = f"{written.url.rstrip('/')}/_answers"
        return self._with_vendor(self.vendor, shared)

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
            sampling=images.Sampling(self.interval, self.max_frames),
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
            **vendors.callback_options(name, self.callback),
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
            deadline_s=self.deadline,
            inbox=vendors.make_inbox(self.callback, self.callbacks_from),
            **shared,
        )
