"""What v3 of Huawei Moderation alone has: huaweicloudsdkmoderation 3.1.219."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from beam_moderation.vendors import answers, options, protocol

EVENT_TYPES = (
    *("head_image", "album", "dynamic", "article", "comment"),
    *("room_cover", "group_message", "message", "product"),
)
"""What the images are."""

_GLOSSARIES = ("black_glossary_names", "white_glossary_names")

OPTIONS = ("biz_type", "event_type", *_GLOSSARIES, "language")
"""The options that no other version takes."""


def problems(project_id: str | None, told: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the options, by their names."""
    if not project_id:
        yield "v3 needs project_id"
    if not (told["biz_type"] or told["event_type"]):
        yield "v3 needs biz_type or event_type"
    if told["event_type"] not in (None, *EVENT_TYPES):
        yield f"event_type is one of {', '.join(EVENT_TYPES)}"


def body(
    images: Mapping[str, Any], scenes: Sequence[str], told: Mapping[str, Any]
) -> dict[str, Any]:
    """A request's body: images, scenes and options, in the order in which the SDK has them."""
    by_scenes = {"event_type": told["event_type"], "categories": [*scenes]}
    return options.given(
        {
            **({} if told["biz_type"] else by_scenes),
            "image_text_config": options.given({name: [*told[name]] for name in _GLOSSARIES}),
            **images,
            "language": told["language"],
            "biz_type": told["biz_type"],
        }
    )


def data_ids(items: Sequence[protocol.Item]) -> list[str]:
    """The ids of items: letters, digits, `_` and `-`, at most 30, unique in the request."""
    return answers.wire_ids(
        items, lambda data_id: re.fullmatch(r"[A-Za-z0-9_-]{1,30}", data_id) is not None, 30
    )


def with_unstated(judged: protocol.Judged) -> protocol.Judged:
    """The verdicts by a policy, with a note on those for which the vendor listed nothing."""
    verdicts = [
        verdict
        if verdict.findings
        else dataclasses.replace(verdict, detail={**verdict.detail, "unstated": True})
        for verdict in judged.verdicts
    ]
    return dataclasses.replace(judged, verdicts=verdicts)
