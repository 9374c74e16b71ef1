"""The requests of API version 2017-01-12, of aliyun-python-sdk-green 3.0.0, against an emulator."""

import json

from aliyunsdkcore.client import AcsClient
from aliyunsdkcore.profile import region_provider
from aliyunsdkgreen.request.v20170112 import (
    ImageAsyncScanRequest,
    ImageAsyncScanResultsRequest,
    ImageSyncScanRequest,
)
from driving import configuration, report

CONFIGURATION = configuration()
REGION = "ap-southeast-1"
region_provider.modify_point("Green", REGION, CONFIGURATION["host"])
CLIENT = AcsClient(
    CONFIGURATION["key_id"], CONFIGURATION["key_secret"], REGION, port=CONFIGURATION["port"]
)


def ask(request, body):
    request.set_accept_format("JSON")
    request.set_content(bytearray(json.dumps(body), "utf-8"))
    return json.loads(CLIENT.do_action_with_exception(request))


BODY = {
    "tasks": [{"dataId": "d0", "url": CONFIGURATION["urls"][0], "time": 1}],
    "scenes": ["porn"],
}
report(
    {
        "scan": lambda: ask(ImageSyncScanRequest.ImageSyncScanRequest(), BODY),
        "asyncscan": lambda: ask(ImageAsyncScanRequest.ImageAsyncScanRequest(), BODY),
        "results": lambda: ask(
            ImageAsyncScanResultsRequest.ImageAsyncScanResultsRequest(), ["img$nothing@0"]
        ),
    }
)
