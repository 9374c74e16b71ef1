"""Every operation of aliyun-python-sdk-green 3.6.6 on images, against an emulator.

The SDK is pointed at it by `region_provider.modify_point` with the bare address, as the
vendor's samples do with a host's name, and by the client's `port`; it speaks plain HTTP by default.
"""

import json
import time

from aliyunsdkcore.auth.credentials import StsTokenCredential
from aliyunsdkcore.client import AcsClient
from aliyunsdkcore.profile import region_provider
from aliyunsdkgreen.request.v20180509 import (
    ImageAsyncScanRequest,
    ImageAsyncScanResultsRequest,
    ImageScanFeedbackRequest,
    ImageSyncScanRequest,
    UploadCredentialsRequest,
)
from driving import configuration, report, with_bad_keys

CONFIGURATION = configuration()
REGION = "cn-shanghai"
region_provider.modify_point("Green", REGION, CONFIGURATION["host"])


def client(key_id: str = CONFIGURATION["key_id"], secret: str = CONFIGURATION["key_secret"]):
    return AcsClient(key_id, secret, REGION, port=CONFIGURATION["port"])


def ask(request, body, by=None):
    request.set_accept_format("JSON")
    request.set_content(json.dumps(body))
    return json.loads((by or client()).do_action_with_exception(request))


def scan(by=None, **body):
    tasks = [{"dataId": f"d{i}", "url": url} for i, url in enumerate(CONFIGURATION["urls"])]
    request = ImageSyncScanRequest.ImageSyncScanRequest()
    return ask(request, {"tasks": tasks, "scenes": ["porn", "terrorism"], **body}, by)


def scan_with_client_info():
    request = ImageSyncScanRequest.ImageSyncScanRequest()
    request.set_ClientInfo('{"userNick":"张 三&a=b"}')
    task = {"dataId": "d0", "url": CONFIGURATION["urls"][0], "interval": 2, "maxFrames": 5}
    return ask(request, {"tasks": [task], "scenes": ["porn"]})


def scan_with_json_content_type():
    request = ImageSyncScanRequest.ImageSyncScanRequest()
    request.set_content_type("application/json")
    return ask(request, {"tasks": [{"url": CONFIGURATION["urls"][0]}], "scenes": ["porn"]})


def scan_later():
    """Submits a task and asks for its result until there is one."""
    request = ImageAsyncScanRequest.ImageAsyncScanRequest()
    tasks = [{"dataId": f"d{i}", "url": url} for i, url in enumerate(CONFIGURATION["urls"])]
    submitted = ask(request, {"tasks": tasks, "scenes": ["porn", "terrorism"]})
    task_ids = [item["taskId"] for item in submitted["data"]]
    first = results(task_ids)
    last = first
    while any(item["code"] == 280 for item in last["data"]):
        time.sleep(0.05)
        last = results(task_ids)
    return {"submitted": submitted, "first": first, "last": last}


def asyncscan(by=None, **more):
    task = {"dataId": "d0", "url": CONFIGURATION["urls"][0]}
    request = ImageAsyncScanRequest.ImageAsyncScanRequest()
    return ask(request, {"tasks": [task], "scenes": ["porn"], **more}, by)


def results(task_ids, by=None):
    return ask(ImageAsyncScanResultsRequest.ImageAsyncScanResultsRequest(), task_ids, by)


def feedback(by=None):
    body = {"suggestion": "block", "scenes": ["ad", "terrorism"], "url": CONFIGURATION["urls"][0]}
    return ask(ImageScanFeedbackRequest.ImageScanFeedbackRequest(), body, by)


def uploadcredentials(by=None):
    return ask(UploadCredentialsRequest.UploadCredentialsRequest(), {}, by)


def temporary(token="temptoken"):
    credential = StsTokenCredential("tempid", "tempsecret", token)
    return AcsClient(region_id=REGION, credential=credential, port=CONFIGURATION["port"])


def string_to_sign_of_a_bad_secret():
    """The SDK's own string to sign, and the server's refusal, which holds the server's."""
    request = ImageSyncScanRequest.ImageSyncScanRequest()
    try:
        ask(request, {"tasks": []}, client(secret="wrong"))
    except Exception as error:  # noqa: BLE001
        return {"ours": request.string_to_sign, "theirs": str(error.message)}


report(
    {
        "scan": scan,
        "scan_with_client_info": scan_with_client_info,
        "scan_with_json_content_type": scan_with_json_content_type,
        "scan_later": scan_later,
        "feedback": feedback,
        "uploadcredentials": uploadcredentials,
        "temporary_key": lambda: scan(temporary()),
        "scan_by_biz_type": lambda: scan(bizType="policy_1", scenes=None),
        "asyncscan_with_callback": lambda: asyncscan(
            callback=CONFIGURATION["callback"], seed="seed_1"
        ),
        "callback_without_seed": lambda: asyncscan(callback=CONFIGURATION["callback"]),
        "wrong_secret": lambda: scan(client(secret="wrong")),
        "wrong_key": lambda: scan(client(key_id="nobody")),
        "no_scene": lambda: scan(scenes=[]),
        "unknown_task": lambda: results(["img$nothing@0"]),
        "string_to_sign_of_a_bad_secret": string_to_sign_of_a_bad_secret,
        **with_bad_keys(
            {
                "asyncscan": asyncscan,
                "results": lambda by: results(["img$nothing@0"], by),
                "feedback": feedback,
                "uploadcredentials": uploadcredentials,
            },
            {
                "wrong_secret": lambda: client(secret="wrong"),
                "wrong_key": lambda: client(key_id="nobody"),
                "wrong_token": lambda: temporary("wrong"),
            },
        ),
        "scan_with_wrong_token": lambda: scan(temporary("wrong")),
    }
)
