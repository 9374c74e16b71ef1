"""Image moderation on Apache Beam: references in, verdict tables out.

What is public is imported when it is first used: Beam takes seconds and a hundred megabytes, and
not every process that imports a part of this package needs it.
"""

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from beam_moderation import vendors
    from beam_moderation.addresses import AddressPolicy
    from beam_moderation.avro import AvroDecoder
    from beam_moderation.duckdb_views import views
    from beam_moderation.errors import ConfigurationError, ModerationError
    from beam_moderation.feedback import SendFeedback
    from beam_moderation.fetch import Fetcher, FetchLimits
    from beam_moderation.filesystems import Buckets, Filesystems, LocalFiles, Web
    from beam_moderation.images import ImageLimits, Sampling
    from beam_moderation.judges import Judge, SceneFindings
    from beam_moderation.kafka import ReadReferencesFromKafka, WriteKafka
    from beam_moderation.kafka_partitions import Subscription
    from beam_moderation.kafka_secrets import KafkaSecrets
    from beam_moderation.models import OnnxModel, Runtime, model_handler
    from beam_moderation.moderate import ModerateWithModel, Rows
    from beam_moderation.policy import Policy
    from beam_moderation.quota import Quota
    from beam_moderation.records import (
        DeadLetter,
        Finding,
        ImageReference,
        ImageResult,
        OutcomeBatch,
        ReferenceBatch,
        SceneResult,
    )
    from beam_moderation.scanners import Nudity, QrCode, Text
    from beam_moderation.sinks import WriteOutcomesToKafka, WriteParquet
    from beam_moderation.sources import ReadReferencesFromParquet
    from beam_moderation.tables import Tables
    from beam_moderation.vendor_moderation import ModerateWithVendor

__all__ = [
    "AddressPolicy",
    "AvroDecoder",
    "Buckets",
    "ConfigurationError",
    "DeadLetter",
    "FetchLimits",
    "Fetcher",
    "Filesystems",
    "Finding",
    "ImageLimits",
    "ImageReference",
    "ImageResult",
    "Judge",
    "KafkaSecrets",
    "LocalFiles",
    "ModerateWithModel",
    "ModerateWithVendor",
    "ModerationError",
    "Nudity",
    "OnnxModel",
    "OutcomeBatch",
    "Policy",
    "QrCode",
    "Quota",
    "ReadReferencesFromKafka",
    "ReadReferencesFromParquet",
    "ReferenceBatch",
    "Rows",
    "Runtime",
    "Sampling",
    "SceneFindings",
    "SceneResult",
    "SendFeedback",
    "Subscription",
    "Tables",
    "Text",
    "Web",
    "WriteKafka",
    "WriteOutcomesToKafka",
    "WriteParquet",
    "model_handler",
    "vendors",
    "views",
]

_HOMES = {
    "AddressPolicy": "addresses",
    "AvroDecoder": "avro",
    "views": "duckdb_views",
    "ConfigurationError": "errors",
    "ModerationError": "errors",
    "SendFeedback": "feedback",
    "Fetcher": "fetch",
    "FetchLimits": "fetch",
    "Buckets": "filesystems",
    "Filesystems": "filesystems",
    "LocalFiles": "filesystems",
    "Web": "filesystems",
    "ImageLimits": "images",
    "Sampling": "images",
    "Judge": "judges",
    "SceneFindings": "judges",
    "ReadReferencesFromKafka": "kafka",
    "WriteKafka": "kafka",
    "Subscription": "kafka_partitions",
    "KafkaSecrets": "kafka_secrets",
    "OnnxModel": "models",
    "Runtime": "models",
    "model_handler": "models",
    "ModerateWithModel": "moderate",
    "Rows": "moderate",
    "Policy": "policy",
    "Quota": "quota",
    "DeadLetter": "records",
    "Finding": "records",
    "ImageReference": "records",
    "ImageResult": "records",
    "OutcomeBatch": "records",
    "ReferenceBatch": "records",
    "SceneResult": "records",
    "Nudity": "scanners",
    "QrCode": "scanners",
    "Text": "scanners",
    "WriteOutcomesToKafka": "sinks",
    "WriteParquet": "sinks",
    "ReadReferencesFromParquet": "sources",
    "Tables": "tables",
    "ModerateWithVendor": "vendor_moderation",
}
"""The module that each public name lives in."""

_MODULES = ("vendors",)
"""What is public as a module."""


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _is_of_use(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("apitools not found")


logging.root.addFilter(_is_of_use)  # Beam warns of a client library that nothing here needs
