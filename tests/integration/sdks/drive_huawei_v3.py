"""The image operations of huaweicloudsdkmoderation 3.1.219, and IAM's of huaweicloudsdkiam 3.1.219.

Both are pointed at the emulator by `with_endpoint`; the look-up of a region's project goes to the
`iam_endpoint` of the credentials.
"""

import huaweicloudsdkiam.v3 as iam
import huaweicloudsdkmoderation.v3 as sdk
import requests
from driving import configuration, report, with_bad_keys
from huaweicloudsdkcore.auth.credentials import BasicCredentials, GlobalCredentials
from huaweicloudsdkcore.region.region import Region

CONFIGURATION = configuration()
PROJECT = "0123456789abcdef0123456789abcdef"
KEYS = (CONFIGURATION["key_id"], CONFIGURATION["key_secret"])


def client(ak=KEYS[0], sk=KEYS[1], token=None):
    credentials = BasicCredentials(ak, sk, PROJECT)
    if token:
        credentials = credentials.with_security_token(token)
    builder = sdk.ModerationClient.new_builder().with_credentials(credentials)
    return builder.with_endpoint(CONFIGURATION["url"]).build()


def client_of_a_region():
    """Without a project: the SDK asks IAM for it."""
    credentials = BasicCredentials(*KEYS).with_iam_endpoint(CONFIGURATION["url"])
    builder = sdk.ModerationClient.new_builder().with_credentials(credentials)
    return builder.with_region(Region("cn-north-4", CONFIGURATION["url"])).build()


def batch(by=None, urls=None, **options):
    images = [
        sdk.ImageBatchSyncReqUrls(url=url, data_id=f"d_{i}")
        for i, url in enumerate(urls or CONFIGURATION["urls"])
    ]
    options = options or {"event_type": "head_image", "categories": ["porn", "terrorism"]}
    body = sdk.ImageBatchSyncReq(urls=images, **options)
    request = sdk.BatchCheckImageSyncRequest(body=body)
    return (by or client()).batch_check_image_sync(request).to_dict()


def batch_with_glossaries():
    """Words of the account's own are looked for in the texts of the images."""
    config = sdk.ImageBatchSyncReqImageTextConfig(["spam_words"], ["brand_words"])
    options = {"event_type": "product", "categories": ["image_text"]}
    urls = ["https://img.example.com/image_text-block.jpg"]
    return batch(urls=urls, image_text_config=config, language="zh", **options)


def image(by=None, **fields):
    body = sdk.ImageDetectionReq(event_type="album", categories=["porn"], **fields)
    request = sdk.CheckImageModerationRequest(body=body)
    return (by or client()).check_image_moderation(request).to_dict()


def token(password=KEYS[1]):
    """A token of a project; the SDK keeps it in the answer's header."""
    user = iam.PwdPasswordUser(
        domain=iam.PwdPasswordUserDomain(name="domain1"), name=KEYS[0], password=password
    )
    identity = iam.PwdIdentity(methods=["password"], password=iam.PwdPassword(user=user))
    scope = iam.AuthScope(project=iam.AuthScopeProject(name="cn-north-4"))
    body = iam.KeystoneCreateUserTokenByPasswordRequestBody(
        auth=iam.PwdAuth(identity=identity, scope=scope)
    )
    credentials = GlobalCredentials(*KEYS, "domain0")
    builder = iam.IamClient.new_builder().with_credentials(credentials)
    by = builder.with_endpoint(CONFIGURATION["url"]).build()
    request = iam.KeystoneCreateUserTokenByPasswordRequest(body=body)
    answer = by.keystone_create_user_token_by_password(request)
    return {**answer.to_dict(), "status": answer.status_code}


def batch_with_token():
    """A request of v1.0 with the token in a header, for which the SDK has no option."""
    headers = {"X-Auth-Token": token()["x_subject_token"]}
    body = {"urls": CONFIGURATION["urls"], "categories": ["porn"], "threshold": ""}
    url = f"{CONFIGURATION['url']}/v1.0/moderation/image/batch"
    return requests.post(url, json=body, headers=headers, timeout=10).json()


report(
    {
        "batch": batch,
        "batch_by_biz_type": lambda: batch(biz_type="policy_1"),
        "batch_with_glossaries": batch_with_glossaries,
        "batch_of_a_region": lambda: batch(client_of_a_region()),
        "image_by_content": lambda: image(image=CONFIGURATION["image"]),
        "image_by_url": lambda: image(url=CONFIGURATION["urls"][0]),
        "token": token,
        "batch_with_token": batch_with_token,
        "wrong_password": lambda: token("wrong"),
        "temporary_key": lambda: batch(client("tempid", "tempsecret", "temptoken")),
        **with_bad_keys(
            {"batch": batch, "image": lambda by: image(by, url=CONFIGURATION["urls"][0])},
            {
                "wrong_secret": lambda: client(sk="wrong"),
                "wrong_key": lambda: client(ak="nobody"),
                "wrong_token": lambda: client("tempid", "tempsecret", "wrong"),
            },
        ),
        "too_many_urls": lambda: batch(urls=["https://img.example.com/1.jpg"] * 11),
    }
)
