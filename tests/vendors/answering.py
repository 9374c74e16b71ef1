"""Answers as each vendor gives them, in each of its ways, to what it was asked."""

import json
import typing as t
from xml.sax.saxutils import escape

from beam_moderation import errors
from beam_moderation.vendors import protocol
from beam_moderation.vendors.alibaba import Alibaba
from beam_moderation.vendors.huawei import Huawei
from beam_moderation.vendors.tencent import Tencent

SCENES = ("porn", "terrorism")


class AlibabaScan:
    """Answers a synchronous scan as the vendor does."""

    vendor = Alibaba(scenes=SCENES)
    throttled = (400, b'{"Code": "Throttling.User"}')
    wrong_key = (404, b'{"Code": "InvalidAccessKeyId.NotFound"}')
    refused: t.ClassVar = {"code": 404}

    def entry(self, item, suggestions):
        results = [
            {
                "scene": scene,
                "label": "normal" if suggestion == "pass" else "x",
                "suggestion": suggestion,
                "rate": 75.0,
            }
            for scene, suggestion in suggestions.items()
        ]
        return {"taskId": "t", **self.named(item), "code": 200, "results": results}

    def named(self, item):
        return {"dataId": item.data_id}

    def body(self, entries):
        return json.dumps({"code": 200, "requestId": "R", "data": entries}).encode()

    def read(self, items, response):
        return self.vendor.read_scan(items, response)


class AlibabaResults(AlibabaScan):
    """Answers a query of tasks, where one that is left out is not there yet."""

    vendor = Alibaba(scenes=SCENES, asynchronous=True)

    def named(self, item):
        return {**super().named(item), "taskId": item.data_id}

    def read(self, items, response):
        tasks = [protocol.Task(item.data_id, [item]) for item in items]
        found = dict(self.vendor.read_query(tasks, response))
        none_yet = protocol.Failed(errors.VendorAnswerMalformed("no news"))
        return [found.get(item, none_yet) for item in items]


class TencentScan:
    """Answers a batch as the vendor does."""

    vendor = Tencent("bucket-1250000000", "ap-guangzhou", scenes=SCENES)
    throttled = (503, b"<Error><Code>SlowDown</Code></Error>")
    wrong_key = (403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>")
    refused: t.ClassVar = {"Code": "ResourceNotFound"}
    flags: t.ClassVar = {"pass": "0", "block": "1", "review": "2"}

    def entry(self, item, suggestions):
        infos = {
            f"{scene.capitalize()}Info": {
                "Code": "0",
                "HitFlag": self.flags[suggestion],
                "Score": "75",
                "OcrResults": {"Text": "t", "Keywords": "k", "Location": {"X": "1.5"}},
            }
            for scene, suggestion in suggestions.items()
        }
        result = "1" if "block" in suggestions.values() else "0"
        return {**self.named(item), "JobId": "j", "State": "Success", "Result": result, **infos}

    def named(self, item):
        return {"DataId": item.data_id, "Url": item.url}

    def body(self, entries):
        jobs = "".join(f"<JobsDetail>{self.xml(entry)}</JobsDetail>" for entry in entries)
        return f"<Response>{jobs}<RequestId>R</RequestId></Response>".encode()

    def xml(self, content):
        if isinstance(content, dict):
            return "".join(f"<{name}>{self.xml(v)}</{name}>" for name, v in content.items())
        return escape(str(content))

    def read(self, items, response):
        return self.vendor.read_scan(items, response)


class HuaweiScan:
    """Answers a batch of v1.0 as the vendor does."""

    vendor = Huawei("cn-north-4", scenes=SCENES)
    throttled = (429, b'{"error_code": "APIG.0308"}')
    wrong_key = (401, b'{"error_code": "APIG.0301"}')
    refused: t.ClassVar = {"error_code": "AIS.0022"}

    def entry(self, item, suggestions):
        words = ("block", "review", "pass")
        worst = next(word for word in words if word in suggestions.values())
        detail = {scene: [{"label": "x", "confidence": 0.75}] for scene in suggestions}
        told = {"suggestion": worst, "detail": detail, "category_suggestions": suggestions}
        return {**self.named(item), **told}

    def named(self, item):
        return {"url": item.url}

    def body(self, entries):
        return json.dumps({"result": entries}).encode()

    def read(self, items, response):
        return self.vendor.read_scan(items, response)


class HuaweiJob(HuaweiScan):
    """Answers the query of a job."""

    vendor = Huawei("cn-north-4", scenes=SCENES, asynchronous=True)

    def body(self, entries):
        return json.dumps(
            {"result": {"job_id": "j", "status": "finish", "items": entries}}
        ).encode()

    def read(self, items, response):
        results = self.vendor.read_query([protocol.Task("j", items)], response)
        assert [item for item, _ in results] == items
        return [answer for _, answer in results]


class HuaweiV3(HuaweiScan):
    """Answers a batch of v3."""

    vendor = Huawei(
        "cn-north-4", scenes=SCENES, api_version="v3", event_type="album", project_id="p"
    )

    def entry(self, item, suggestions):
        words = ("block", "review", "pass")
        worst = next(word for word in words if word in suggestions.values())
        details = [
            {"category": scene, "suggestion": suggestion, "label": "x", "confidence": 0.75}
            for scene, suggestion in suggestions.items()
        ]
        return {**self.named(item), "suggestion": worst, "details": details}

    def named(self, item):
        return {"data_id": item.data_id}

    def body(self, entries):
        return json.dumps({"request_id": "r", "results": entries}).encode()


CASES = [AlibabaScan(), AlibabaResults(), TencentScan(), HuaweiScan(), HuaweiJob(), HuaweiV3()]
ITEMS = [protocol.Item(f"id{n}", url=f"https://img.example.com/{n}.jpg") for n in range(3)]


def response(body, status=200, **headers):
    return protocol.Response(status, headers, body)
