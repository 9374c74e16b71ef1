"""The uploader of aliyun-python-sdk-green 3.4.1 with oss2 2.19.1, against an emulator.

The credentials call hands out the emulator itself as `ossEndpoint`; for an address instead of a
host's name oss2 puts the bucket into the path.
"""

import base64
import json
import tempfile

from aliyunsdkcore.client import AcsClient
from aliyunsdkcore.profile import region_provider
from aliyunsdkgreen.request.extension import ClientUploader, HttpContentHelper
from aliyunsdkgreen.request.v20180509 import ImageSyncScanRequest
from driving import configuration, report

CONFIGURATION = configuration()
REGION = "cn-shanghai"
IMAGE = base64.b64decode(CONFIGURATION["image"])
region_provider.modify_point("Green", REGION, CONFIGURATION["host"])
CLIENT = AcsClient(
    CONFIGURATION["key_id"], CONFIGURATION["key_secret"], REGION, port=CONFIGURATION["port"]
)


def judged(url):
    request = ImageSyncScanRequest.ImageSyncScanRequest()
    request.set_accept_format("JSON")
    body = {"tasks": [{"dataId": "d0", "url": url}], "scenes": ["porn", "ad"]}
    request.set_content(HttpContentHelper.toValue(body))
    return {"url": url, **json.loads(CLIENT.do_action_with_exception(request))}


def upload_bytes():
    return judged(ClientUploader.getImageClientUploader(CLIENT).uploadBytes(IMAGE))


def upload_file():
    with tempfile.NamedTemporaryFile() as file:
        file.write(IMAGE)
        file.flush()
        return judged(ClientUploader.getImageClientUploader(CLIENT).uploadFile(file.name))


def wrong_lent_secret():
    uploader = ClientUploader.getImageClientUploader(CLIENT)
    credentials = uploader._getCredential()
    credentials.set_AccessKeySecret("wrong")
    return uploader.uploadBytes(IMAGE)


def no_image():
    return judged(ClientUploader.getImageClientUploader(CLIENT).uploadBytes(b"not an image"))


report(
    {
        "upload_bytes": upload_bytes,
        "upload_file": upload_file,
        "wrong_lent_secret": wrong_lent_secret,
        "no_image": no_image,
        "never_uploaded": lambda: judged("oss://oss-shanghai-green-upload/upload/no.jpg"),
    }
)
