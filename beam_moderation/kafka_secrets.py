"""Settings of the Kafka client that are looked up on each worker, and nowhere else."""

import dataclasses
import os
import re
from collections.abc import Mapping

import pydantic

from beam_moderation import configuration

PREFIX = "BEAM_MODERATION_KAFKA_"
"""Of variables: `BEAM_MODERATION_KAFKA_SASL_PASSWORD` is librdkafka's `sasl.password`."""

_SECRET = re.compile(r"password|secret|passphrase|\.pem$|oauthbearer\.(config|assertion)")


class _File(pydantic.RootModel[dict[str, str | int | float | bool]]):
    """A settings file: librdkafka's names and their values."""


def is_secret(name: str) -> bool:
    """Whether a setting of librdkafka may hold a secret."""
    return bool(_SECRET.search(name))


def variable(name: str) -> str:
    """The environment variable of a setting of librdkafka."""
    return PREFIX + name.upper().replace(".", "_")


@dataclasses.dataclass(frozen=True)
class KafkaSecrets:
    """Where settings of the Kafka client are that must not travel. Picklable, for it holds none.

    Args:
      file: the fsspec URL, readable by each worker, of a YAML file such as `sasl.password: …`; None
        where there is none. Environment variables that begin with `BEAM_MODERATION_KAFKA_` are
        looked at in any case, and a file has the last word.
    """

    file: str | None = None

    def __call__(self) -> Mapping[str, str]:
        """The settings as they are now.

        Raises:
          ConfigurationError: the file cannot be read.
        """
        return {**_of_environment(), **(_of_file(self.file) if self.file else {})}


def _of_environment() -> dict[str, str]:
    return {
        name.removeprefix(PREFIX).lower().replace("_", "."): value
        for name, value in os.environ.items()
        if name.startswith(PREFIX)
    }


def _of_file(file: str) -> dict[str, str]:
    found = configuration.read_yaml(file, _File).root
    return {name: _text(value) for name, value in found.items()}


def _text(value: str | float) -> str:
    """A value as librdkafka spells it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
