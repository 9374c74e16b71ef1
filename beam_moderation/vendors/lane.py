"""The paced lane: has items judged by a vendor, within its quota, paying for each once.

```
items ─ kept? ─ cut into requests ─ pace ─ call ─ keep ─┬─ judged, failed
                                     ^             │    └─ pending ─ look ─ keep
                                     └─ call again ┘
```

A task that has an id is never submitted again: it is judged, or fails, or is given up. What no
client can know is whether a request whose answer was lost has been paid for: it is sent again a few
times, and counted as one of the `unanswered_calls`.
"""

import asyncio
import collections
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

from beam_moderation import errors, quota
from beam_moderation.vendors import calls, kept, protocol
from beam_moderation.vendors.retries import Attempts, Retries

Inbox: TypeAlias = Callable[[str], bytes | None]
"""What the vendor delivered for a task id; None while nothing came. Called in a thread."""

_ITEM_BYTES = 512
"""Room for what a request says of an item beside its URL and its bytes."""


class Lane:
    """Has items judged; an async context manager, for many batches at once.

    Args:
      vendor: builds the requests and reads the answers.
      credentials: looks the credentials up on this worker, and again when they are refused.
      share: this lane's part of the quota.
      answers: where answers are kept.
      retries: when a request is sent again.
      deadline_s: how long after its submission a task is given up.
      inbox: what callbacks delivered; then the vendor is asked for a task only at its deadline.

    Raises:
      ConfigurationError: there is an inbox, and a vendor without callbacks.
    """

    def __init__(
        self,
        vendor: protocol.Vendor,
        credentials: Callable[[], protocol.Credentials],
        share: quota.Quota,
        answers: kept.KeptAnswers,
        *,
        retries: Retries | None = None,
        deadline_s: float = 600.0,
        inbox: Inbox | None = None,
    ) -> None:
        if inbox is not None and not isinstance(vendor, protocol.Callbacks):
            raise errors.ConfigurationError(f"{vendor.name} delivers no results")
        self.pacer = quota.Pacer(share)
        self._calls = calls.Calls(vendor, credentials, self.pacer)
        self._limits = vendor.limits
        self._answers, self._retries = answers, retries or Retries()
        self._deadline_s, self._inbox = deadline_s, inbox
        # Until it is kept, an answer would be lost in a kill as if the call were still in flight.
        self._unkept = asyncio.Semaphore(share.max_in_flight)

    async def __aenter__(self) -> "Lane":
        await self._calls.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._calls.__aexit__(*exception)

    @property
    def counts(self) -> collections.Counter[str]:
        """What happened so far.

        calls, unanswered_calls, uploads; and items: kept (by an earlier run), judged, pending (once
        submitted), failed; billed_units; throttled_msec.
        """
        counts = self._calls.counts.copy()
        counts["throttled_msec"] = int(self.pacer.throttled_s * 1000)
        return counts

    async def judge(self, batch_id: str, items: Sequence[protocol.Item]) -> list[kept.Outcome]:
        """What became of each item, `Judged` or `Failed`, in the order of the items.

        What an earlier run under the same `batch_id` was told is not asked again.

        Raises:
          VendorRefusedRequest: the account, the key or an option is wrong, and the lane is of no
            more use. What was answered until then is kept.
        """
        batch = _Batch(batch_id, items)
        earlier = await asyncio.to_thread(self._answers.read, batch_id)
        batch.outcomes = {key: earlier[key] for key in batch.items if key in earlier}
        self._calls.counts["kept"] += len(batch.outcomes)
        todo = [item for key, item in batch.items.items() if key not in earlier]
        requests = cut(todo, self._limits, self.pacer.quota.items_a_call(self._limits.max_items))
        await calls.gather(self._ask(batch, request) for request in requests)
        await self._collect(batch)
        return [batch.outcomes[kept.item_key(item)] for item in items]

    async def forget(self, batch_id: str) -> None:
        """Deletes the kept answers of a batch, once its rows are committed."""
        await asyncio.to_thread(self._answers.delete, batch_id)

    async def feedback(self, human: protocol.Human) -> None:
        """Tells the vendor of a person's decision.

        Raises:
          VendorError: the vendor did not take it; `VendorTimeout` where that is not known.
        """
        attempts = Attempts(self._retries)
        while True:
            try:
                return await self._calls.feedback(human)
            except (errors.VendorThrottled, errors.VendorUnavailable) as error:
                attempts.made(error)
                if not attempts.again(error):
                    raise
            await self._calls.sleep(attempts.pause_s)

    async def _ask(self, batch: "_Batch", items: Sequence[protocol.Item]) -> None:
        """Has the items of one request judged or taken as tasks, or learns why not."""
        attempts = Attempts(self._retries)
        while items:
            try:
                async with self._unkept:
                    items = await self._attempt(batch, items, attempts)
            except errors.VendorRefusedInput:
                return await self._ask_apart(batch, items)
            if items:
                await self._calls.sleep(attempts.pause_s)
        return None

    async def _attempt(
        self, batch: "_Batch", items: Sequence[protocol.Item], attempts: Attempts
    ) -> list[protocol.Item]:
        """Sends one request and keeps its answer; returns the items that are to be sent again.

        Raises:
          VendorRefusedInput: the vendor refuses the request for one of its several items.
        """
        try:
            answers = await self._calls.scan(items)
            attempts.made()
        except errors.VendorRefusedRequest:
            raise
        except errors.VendorError as error:
            if isinstance(error, errors.VendorRefusedInput) and len(items) > 1:
                raise
            attempts.made(error)
            answers = [protocol.Failed(error)] * len(items)
        return await self._settle(batch, items, answers, attempts)

    async def _ask_apart(self, batch: "_Batch", items: Sequence[protocol.Item]) -> None:
        """Asks for the items of a refused request without those, or that half, at fault."""
        refused = {
            place: protocol.Failed(error)
            for place, item in enumerate(items)
            if (error := self._calls.refused_unsent(item)) is not None
        }
        attempts = Attempts(self._retries)
        await self._settle(
            batch, [items[place] for place in refused], list(refused.values()), attempts
        )
        rest = [item for place, item in enumerate(items) if place not in refused]
        middle = len(rest) if refused else len(rest) // 2
        halves = [half for half in (rest[:middle], rest[middle:]) if half]
        await calls.gather(self._ask(batch, half) for half in halves)

    async def _settle(
        self,
        batch: "_Batch",
        items: Sequence[protocol.Item],
        answers: Sequence[protocol.Answer],
        attempts: Attempts,
    ) -> list[protocol.Item]:
        """Keeps what an attempt settled, and returns the items that are to be sent again."""
        again = []
        outcomes = {}
        for item, answer in zip(items, answers, strict=True):
            if isinstance(answer, protocol.Failed) and attempts.again(answer.error):
                again.append(item)
            else:
                outcomes[kept.item_key(item)] = kept.Outcome(
                    answer, attempts.count, attempts.latency_s, time.time()
                )
        await self._keep(batch, outcomes)
        return again

    async def _collect(self, batch: "_Batch") -> None:
        """Looks for the results of the batch's tasks, all together, until their time is over."""
        if not batch.tasks():
            return
        oldest_s, youngest_s = batch.ages_s()
        deadline = _now() + max(0.0, self._deadline_s - youngest_s)
        await self._calls.sleep(
            min(max(0.0, self._limits.first_look_s - oldest_s), deadline - _now())
        )
        while tasks := batch.tasks():
            last = _now() >= deadline
            await self._look(batch, tasks, last)
            if last:
                break
            await self._calls.sleep(min(self._limits.look_every_s, max(0.0, deadline - _now())))
        error = errors.VendorTimeout(f"the task had no result within {self._deadline_s:g} s")
        await self._keep_results(batch, _failed(batch.tasks(), error))

    async def _look(self, batch: "_Batch", tasks: Sequence[protocol.Task], last: bool) -> None:
        """Looks once for the results of tasks."""
        if self._inbox is not None:
            await self._empty_inbox(batch, tasks, self._inbox)
            tasks = batch.tasks()
        if tasks and (last or self._inbox is None):
            await calls.gather(self._query(batch, part) for part in await self._calls.parts(tasks))

    async def _empty_inbox(
        self, batch: "_Batch", tasks: Sequence[protocol.Task], inbox: Inbox
    ) -> None:
        for task in tasks:
            content = await asyncio.to_thread(inbox, task.task_id)
            if content is not None:
                await self._keep_news(batch, self._calls.read_callback(task, content))

    async def _query(self, batch: "_Batch", tasks: Sequence[protocol.Task]) -> None:
        """Asks for the results of tasks; a call that fails is as good as no news."""
        try:
            results = await self._calls.query(tasks)
        except errors.VendorRefusedRequest:
            raise
        except errors.VendorError as error:
            gone = isinstance(error, errors.VendorTaskGone)
            results = _failed(tasks, error) if gone or not error.retryable else []
        await self._keep_news(batch, results)

    async def _keep_news(self, batch: "_Batch", results: calls.Results) -> None:
        """Keeps those results of tasks that are there and are worth no other look."""
        looks = self._retries.tries
        news = [
            (item, answer)
            for item, answer in results
            if not isinstance(answer, protocol.Pending)
            and not batch.worth_another_look(kept.item_key(item), answer, looks)
        ]
        await self._keep_results(batch, news)

    async def _keep_results(self, batch: "_Batch", results: calls.Results) -> None:
        """Keeps the results of tasks for good."""
        answers = {kept.item_key(item): answer for item, answer in results}
        outcomes = {key: batch.outcomes[key].followed_by(answers[key]) for key in answers}
        await self._keep(batch, outcomes)

    async def _keep(self, batch: "_Batch", outcomes: Mapping[str, kept.Outcome]) -> None:
        """Keeps outcomes before anybody acts on them.

        A failure that another run may not meet again is not kept; a task's id is, and stays.
        """
        lasting = {key: outcome for key, outcome in outcomes.items() if _lasts(outcome.answer)}
        if lasting:
            await asyncio.to_thread(self._answers.write, batch.id, lasting)
        batch.outcomes.update(outcomes)
        for outcome in outcomes.values():
            self._count(outcome.answer)

    def _count(self, answer: protocol.Answer) -> None:
        self._calls.counts[type(answer).__name__.lower()] += 1
        if isinstance(answer, protocol.Judged):
            self._calls.counts["billed_units"] += answer.billed_units
        error = answer.error if isinstance(answer, protocol.Failed) else None
        if isinstance(error, errors.VendorRefusedRequest):
            self._calls.refuse(error)
            raise error


