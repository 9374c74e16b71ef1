import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from beam_moderation import errors
from beam_moderation.judges import SceneFindings
from beam_moderation.judging import Batches, Panel
from beam_moderation.records import Finding

GENEROUS_S = 30


class Even:
    """Judges numbers: even ones are `even`; refuses negative ones; notes its batches."""

    provider = "even@1"
    sufficient_size = None

    def __init__(self, max_batch=1):
        self.labels = {"parity": frozenset({"even", "odd"})}
        self.max_batch = max_batch
        self.batches = []
        self.loads = 0

    def load(self):
        self.loads += 1

    def judge(self, prepared):
        self.batches.append(list(prepared))
        if min(prepared) < 0:
            raise ValueError(f"negative: {prepared}")
        label = {0: "even", 1: "odd"}
        return [[SceneFindings("parity", [Finding(label[n % 2], 1.0)])] for n in prepared]


def test_each_judge_is_given_the_frame_as_it_prepared_it():
    panel = Panel([Even(), Even()])
    assert [f.scene_findings.findings[0].label for f in panel.judge([2, 3])] == ["even", "odd"]


def test_judges_are_loaded_when_the_panel_is_made():
    judge = Even()
    Panel([judge])
    assert judge.loads == 1


@pytest.mark.parametrize("max_batch", [1, 8])
def test_a_judge_that_fails_is_named(max_batch):
    with pytest.raises(errors.JudgeError, match="even@1: ValueError"):
        Panel([Even(max_batch)]).judge([-1])


NOTHING = SceneFindings("parity", [])
ELSEWHERE = SceneFindings("colour", [Finding("red", 1.0)])
ODD = SceneFindings("parity", [Finding("odd", 1.0)])


@pytest.mark.parametrize("max_batch", [1, 8])
@pytest.mark.parametrize(
    "answer", [[], [NOTHING], [ELSEWHERE], [ODD, ELSEWHERE], [ODD, NOTHING]], ids=range(5)
)
def test_a_frame_of_which_a_scene_is_left_out_is_not_judged(max_batch, answer):
    judge = Even(max_batch)
    judge.judge = lambda frames: [answer for _ in frames]
    with pytest.raises(errors.JudgeError, match=r"even@1 did not judge all of \['parity'\]"):
        Panel([judge]).judge([1])


@pytest.mark.parametrize("max_batch", [1, 8])
@pytest.mark.parametrize("count", [0, 2])
def test_a_judge_with_the_wrong_number_of_answers_fails(max_batch, count):
    judge = Even(max_batch)
    judge.judge = lambda _: [[ODD]] * count
    with pytest.raises(errors.JudgeError, match=f"even@1: {count} answers for 1 frames"):
        Panel([judge]).judge([1])


def test_no_thread_waits_for_an_answer_that_never_comes():
    def judge(frames):
        if -1 in frames:
            raise SystemExit(1)
        return iter(frames[1:] if len(frames) > 1 else frames)

    ask = Batches(judge, 8)
    with ThreadPoolExecutor(8) as pool:
        asked = {number: pool.submit(ask, number) for number in [*range(40), -1]}
        answers = {
            n: future.exception(GENEROUS_S) or future.result() for n, future in asked.items()
        }
    assert isinstance(answers.pop(-1), SystemExit)
    assert answers == {number: number for number in range(40)}


@pytest.mark.parametrize("max_batch", [2, 7, 64])
def test_every_thread_gets_the_answer_to_its_own_frame(max_batch):
    judge = Even(max_batch)
    ask = Batches(judge.judge, max_batch)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(500)))
    assert [a[0].findings[0].label for a in answers] == ["even", "odd"] * 250
    assert max(map(len, judge.batches)) <= max_batch
    assert sum(map(len, judge.batches)) == 500


def test_what_waits_while_a_batch_is_judged_becomes_the_next_batch():
    started, go_on = threading.Event(), threading.Event()
    sizes = []

    def judge(frames):
        sizes.append(len(frames))
        started.set()
        go_on.wait(30)
        return frames

    ask = Batches(judge, 64)
    with ThreadPoolExecutor(10) as pool:
        first = pool.submit(ask, 0)
        started.wait(30)
        rest = [pool.submit(ask, n) for n in range(1, 10)]
        while len(ask._waiting) < 9:
            pass
        go_on.set()
        assert [f.result() for f in [first, *rest]] == list(range(10))
    assert sizes == [1, 9]


def test_a_bad_frame_fails_alone_in_its_batch():
    judge = Even(64)
    ask = Batches(judge.judge, 64)

    def attempt(number):
        try:
            return ask(number)[0].findings[0].label
        except ValueError:
            return "refused"

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(attempt, [5, -1, 8, -3] * 8))
    assert answers == ["odd", "refused", "even", "refused"] * 8
