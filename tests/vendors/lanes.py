"""Lanes to an emulated Alibaba, and what came of the items that they judged."""

import asyncio

from beam_moderation import emulator
from beam_moderation.quota import Quota
from beam_moderation.vendors import (
    Alibaba,
    Credentials,
    Item,
    Judged,
    KeptAnswers,
    Lane,
    Retries,
)

KEYS = Credentials("testid", "testsecret")
SCENES = ("porn", "ad")
QUOTA = Quota(1000, None, 20)
JPEG = b"\xff\xd8\xff\xe0" + b"bytes" * 10


def items(count, first=0):
    return [
        Item(f"id{n}", url=f"https://img.example.com/{n}.jpg") for n in range(first, first + count)
    ]


def vendor_at(url, kind=Alibaba, **options):
    times = {"first_look_s": 0.05, "look_every_s": 0.05}
    return kind(scenes=SCENES, endpoint=url, **times, **options)


def lane_of(vendor, folder, *, keys=lambda: KEYS, share=QUOTA, retries=None, **options):
    kept = KeptAnswers(str(folder), vendor)
    retries = retries or Retries(pause_s=0.01)
    return Lane(vendor, keys, share, kept, retries=retries, **options)


def judge(lane, batch, batch_id="batch"):
    """The outcomes of a batch, and what was counted."""

    async def main():
        async with lane:
            return await lane.judge(batch_id, batch)

    return asyncio.run(main())


def told(outcome):
    """The suggestions of an outcome by scene, or its error's code."""
    if isinstance(outcome.answer, Judged):
        return {verdict.scene: verdict.suggestion for verdict in outcome.answer.verdicts}
    return outcome.answer.error.code


def truths(batch):
    return [
        {scene: emulator.truth("alibaba", item.url, scene).suggestion for scene in SCENES}
        for item in batch
    ]