class _Batch:
    """The items of a batch by their keys, and what is known of them so far."""

    def __init__(self, batch_id: str, items: Sequence[protocol.Item]) -> None:
        self.id = batch_id
        self.items = {kept.item_key(item): item for item in items}
        self.outcomes: dict[str, kept.Outcome] = {}
        self._looks: collections.Counter[str] = collections.Counter()

    def tasks(self) -> list[protocol.Task]:
        """The tasks without a result, each with its items."""
        items = collections.defaultdict(list)
        for key, outcome in self.outcomes.items():
            if isinstance(outcome.answer, protocol.Pending):
                items[outcome.answer.task_id].append(self.items[key])
        return [protocol.Task(task_id, of_task) for task_id, of_task in items.items()]

    def ages_s(self) -> tuple[float, float]:
        """How long ago the first and the last of the tasks without a result were submitted."""
        submitted = [
            outcome.answered_at
            for outcome in self.outcomes.values()
            if isinstance(outcome.answer, protocol.Pending)
        ]
        now = time.time()
        return max(0.0, now - min(submitted)), max(0.0, now - max(submitted))

    def worth_another_look(self, key: str, answer: protocol.Answer, looks: int) -> bool:
        """Whether a task that failed, or whose result is unclear, is asked for once more.

        That costs nothing, and the failure may have been that of the call.
        """
        error = answer.error if isinstance(answer, protocol.Failed) else None
        if error is None or not error.retryable or isinstance(error, errors.VendorTaskGone):
            return False
        self._looks[key] += 1
        return self._looks[key] < looks


