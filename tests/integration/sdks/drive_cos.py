"""Batches, queries and feedback of cos-python-sdk-v5 1.9.44, against an emulator.

The SDK is pointed at it by `IP` and `Port` with `Scheme="http"`. It then sends the host's name of
`Endpoint` in the header `Host`, so `Endpoint` names CI instead of COS.
"""

import time

from driving import configuration, report, with_bad_keys
from qcloud_cos import CosConfig, CosS3Client

CONFIGURATION = configuration()
BUCKET = "examplebucket-1250000000"
CONF = {"BizType": "biz1"}


class AsyncOne(int):
    """1 on the wire, 0 in comparison: the SDK leaves `Async` out unless it equals 0."""

    def __eq__(self, other):
        return other == 0

    __hash__ = int.__hash__


def client(secret_id=CONFIGURATION["key_id"], secret=CONFIGURATION["key_secret"], **options):
    config = CosConfig(
        Region="ap-guangzhou",
        Endpoint="ci.ap-guangzhou.myqcloud.com",
        Scheme="http",
        IP=CONFIGURATION["host"],
        Port=CONFIGURATION["port"],
        SecretId=secret_id,
        SecretKey=secret,
        **options,
    )
    return CosS3Client(config, retry=0)


def batch(by=None, inputs=None, **options):
    by = by or client()
    inputs = inputs or [
        {"DataId": f"d{i}", "Url": url} for i, url in enumerate(CONFIGURATION["urls"])
    ]
    return by.ci_auditing_image_batch(Bucket=BUCKET, Input=inputs, **options)


def batch_of_every_kind():
    user = {"TokenId": "tok", "Nickname": "张三"}
    inputs = [
        {"DataId": "object", "Object": "ad-block/a&b.png", "LargeImageDetect": 1, "UserInfo": user},
        {"DataId": "content", "Content": CONFIGURATION["image"], "Interval": 3, "MaxFrames": 5},
        {"DataId": "illegal", "Url": CONFIGURATION["urls"][0], "MaxFrames": 0},
    ]
    freeze = {"PornScore": 90, "AdsScore": 0}
    return batch(inputs=inputs, BizType="biz1", Freeze=freeze)


def audit_later():
    """Submits jobs and asks for each until it is done."""
    submitted = batch(Async=AsyncOne(1))
    job_ids = [job["JobId"] for job in submitted["JobsDetail"]]
    return {
        "submitted": submitted,
        "first": query(job_ids[0]),
        "last": [query_until_done(job_id) for job_id in job_ids],
    }


def query(job_id, by=None):
    return (by or client()).ci_auditing_image_query(Bucket=BUCKET, JobID=job_id)


def query_until_done(job_id):
    while (answer := query(job_id))["JobsDetail"]["State"] == "Auditing":
        time.sleep(0.05)
    return answer


def feedback(by=None):
    return (by or client()).ci_auditing_report_badcase(
        Bucket=BUCKET,
        ContentType=2,
        Label="Porn",
        SuggestedLabel="Normal",
        Url=CONFIGURATION["urls"][0],
        JobId="j-1",
        ModerationTime="2024-05-09T08:00:00+08:00",
    )


def temporary_key():
    return batch(client("tempid", "tempsecret", Token="temptoken"))


report(
    {
        "batch": batch,
        "batch_of_every_kind": batch_of_every_kind,
        "batch_with_detect_type": lambda: batch(DetectType=1 | 8),
        "batch_without_signed_host": lambda: batch(client(SignHost=False)),
        "batch_of_a_hundred": lambda: batch(
            inputs=[
                {"DataId": f"d{i}", "Url": f"http://img.example.com/{i}.jpg"} for i in range(100)
            ]
        ),
        "async_is_dropped_by_the_sdk": lambda: batch(Async=1),
        "audit_later": audit_later,
        "feedback": feedback,
        "temporary_key": temporary_key,
        "wrong_temporary_token": lambda: batch(client("tempid", "tempsecret", Token="wrong")),
        "wrong_secret": lambda: batch(client(secret="wrong")),
        "wrong_key": lambda: batch(client("nobody")),
        "too_many_inputs": lambda: batch(
            inputs=[{"Url": f"http://img.example.com/{i}.jpg"} for i in range(101)]
        ),
        "unknown_job": lambda: query("sinothing"),
        **with_bad_keys(
            {"query": lambda by: query("sinothing", by), "feedback": feedback},
            {
                "wrong_secret": lambda: client(secret="wrong"),
                "wrong_key": lambda: client("nobody"),
                "wrong_token": lambda: client("tempid", "tempsecret", Token="wrong"),
            },
        ),
    }
)
