"""A run of a job has a name, which its rows carry."""

import uuid

from apache_beam.utils.timestamp import Timestamp


def new_run_id() -> str:
    """A name for a run, which sorts by its time."""
    return f"{Timestamp.now().to_utc_datetime():%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
