"""`Panel`: all judges of a job, loaded, asked by many threads at once."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from beam_moderation import errors, judges


class Finding(NamedTuple):
    """What one judge says of one frame and one scene."""

    provider: str
    scene_findings: judges.SceneFindings


class Panel:
    """Judges that have been loaded in this process. Thread-safe."""

    def __init__(self, members: Sequence[judges.Judge]) -> None:
        for member in members:
            member.load()
        self._members = [(member, _ask(member)) for member in members]

    def judge(self, prepared: Sequence[Any]) -> list[Finding]:
        """What every judge says of one frame, which each of them is given as it prepared it.

        Raises:
          JudgeError: one of them failed.
        """
        findings = []
        for (member, ask), frame in zip(self._members, prepared, strict=True):
            try:
                answer = ask(frame)
            except Exception as error:
                raise errors.JudgeError(f"{member.provider}: {_reason(error)}") from error
            _check_complete(member, answer)
            findings += [Finding(member.provider, scene) for scene in answer]
        return findings


def _reason(error: Exception) -> str:
    """Of errors that are not ours only the class: their text may hold what an image says."""
    return str(error) if isinstance(error, errors.JudgeError) else type(error).__name__


def _ask(member: judges.Judge) -> Callable[[Any], Sequence[judges.SceneFindings]]:
    if member.max_batch == 1:
        return lambda frame: _answers(member.judge, [frame])[0]
    return Batches(member.judge, member.max_batch)


def _answers(judge: Callable[[Sequence[Any]], Sequence[Any]], frames: Sequence[Any]) -> list[Any]:
    """One answer for each frame, in their order."""
    answers = list(judge(frames))
    if len(answers) != len(frames):
        raise errors.JudgeError(f"{len(answers)} answers for {len(frames)} frames")
    return answers


def _check_complete(member: judges.Judge, answer: Sequence[judges.SceneFindings]) -> None:
    """Refuses a frame of which a scene was left out: it would pass with nobody having looked."""
    judged = {found.scene for found in answer if found.findings}
    if judged != set(member.labels) or not all(found.findings for found in answer):
        raise errors.JudgeError(f"{member.provider} did not judge all of {sorted(member.labels)}")


class Batches:
    """Gathers what threads ask for one by one into batches, with no timer.

    A thread that finds nobody at work judges all that waits, up to `max_batch`, while the others
    queue up for the next batch: the busier it is, the larger the batches. A batch that fails is
    tried in halves, so that a bad frame fails alone.
    """

    def __init__(self, judge: Callable[[Sequence[Any]], Sequence[Any]], max_batch: int) -> None:
        self._judge, self._max_batch = judge, max_batch
        self._waiting: deque[tuple[Any, Future[Any]]] = deque()
        self._changed = threading.Condition()
        self._at_work = False

    def __call__(self, frame: Any) -> Any:
        """The answer for one frame; blocks until it is there."""
        answer: Future[Any] = Future()
        with self._changed:
            self._waiting.append((frame, answer))
        while batch := self._turn(answer):
            try:
                self._answer(batch)
            finally:
                with self._changed:
                    self._at_work = False
                    self._changed.notify_all()
        return answer.result()

    def _turn(self, answer: "Future[Any]") -> Sequence[tuple[Any, "Future[Any]"]]:
        """The batch that it is the caller's turn to judge; none once its own answer is there."""
        with self._changed:
            self._changed.wait_for(lambda: answer.done() or not self._at_work)
            if answer.done():
                return ()
            self._at_work = True
            count = min(len(self._waiting), self._max_batch)
            return [self._waiting.popleft() for _ in range(count)]

    def _answer(self, batch: Sequence[tuple[Any, Future[Any]]]) -> None:
        try:
            answers = _answers(self._judge, [frame for frame, _ in batch])
        except BaseException as error:  # noqa: BLE001 - every thread of the batch waits for an end
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
            middle = len(batch) // 2
            self._answer(batch[:middle])
            self._answer(batch[middle:])
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            future.set_result(answer)
