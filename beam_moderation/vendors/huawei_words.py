"""Words that options of Huawei Moderation take: huaweicloudsdkmoderation 3.0.45 and 3.1.219."""

CATEGORIES = {
    ("v1.0", False): ("politics", "terrorism", "porn", "ad"),
    ("v1.0", True): ("politics", "terrorism", "porn"),
    ("v3", False): ("politics", "terrorism", "porn", "image_text"),
}
"""The scenes of each version, synchronous or as jobs."""

EVENT_TYPES = (
    *("head_image", "album", "dynamic", "article", "comment"),
    *("room_cover", "group_message", "message", "product"),
)
"""What the images are: v3."""
