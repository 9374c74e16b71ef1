"""Whoever dies, every reference has one outcome in the tables as their readers see them."""

import pytest
from stream_jobs import bright, expected, restart

pytestmark = [pytest.mark.integration, pytest.mark.services, pytest.mark.timeout(1500)]

REFERENCES = 20_000
KILLED_AT = (0.2, 0.5, 0.8)

DEATHS = {
    "the Python worker": lambda stream: stream.python_worker().kill(),
    "the TaskManager": lambda stream: restart(stream.flink.task_managers[0]),
    "the JobManager": lambda stream: restart(stream.flink.job_manager),
    "the broker": lambda stream: restart(stream.kafka.broker),
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
