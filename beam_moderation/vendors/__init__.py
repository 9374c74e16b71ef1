"""Vendors of image moderation, each a file that translates its words, signatures and errors."""

from collections.abc import Mapping

from beam_moderation.vendors.alibaba import Alibaba
from beam_moderation.vendors.credentials import CredentialsSource
from beam_moderation.vendors.huawei import Huawei
from beam_moderation.vendors.kept import KeptAnswers, Outcome
from beam_moderation.vendors.lane import Lane
from beam_moderation.vendors.protocol import (
    Credentials,
    Failed,
    Human,
    Item,
    Judged,
    Limits,
    Vendor,
    Verdict,
)
from beam_moderation.vendors.retries import Retries
from beam_moderation.vendors.running import RunningLane
from beam_moderation.vendors.tencent import Tencent

VENDORS: Mapping[str, type[Vendor]] = {vendor.name: vendor for vendor in (Alibaba, Tencent, Huawei)}
"""The vendors by name. A new one is a file and an entry here."""

__all__ = [
    "VENDORS",
    "Alibaba",
    "Credentials",
    "CredentialsSource",
    "Failed",
    "Huawei",
    "Human",
    "Item",
    "Judged",
    "KeptAnswers",
    "Lane",
    "Limits",
    "Outcome",
    "Retries",
    "RunningLane",
    "Tencent",
    "Vendor",
    "Verdict",
]
