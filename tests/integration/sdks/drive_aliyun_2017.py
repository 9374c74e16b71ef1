"""The requests of API version 2017-01-12, of aliyun-python-sdk-green 3.0.0, against an emulator."""

import json

from aliyunsdkcore.client import AcsClient
from aliyunsdkcore.profile import region_provider
from aliyunsdkgreen.request.v20170112 import (
    ImageAsyncScanRequest,
    ImageAsyncScanResultsRequest,
    ImageSyncScanRequest,
)
from driving import configuration, report, with_bad_keys

CONFIGURATION = configuration()
REGION = "ap-southeast-1"
region_provider.modify_point("Green", REGION, CONFIGURATION["host"])


def client(key_id=CONFIGURATION["key_id"], secret=CONFIGURATION["key_secret"]):
    return AcsClient(key_id, secret, REGION, port=CONFIGURATION["port"])


def ask(request, body, by=None):
    request.set_accept_format("JSON")
    request.set_content(bytearray(json.dumps(body), "utf-8"))
    return json.loads((by or client()).do_action_with_exception(request))


BODY = {
    "tasks": [{"dataId": "d0", "url": CONFIGURATION["urls"][0], "time": 1}],
    "scenes": ["porn"],
}


def scan(by=None):
    return ask(ImageSyncScanRequest.ImageSyncScanRequest(), BODY, by)


def asyncscan(by=None):
    return ask(ImageAsyncScanRequest.ImageAsyncScanRequest(), BODY, by)


def results(by=None):
    request = ImageAsyncScanResultsRequest.ImageAsyncScanResultsRequest()
    return ask(request, ["img$nothing@0"], by)


OPERATIONS = {"scan": scan, "asyncscan": asyncscan, "results": results}
report(
    {
        **OPERATIONS,
        **with_bad_keys(
            OPERATIONS,
            {
                "wrong_secret": lambda: client(secret="wrong"),
                "wrong_key": lambda: client(key_id="nobody"),
            },
        ),
    }
)
