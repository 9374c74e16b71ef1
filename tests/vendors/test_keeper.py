"""The keeper: answers that come together share a file, and nobody goes on before it is there."""

import asyncio
import threading

import pytest

from beam_moderation.vendors import Outcome, protocol
from beam_moderation.vendors.keeper import Keeper
from beam_moderation.vendors.kept import RecentAnswers

JUDGED = Outcome(protocol.Judged([], "t", "r", 1), 1, 0.5, 1715243415.25)


class Written(RecentAnswers):
    """Notes what was written together; holds a write until it may end."""

    def __init__(self, error=None):
        super().__init__()
        self.calls, self.may_end, self._error = [], threading.Event(), error
        self.may_end.set()

    def write(self, batch_id, outcomes):
        self.may_end.wait(10)
        if self._error is not None:
            raise self._error
        self.calls.append((batch_id, set(outcomes)))
        super().write(batch_id, outcomes)


def test_answers_that_come_together_are_written_together_and_each_batch_apart():
    answers = Written()

    async def keep():
        keeper = Keeper(answers)
        await asyncio.gather(
            *(keeper.keep(batch, {key: JUDGED}) for batch in "xy" for key in "abc")
        )

    asyncio.run(keep())
    assert sorted(answers.calls) == [("x", {"a", "b", "c"}), ("y", {"a", "b", "c"})]


def test_who_keeps_goes_on_when_it_is_kept_and_not_before():
    answers = Written()

    async def keep():
        keeper = Keeper(answers)
        answers.may_end.clear()
        keeping = [asyncio.create_task(keeper.keep("x", {key: JUDGED})) for key in "ab"]
        await asyncio.sleep(0.05)
        later = asyncio.create_task(keeper.keep("x", {"c": JUDGED}))
        assert not any(task.done() for task in keeping)
        answers.may_end.set()
        await asyncio.gather(*keeping, later)

    asyncio.run(keep())
    assert set(answers.read("x")) == {"a", "b", "c"}
    assert sorted(map(len, (keys for _, keys in answers.calls))) == [1, 2]


def test_who_is_cancelled_takes_no_other_along():
    answers = Written()

    async def keep():
        keeper = Keeper(answers)
        answers.may_end.clear()
        gone, stays = (asyncio.create_task(keeper.keep("x", {key: JUDGED})) for key in "ab")
        await asyncio.sleep(0.05)
        gone.cancel()
        answers.may_end.set()
        await stays

    asyncio.run(keep())
    assert set(answers.read("x")) == {"a", "b"}


def test_all_of_a_round_learn_that_it_failed():
    async def keep():
        keeper = Keeper(Written(OSError("the disk is full")))
        return await asyncio.gather(
            *(keeper.keep("x", {key: JUDGED}) for key in "ab"), return_exceptions=True
        )

    with_errors = asyncio.run(keep())
    assert [str(error) for error in with_errors] == ["the disk is full"] * 2


@pytest.mark.parametrize("count", [1, 40])
def test_every_answer_is_kept_however_they_come(count):
    answers = Written()

    async def keep():
        keeper = Keeper(answers)
        for number in range(count):
            await keeper.keep("x", {str(number): JUDGED})

    asyncio.run(keep())
    assert set(answers.read("x")) == set(map(str, range(count)))
