"""Looks a vendor's credentials up on the worker, where they are needed, and nowhere else."""

import dataclasses
import os
from collections.abc import Mapping
from typing import NamedTuple

import pydantic

from beam_moderation import configuration, errors
from beam_moderation.vendors import protocol


class _Variables(NamedTuple):
    """The environment variables of one way to log in."""

    key_id: str
    key_secret: str
    security_token: str | None = None
    domain: str | None = None


VARIABLES: Mapping[str, tuple[_Variables, ...]] = {
    "alibaba": (
        _Variables(
            "ALIBABA_CLOUD_ACCESS_KEY_ID",
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
            "ALIBABA_CLOUD_SECURITY_TOKEN",
        ),
    ),
    "tencent": (
        _Variables(
            "TENCENTCLOUD_SECRET_ID", "TENCENTCLOUD_SECRET_KEY", "TENCENTCLOUD_SECURITY_TOKEN"
        ),
        _Variables("COS_SECRET_ID", "COS_SECRET_KEY", "COS_TOKEN"),
    ),
    "huawei": (
        _Variables("HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK", "HUAWEICLOUD_SDK_SECURITY_TOKEN"),
        _Variables("HW_USER_NAME", "HW_USER_PASSWORD", domain="HW_DOMAIN_NAME"),
    ),
}
"""The variables of the vendors' own tools, in the order in which they are looked at."""


class _Keys(pydantic.BaseModel):
    """One vendor's entry in a credentials file."""

    model_config = pydantic.ConfigDict(extra="forbid")

    key_id: pydantic.SecretStr
    key_secret: pydantic.SecretStr
    security_token: pydantic.SecretStr | None = None
    domain: pydantic.SecretStr | None = None


class _File(pydantic.RootModel[dict[str, _Keys]]):
    """A credentials file: the vendors' entries by their names."""


@dataclasses.dataclass(frozen=True)
class CredentialsSource:
    """Where one vendor's credentials are. Picklable, for it holds none; call it to have them.

    Args:
      vendor: alibaba, tencent or huawei.
      file: the fsspec URL of a YAML or JSON file with an entry a vendor of key_id, key_secret and,
        where there are such, security_token and domain; None: the environment variables that
        `VARIABLES` lists.
    """

    vendor: str
    file: str | None = None

    def __call__(self) -> protocol.Credentials:
        """The credentials as they are now.

        Raises:
          ConfigurationError: there are none, or half of them.
        """
        found = self._of_environment() if self.file is None else self._of_file(self.file)
        if not all(value.isascii() and value.isprintable() for value in found.values()):
            raise errors.ConfigurationError(f"the credentials of {self.vendor} are no plain text")
        return protocol.Credentials(**found)

    def _of_environment(self) -> dict[str, str]:
        for variables in VARIABLES[self.vendor]:
            found = {
                field: os.environ[name].strip()
                for field, name in variables._asdict().items()
                if name and os.environ.get(name)
            }
            if variables.domain is None and {"key_id", "key_secret"} <= found.keys():
                return found
            if {"key_id", "key_secret", "domain"} <= found.keys():
                return found
        names = ", or ".join(f"{v.key_id} and {v.key_secret}" for v in VARIABLES[self.vendor])
        raise errors.ConfigurationError(
            f"no credentials of {self.vendor}: set {names}, or name a credentials file"
        )

    def _of_file(self, file: str) -> dict[str, str]:
        keys = configuration.read_yaml(file, _File).root.get(self.vendor)
        if keys is None:
            raise errors.ConfigurationError(f"{file} has no entry '{self.vendor}'")
        return {
            field: value.get_secret_value().strip() for field, value in keys if value is not None
        }
