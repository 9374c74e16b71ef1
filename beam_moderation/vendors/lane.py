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
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from beam_moderation import errors, quota
from beam_moderation.vendors import asked, calls, keeper, kept, protocol
from beam_moderation.vendors.retries import Attempts, Retries

_LOG = logging.getLogger(__name__)

Inbox: TypeAlias = Callable[[str], bytes | None]
"""What the vendor delivered for a task id; None while nothing came. Called in threads; an error of
its own is as good as nothing."""


def check_waiting(vendor: protocol.Vendor, deadline_s: float, inbox: Inbox | None) -> None:
    """Looks whether the results of a vendor's tasks can come as it is told.

    Raises:
      ConfigurationError: they cannot, or would be gone when they are asked for.
    """
    if inbox is not None and not isinstance(vendor, protocol.Callbacks):
        raise errors.ConfigurationError(f"{vendor.name} delivers no results")
    if isinstance(vendor, protocol.Callbacks) and inbox is not None and not vendor.callback:
        raise errors.ConfigurationError(f"{vendor.name}: without callback the inbox stays empty")
    if vendor.asynchronous and deadline_s > vendor.limits.results_kept_s:
        raise errors.ConfigurationError(
            f"{vendor.name} keeps results {vendor.limits.results_kept_s:g} s: a deadline of "
            f"{deadline_s:g} s would lose some"
        )


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
      lanes: how many lanes share what the vendor limits by number.

    Raises:
      ConfigurationError: results cannot come, or would be gone when they are asked for.
    """

    def __init__(
        self,
        vendor: protocol.Vendor,
        credentials: Callable[[], protocol.Credentials],
        share: quota.Quota,
        answers: kept.Answers,
        *,
        retries: Retries | None = None,
        deadline_s: float = 600.0,
        inbox: Inbox | None = None,
        lanes: int = 1,
    ) -> None:
        check_waiting(vendor, deadline_s, inbox)
        self.pacer = quota.Pacer(share)
        self._retries = retries or Retries()
        self._calls = calls.Calls(vendor, credentials, self.pacer, self._retries)
        self._limits, self._answers = vendor.limits, answers
        self._keeper = keeper.Keeper(answers)
        self._deadline_s, self._inbox = deadline_s, inbox
        # Until it is kept, an answer would be lost in a kill as if the call were still in flight.
        self._unkept = asyncio.Semaphore(share.max_in_flight)
        self._unfinished = _slots(vendor, lanes)

    async def __aenter__(self) -> "Lane":
        await self._calls.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._calls.__aexit__(*exception)

    @property
    def counts(self) -> collections.Counter[str]:
        """What happened so far.

        calls, unanswered_calls, uploads; and items: kept (by an earlier run), judged, pending (once
        submitted), failed; billed_units; throttled_msec, and throttled_s in whole seconds.
        """
        counts = self._calls.counts.copy()
        counts["throttled_msec"] = int(self.pacer.throttled_s * 1000)
        counts["throttled_s"] = round(self.pacer.throttled_s)
        return counts

    async def judge(self, batch_id: str, items: Sequence[protocol.Item]) -> list[kept.Outcome]:
        """What became of each item, in the order of the items, as `open`, `ask` and `collect` do.

        What an earlier run under the same `batch_id` was told is not asked again.

        Raises:
          VendorRefusedRequest: the account, the key or an option is wrong, and the lane is of no
            more use. What was answered until then is kept.
        """
        batch = await self.open(batch_id)
        await self.ask(batch, items)
        outcomes = await self.collect(batch)
        return [outcomes[kept.item_key(item)] for item in items]

    async def open(self, batch_id: str, *, again: bool = False) -> asked.Batch:
        """A batch with what an earlier run was told of it.

        Args:
          again: what the vendor refused then is asked once more; tasks are waited for all the same.
        """
        earlier = await asyncio.to_thread(self._answers.read, batch_id)
        if again:
            earlier = {
                k: o for k, o in earlier.items() if not isinstance(o.answer, protocol.Failed)
            }
        return asked.Batch(batch_id, earlier)

    async def ask(self, batch: asked.Batch, items: Sequence[protocol.Item]) -> None:
        """Has items of a batch judged, or taken as tasks; their bytes are needed no more."""
        known = len(batch.outcomes)
        todo = batch.add(items)
        self._calls.counts["kept"] += len(batch.outcomes) - known
        max_items = self.pacer.quota.items_a_call(self._limits.max_items)
        requests = asked.cut(todo, self._limits, max_items)
        await calls.gather(self._ask_in_turn(batch, request) for request in requests)

    def renew(self) -> None:
        """Lets calls be tried again: what they were refused for may be mended."""
        self._calls.renew()

    async def collect(self, batch: asked.Batch) -> Mapping[str, kept.Outcome]:
        """What became of each item, `Judged` or `Failed`, by its key, once all tasks have ended."""
        await self._wait_for(batch)
        return batch.outcomes

    async def feedback(self, human: protocol.Human) -> None:
        """Tells the vendor of a person's decision.

        Raises:
          VendorTimeout: whether the vendor took it is not known.
          VendorError: it did not.
        """
        attempts = Attempts(self._retries)
        while True:
            try:
                return await self._calls.feedback(human)
            except (errors.VendorThrottled, errors.VendorUnreached) as error:
                attempts.made(error)
                if not attempts.again(error):
                    raise
            except errors.VendorUnavailable as error:
                raise errors.VendorTimeout(f"perhaps not taken: {error}") from error
            await self._calls.sleep(attempts.pause_s)

    async def _ask_in_turn(self, batch: asked.Batch, items: Sequence[protocol.Item]) -> None:
        """Has one request's items judged, or taken as tasks when there may be more of those."""
        if self._unfinished is None or any(item.content is not None for item in items):
            await self._ask(batch, items)
            return
        async with self._unfinished:
            await self._ask(batch, items)
            await self._wait_for(batch, items)

    async def _ask(self, batch: asked.Batch, items: Sequence[protocol.Item]) -> None:
        """Has the items of one request judged or taken as tasks, or learns why not."""
        todo = await self._reach(batch, items)
        attempts = Attempts(self._retries)
        while todo:
            try:
                async with self._unkept:
                    todo = await self._attempt(batch, todo, attempts)
            except errors.VendorRefusedInput:
                return await self._ask_apart(batch, todo)
            if todo:
                await self._calls.sleep(attempts.pause_s)
        return None

    async def _reach(
        self, batch: asked.Batch, items: Sequence[protocol.Item]
    ) -> list[protocol.Item]:
        """The items as the vendor takes them; those that cannot be uploaded have failed."""
        began = _now()
        reached = await self._calls.reach(items)
        pairs = zip(items, reached, strict=True)
        failed = {kept.item_key(i): r for i, r in pairs if isinstance(r, protocol.Failed)}
        await self._keep(batch, {key: _outcome(f, 1, began) for key, f in failed.items()})
        return [item for item in reached if isinstance(item, protocol.Item)]

    async def _attempt(
        self, batch: asked.Batch, items: Sequence[protocol.Item], attempts: Attempts
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

    async def _ask_apart(self, batch: asked.Batch, items: Sequence[protocol.Item]) -> None:
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
        batch: asked.Batch,
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
                outcome = _outcome(answer, attempts.count, attempts.began)
                outcomes[kept.item_key(item)] = outcome
        await self._keep(batch, outcomes)
        return again

    async def _wait_for(
        self, batch: asked.Batch, items: Sequence[protocol.Item] | None = None
    ) -> None:
        """Looks for the results of tasks, all together, until their time is over.

        Args:
          items: whose tasks; None: all of the batch.
        """
        if not (tasks := batch.tasks(items)):
            return
        oldest_s, youngest_s = batch.ages_s(tasks)
        deadline = _now() + max(0.0, self._deadline_s - youngest_s)
        first_look_s = self._limits.first_look_s if self._inbox is None else 0.0
        await self._calls.sleep(min(max(0.0, first_look_s - oldest_s), deadline - _now()))
        while tasks := batch.tasks(items):
            last = _now() >= deadline
            if self._inbox is not None:
                await self._empty_inbox(batch, tasks, self._inbox)
                tasks = batch.tasks(items)
            if tasks and (last or self._inbox is None):
                await self._query_all(batch, tasks)
            if last:
                break
            await self._calls.sleep(min(self._limits.look_every_s, max(0.0, deadline - _now())))
        error = errors.VendorTimeout(f"the task had no result within {self._deadline_s:g} s")
        await self._keep_results(batch, _failed(batch.tasks(items), error))

    async def _empty_inbox(
        self, batch: asked.Batch, tasks: Sequence[protocol.Task], inbox: Inbox
    ) -> None:
        news = await calls.gather(_delivered(inbox, task.task_id) for task in tasks)
        for task, content in zip(tasks, news, strict=True):
            if content is not None:
                await self._keep_news(batch, self._calls.read_callback(task, content))

    async def _query_all(self, batch: asked.Batch, tasks: Sequence[protocol.Task]) -> None:
        size = self._limits.max_tasks
        parts = [tasks[start : start + size] for start in range(0, len(tasks), size)]
        await calls.gather(self._query(batch, part) for part in parts)

    async def _query(self, batch: asked.Batch, tasks: Sequence[protocol.Task]) -> None:
        """Asks for the results of tasks; a call that fails is as good as no news."""
        try:
            results = await self._calls.query(tasks)
        except errors.VendorRefusedRequest:
            raise
        except errors.VendorError as error:
            gone = isinstance(error, errors.VendorTaskGone)
            results = _failed(tasks, error) if gone or not error.retryable else []
        await self._keep_news(batch, results)

    async def _keep_news(self, batch: asked.Batch, results: calls.Results) -> None:
        """Keeps those results of tasks that are there and are worth no other look."""
        looks = self._retries.tries
        news = [
            (item, answer)
            for item, answer in results
            if not isinstance(answer, protocol.Pending)
            and not batch.worth_another_look(kept.item_key(item), answer, looks)
        ]
        await self._keep_results(batch, news)

    async def _keep_results(self, batch: asked.Batch, results: calls.Results) -> None:
        """Keeps the results of tasks for good."""
        answers = {kept.item_key(item): answer for item, answer in results}
        outcomes = {key: batch.outcomes[key].followed_by(answers[key]) for key in answers}
        await self._keep(batch, outcomes)

    async def _keep(self, batch: asked.Batch, outcomes: Mapping[str, kept.Outcome]) -> None:
        """Keeps outcomes before anybody acts on them.

        A failure that another run may not meet again is not kept; a task's id is, and stays.
        """
        lasting = {key: outcome for key, outcome in outcomes.items() if _lasts(outcome.answer)}
        if lasting:
            await self._keep_lasting(batch, lasting)
        batch.outcomes.update(outcomes)
        for outcome in outcomes.values():
            self._count(outcome.answer)

    async def _keep_lasting(self, batch: asked.Batch, outcomes: Mapping[str, kept.Outcome]) -> None:
        """Keeps outcomes; where that cannot be done, nothing more is paid for."""
        try:
            await self._keeper.keep(batch.id, outcomes)
        except Exception as error:
            self._calls.refuse(
                errors.ConfigurationError(f"answers cannot be kept: {type(error).__name__}")
            )
            raise

    def _count(self, answer: protocol.Answer) -> None:
        self._calls.counts[type(answer).__name__.lower()] += 1
        if isinstance(answer, protocol.Judged):
            self._calls.counts["billed_units"] += answer.billed_units
        error = answer.error if isinstance(answer, protocol.Failed) else None
        if isinstance(error, errors.VendorRefusedRequest):
            self._calls.refuse(error)
            raise error


def _slots(vendor: protocol.Vendor, lanes: int) -> asyncio.Semaphore | None:
    """Room for requests whose tasks are without a result, where the vendor limits those."""
    limit = vendor.limits.max_unfinished if vendor.asynchronous else None
    return None if limit is None else asyncio.Semaphore(max(1, limit // lanes))


async def _delivered(inbox: Inbox, task_id: str) -> bytes | None:
    """What was delivered for a task; nothing where the inbox cannot be read now."""
    try:
        return await asyncio.to_thread(inbox, task_id)
    except Exception as error:  # noqa: BLE001 - object stores' libraries have classes of their own
        _LOG.warning("no word from the inbox: %s", type(error).__name__)
        return None


def _outcome(answer: protocol.Answer, attempts: int, began: float) -> kept.Outcome:
    return kept.Outcome(answer, attempts, _now() - began, time.time())


def _failed(tasks: Sequence[protocol.Task], error: errors.VendorError) -> calls.Results:
    return [(item, protocol.Failed(error, task.task_id)) for task in tasks for item in task.items]


def _lasts(answer: protocol.Answer) -> bool:
    """Whether an answer would be the same in another run."""
    if not isinstance(answer, protocol.Failed):
        return True
    return not (answer.error.retryable or isinstance(answer.error, errors.VendorRefusedRequest))


def _now() -> float:
    return asyncio.get_running_loop().time()
