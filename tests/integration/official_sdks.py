"""Runs the drivers of the vendors' own SDKs, each in an environment of its SDK alone.

The environments are below `.cache/sdks`, made at their first use from the requirements beside their
drivers in `sdks/`. A driver calls every operation once and prints what came of it.
"""

import base64
import functools
import io
import json
import os
import pathlib
import subprocess
import tempfile
import urllib.parse
import venv
from typing import Any, NamedTuple

from PIL import Image

from beam_moderation import emulator

SDKS = pathlib.Path(__file__).parent / "sdks"
ENVIRONMENTS = pathlib.Path(__file__).parents[2] / ".cache" / "sdks"
URLS = (
    "https://img.example.com/porn-block.jpg",
    "https://img.example.com/terrorism-review.jpg?a=1&b=2",
    "https://img.example.com/image-missing.jpg",
)
INSTALL_TIMEOUT_S = 280
DRIVE_TIMEOUT_S = 120


class Sdk(NamedTuple):
    """An SDK's vendor and driver, and what the driver is told beside the address and the keys."""

    vendor: str
    driver: str
    version: str = ""


KNOWN = {
    "aliyun": Sdk("alibaba", "drive_aliyun.py"),
    "aliyun_2017": Sdk("alibaba", "drive_aliyun_2017.py"),
    "aliyun_upload": Sdk("alibaba", "drive_aliyun_upload.py"),
    "cos": Sdk("tencent", "drive_cos.py"),
    "huawei_v1": Sdk("huawei", "drive_huawei.py", "v1"),
    "huawei_v2": Sdk("huawei", "drive_huawei.py", "v2"),
    "huawei_v3": Sdk("huawei", "drive_huawei_v3.py"),
}


def python_of(sdk: str) -> pathlib.Path:
    """The interpreter of an SDK's environment, which is made where it is missing or out of date."""
    requirements = SDKS / f"{sdk}_requirements.txt"
    folder = ENVIRONMENTS / sdk
    installed, python = folder / "installed.txt", folder / "bin" / "python"
    if installed.exists() and installed.read_text() == requirements.read_text():
        return python
    venv.create(folder, clear=True, with_pip=True)
    command = [python, "-m", "pip", "install", "--quiet", "--requirement", requirements]
    subprocess.run(command, check=True, timeout=INSTALL_TIMEOUT_S)
    installed.write_text(requirements.read_text())
    return python


@functools.cache
def image() -> bytes:
    """A small JPEG file."""
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (200, 30, 30)).save(buffer, "JPEG")
    return buffer.getvalue()


def drive(sdk: str, settings: emulator.Settings) -> dict[str, Any]:
    """The outcome of every case of an SDK's driver, against an emulator of its own.

    The home folder is a temporary one: huaweicloudsdkcore writes an application id into it.
    """
    python = python_of(sdk)
    vendor, driver, version = KNOWN[sdk]
    with (
        emulator.serve(vendor, settings) as running,
        tempfile.TemporaryDirectory() as home,
    ):
        address = urllib.parse.urlsplit(running.url)
        configuration = {
            "url": running.url,
            "host": address.hostname,
            "port": address.port,
            "key_id": "testid",
            "key_secret": "testsecret",
            "version": version,
            "callback": f"{running.url}/nowhere",
            "urls": URLS,
            "image": base64.b64encode(image()).decode(),
        }
        environment = {"PATH": os.defpath, "HOME": home, "PYTHONWARNINGS": "ignore"}
        done = subprocess.run(
            [python, SDKS / driver, json.dumps(configuration)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=DRIVE_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        outcomes: dict[str, Any] = json.loads(done.stdout)
        return outcomes


@functools.cache
def outcomes_of(sdk: str) -> dict[str, Any]:
    return drive(sdk, emulator.Settings())
