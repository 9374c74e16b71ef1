"""Image moderation on Apache Beam: references in, verdict tables out."""

# ruff: noqa: E402
import logging

_disabled = logging.root.manager.disable
logging.disable(logging.WARNING)  # Beam warns of a client library that nothing here needs
import apache_beam  # noqa: F401

logging.disable(_disabled)

from beam_moderation.addresses import AddressPolicy
from beam_moderation.errors import ConfigurationError, ModerationError
from beam_moderation.fetch import Fetcher, FetchLimits
from beam_moderation.filesystems import Filesystems
from beam_moderation.images import ImageLimits, Sampling
from beam_moderation.judges import Judge, SceneFindings
from beam_moderation.models import OnnxModel, model_handler
from beam_moderation.moderate import ModerateWithModel, Rows
from beam_moderation.policy import Policy
from beam_moderation.records import (
    DeadLetter,
    Finding,
    ImageReference,
    ImageResult,
    OutcomeBatch,
    ReferenceBatch,
    SceneResult,
)
from beam_moderation.sinks import WriteParquet
from beam_moderation.sources import ReadReferencesFromParquet
from beam_moderation.tables import Tables

__all__ = [
    "AddressPolicy",
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
    "ModerateWithModel",
    "ModerationError",
    "OnnxModel",
    "OutcomeBatch",
    "Policy",
    "ReadReferencesFromParquet",
    "ReferenceBatch",
    "Rows",
    "Sampling",
    "SceneFindings",
    "SceneResult",
    "Tables",
    "WriteParquet",
    "model_handler",
]
