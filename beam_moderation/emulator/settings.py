"""What one emulated vendor allows, and how it behaves."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from beam_moderation.emulator.faults import FaultSpec

VENDORS = ("alibaba", "tencent", "huawei")

_DOCUMENTED_QUOTA: Mapping[str, Mapping[str, Any]] = {
    "alibaba": {"calls_per_second": 50, "images_per_second": 50, "feedback_per_second": 20},
    "tencent": {"max_in_flight": 100},
    "huawei": {"max_in_flight": 10},
}
"""Alibaba: help pages 70292, 53414 and 70432; Tencent: 460/63594; Huawei: Image
Moderation (Batch)."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One emulated account; a quota of None is no limit.

    A rate holds over every sliding second. It counts what the vendor accepted, and calls that ask
    for the results of tasks as well as calls that scan; feedback has a rate of its own.
    """

    keys: Mapping[str, str] = dataclasses.field(
        default_factory=lambda: {"testid": "testsecret"}, repr=False
    )
    """Key id to secret; at Huawei also the user name and password of the token call."""
    temporary_keys: Mapping[str, tuple[str, str]] = dataclasses.field(
        default_factory=lambda: {"tempid": ("tempsecret", "temptoken")}, repr=False
    )
    """Key id to secret and security token."""
    calls_per_second: int | None = None
    images_per_second: int | None = None
    feedback_per_second: int | None = None
    max_in_flight: int | None = None
    max_items: int | None = None
    """Images a request; None is the vendor's newest number (Alibaba's page of 2019 says 50)."""
    max_jobs: int = 20
    """Huawei's unfinished asynchronous jobs (moderation_03_0038)."""
    latency_s: float = 0.0
    task_s: float = 0.2
    """An asynchronous task takes between half and one and a half times as long."""
    result_life_s: float | None = None
    """How long a finished task is kept; None is what the vendor documents."""
    clock_skew_s: float = 900.0
    token_life_s: float = 86_400.0
    """Of a token of Huawei's IAM."""
    upload_life_s: float = 3_600.0
    """Of the credentials that Alibaba lends for an upload."""
    versions: frozenset[str] = frozenset({"2018-05-09"})
    """Alibaba's API versions that are still answered; older pages use 2017-01-12."""
    project_id: str = "0123456789abcdef0123456789abcdef"
    """Of Huawei."""
    uid: str = "1234567890123456"
    """Alibaba's account id, part of a callback's checksum."""
    bucket: str = "photos"
    """The account's own at Alibaba, from which images may be judged: any key is one."""
    biz_types: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    """The scenes of a policy of the account; another `bizType` changes nothing."""
    policy_scenes: Sequence[str] = ("porn", "ad")
    """The scenes of Tencent's default policy."""
    callback_repeats: int = 16
    callback_interval_s: float = 1.0
    callback_version: Literal["Detail", "Simple"] = "Detail"
    """Of Tencent."""
    faults: FaultSpec = dataclasses.field(default_factory=FaultSpec)
    clock: Callable[[], float] = time.time
    """Seconds since 1970, for dates, tasks and lives; a test may put its own in."""

    @classmethod
    def documented(cls, vendor: str) -> "Settings":
        """The settings of a new account, with the quota that the vendor documents."""
        return cls(**_DOCUMENTED_QUOTA[vendor])
