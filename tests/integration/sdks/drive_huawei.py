"""Every operation on images of huaweicloudsdkmoderation v1 (3.0.45) or v2 (3.1.121).

The SDK is pointed at the emulator by `with_endpoint`, which takes a scheme and a port.
"""

import importlib
import time
from typing import ClassVar

from driving import configuration, report, with_bad_keys
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_response import SdkResponse

CONFIGURATION = configuration()
PROJECT = "0123456789abcdef0123456789abcdef"
sdk = importlib.import_module(f"huaweicloudsdkmoderation.{CONFIGURATION['version']}")
JSON = {"Content-Type": "application/json;charset=UTF-8"}
CATEGORIES = ["politics", "terrorism", "porn"]


class FeedbackResponse(SdkResponse):
    """The answer of v1.1, which no version of the SDK knows."""

    openapi_types: ClassVar = {"result": "str"}
    attribute_map: ClassVar = {"result": "result"}

    def __init__(self, result=None):
        super().__init__()
        self.result = result


def client(ak=CONFIGURATION["key_id"], sk=CONFIGURATION["key_secret"], token=None):
    credentials = BasicCredentials(ak, sk, PROJECT)
    if token:
        credentials = credentials.with_security_token(token)
    builder = sdk.ModerationClient.new_builder().with_credentials(credentials)
    return builder.with_endpoint(CONFIGURATION["url"]).build()


def batch(by=None, urls=None, **options):
    options = {"categories": CATEGORIES, **options}
    body = sdk.ImageBatchModerationReq(urls=urls or CONFIGURATION["urls"], **options)
    request = sdk.RunImageBatchModerationRequest(body=body)
    return (by or client()).run_image_batch_moderation(request).to_dict()


def image(by=None, **fields):
    body = sdk.ImageDetectionReq(categories=[*CATEGORIES, "ad"], threshold=0.5, **fields)
    return (by or client()).run_image_moderation(sdk.RunImageModerationRequest(body=body)).to_dict()


def judge_later():
    """Submits a job and asks for its result until there is one."""
    submitted = submit()
    job_id = submitted["result"]["job_id"]
    first = result(job_id)
    last = first
    while last["result"]["status"] != "finish":
        time.sleep(0.05)
        last = result(job_id)
    return {"submitted": submitted, "first": first, "last": last, "jobs": jobs("finish")}


def submit(by=None):
    body = sdk.TaskSumbitReq(urls=CONFIGURATION["urls"], categories=["porn"])
    return (by or client()).run_task_sumbit(sdk.RunTaskSumbitRequest(body=body)).to_dict()


def result(job_id, by=None):
    return (by or client()).run_check_result(sdk.RunCheckResultRequest(job_id=job_id)).to_dict()


def feedback(by=None):
    """Signed and sent by the SDK's core, for no version of the SDK has a method for it."""
    body = {"suggestion": "block", "url": CONFIGURATION["urls"][0], "categories": ["porn"]}
    answer = (by or client()).do_http_request(
        "POST",
        "/v1.1/moderation/image/feedback",
        header_params=JSON,
        body=body,
        response_type=FeedbackResponse,
    )
    return answer.result


def jobs(status, by=None):
    return (
        (by or client()).run_check_task_jobs(sdk.RunCheckTaskJobsRequest(status=status)).to_dict()
    )


report(
    {
        "batch": batch,
        "batch_by_default": lambda: batch(categories=None),
        "batch_with_threshold": lambda: batch(threshold=0.99),
        "batch_of_a_unicode_url": lambda: batch(urls=["https://img.example.com/图片 1.jpg"]),
        "image_by_content": lambda: image(image=CONFIGURATION["image"]),
        "image_by_url": lambda: image(url=CONFIGURATION["urls"][0]),
        "judge_later": judge_later,
        "temporary_key": lambda: batch(client("tempid", "tempsecret", "temptoken")),
        "wrong_temporary_token": lambda: batch(client("tempid", "tempsecret", "wrong")),
        "wrong_secret": lambda: batch(client(sk="wrong")),
        "wrong_key": lambda: batch(client(ak="nobody")),
        "too_many_urls": lambda: batch(urls=["https://img.example.com/1.jpg"] * 11),
        "unknown_job": lambda: result("job-nothing"),
        "feedback": feedback,
        **with_bad_keys(
            {
                "image": lambda by: image(by, url=CONFIGURATION["urls"][0]),
                "submit": submit,
                "result": lambda by: result("job-nothing", by),
                "jobs": lambda by: jobs("finish", by),
                "feedback": feedback,
            },
            {
                "wrong_secret": lambda: client(sk="wrong"),
                "wrong_key": lambda: client(ak="nobody"),
                "wrong_token": lambda: client("tempid", "tempsecret", "wrong"),
            },
        ),
    }
)
