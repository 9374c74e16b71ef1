"""Whoever dies, every reference has one outcome in the tables as their readers see them."""

import pytest
import stream_jobs
from stream_jobs import bright, by_url, by_vendor, expected, restart, truth

from beam_moderation import emulator
from beam_moderation.quota import Quota

pytestmark = [pytest.mark.integration, pytest.mark.services, pytest.mark.timeout(1500)]

REFERENCES = 20_000
KILLED_AT = (0.2, 0.5, 0.8)

DEATHS = {
    "the Python worker": lambda stream: stream.python_worker().kill(),
    "the TaskManager": lambda stream: restart(stream.flink.task_managers[0]),
    "the JobManager": lambda stream: restart(stream.flink.job_manager),
    "the broker": stream_jobs.Stream.restart_broker,
}


def kill_and_go_on(stream, die, references):
    """Kills in the middle of the work, three times, and waits until the work goes on."""
    for part in KILLED_AT:
        stream.wait_until_told(part * references)
        die(stream)
        stream.wait_until_told(stream.told() + 1)


@pytest.mark.parametrize("victim", DEATHS)
def test_every_reference_has_one_outcome_though_its_judge_dies(stream, victim):
    stream.start(bright(), "--parallelism=4")
    with stream.producing(0, REFERENCES, a_second=1000):
        kill_and_go_on(stream, DEATHS[victim], REFERENCES)
    stream.wait_for_tables(REFERENCES)
    assert stream.outcomes() == expected(0, REFERENCES)
    ids = stream.told_ids()
    assert set(ids) == expected(0, REFERENCES).keys()
    repeats = {"told": len(ids) - REFERENCES, "written": stream.rows_written() - REFERENCES}
    print(f"{victim} died at {KILLED_AT} of {REFERENCES} references: {repeats} again")  # noqa: T201


IN_FLIGHT, ITEMS_A_CALL = 8, 20


def test_a_vendor_is_asked_again_only_for_what_was_in_flight(stream, tmp_path):
    """At each death in two workers at most: one that has not heard of it goes on for a moment."""
    with emulator.spawn("alibaba", emulator.Settings(latency_s=0.05)) as running:
        within, answers = Quota(200, None, IN_FLIGHT), str(tmp_path / "answers")
        judge = by_vendor(running.url, within, answers, max_items=ITEMS_A_CALL)
        stream.start(judge, "--parallelism=4")
        with stream.producing(0, REFERENCES, make=by_url, a_second=1000):
            for part, die in zip((0.2, 0.4, 0.6, 0.8), DEATHS.values(), strict=True):
                stream.wait_until_told(part * REFERENCES)
                die(stream)
        stream.wait_for_tables(REFERENCES)
        judged = running.stats()["judged_per_data_id"]
    assert stream.outcomes() == truth(REFERENCES)
    again = sum(judged.values()) - REFERENCES
    print(f"{len(DEATHS)} deaths, {REFERENCES} references, {again} of them judged again")  # noqa: T201
    assert again <= 2 * len(DEATHS) * IN_FLIGHT * ITEMS_A_CALL