def cut(
    items: Sequence[protocol.Item], limits: protocol.Limits, max_items: int
) -> Iterator[list[protocol.Item]]:
    """The items in requests that a vendor takes, in their order but for those that go alone."""
    request: list[protocol.Item] = []
    request_bytes = 0
    for item in items:
        inline = limits.max_inline_bytes is not None and item.content is not None
        if inline and limits.inline_alone:
            yield [item]
            continue
        item_bytes = _request_bytes(item, inline)
        full = request_bytes + item_bytes > (limits.max_request_bytes or request_bytes + item_bytes)
        if request and (full or len(request) == max_items):
            yield request
            request, request_bytes = [], 0
        request.append(item)
        request_bytes += item_bytes
    if request:
        yield request


def _request_bytes(item: protocol.Item, inline: bool) -> int:
    """About how long an item is in a request, where bytes are written in base64."""
    content = len(item.content) * 4 // 3 if inline and item.content else 0
    return content + len(item.url or "") + _ITEM_BYTES


def _failed(tasks: Sequence[protocol.Task], error: errors.VendorError) -> calls.Results:
    return [(item, protocol.Failed(error, task.task_id)) for task in tasks for item in task.items]


def _lasts(answer: protocol.Answer) -> bool:
    """Whether an answer would be the same in another run."""
    if not isinstance(answer, protocol.Failed):
        return True
    return not (answer.error.retryable or isinstance(answer.error, errors.VendorRefusedRequest))


def _now() -> float:
    return asyncio.get_running_loop().time()
