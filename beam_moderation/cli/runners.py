"""What a runner must be told to stream, and the options that only Flink's job server knows."""

from collections.abc import Sequence

from apache_beam.runners import create_runner

from beam_moderation import errors

FLINK_OPTIONS = (
    "allow_non_restored_state",
    "attached_mode",
    "auto_watermark_interval",
    "checkpoint_timeout_millis",
    "checkpointing_interval",
    "checkpointing_mode",
    "disable_metrics",
    "enable_stable_input_drain",
    "execution_mode_for_batch",
    "execution_retry_delay",
    "externalized_checkpoints_enabled",
    "fail_on_checkpointing_errors",
    "faster_copy",
    "finish_bundle_before_checkpointing",
    "flink_conf_dir",
    "force_unaligned_checkpoint_enabled",
    "job_check_interval_in_secs",
    "latency_tracking_interval",
    "max_bundle_size",
    "max_bundle_time_mills",
    "min_pause_between_checkpoints",
    "num_concurrent_checkpoints",
    "number_of_execution_retries",
    "object_reuse",
    "operator_chaining",
    "report_checkpoint_duration",
    "retain_externalized_checkpoints_on_cancellation",
    "savepoint_path",
    "shutdown_sources_after_idle_ms",
    "state_backend",
    "state_backend_factory",
    "state_backend_storage_path",
    "unaligned_checkpoint_enabled",
)
"""The properties of Beam's `FlinkPipelineOptions` for which Python has no option."""

_ON_FLINK = (
    "--checkpointing_interval=10000",
    "--checkpoint_timeout_millis=1800000",
    "--max_bundle_time_mills=500",
    "--finish_bundle_before_checkpointing",
)
"""Why each of them: docs/adr/0005-kafka-source.md."""

_FLINK = ("flink", "portable")
_BATCH_ONLY = ("fnapi", "direct", "switchingdirect", "bundlebaseddirect", "interactive", "spark")


def kind(runner: str) -> str:
    """The shortest of a runner's names: `flink` of `FlinkRunner`."""
    return runner.rpartition(".")[2].lower().removesuffix("runner")


def check(runner: str) -> None:
    """Looks whether there is a runner.

    Raises:
      ConfigurationError: there is none of that name, or an extra of Beam's is missing.
    """
    try:
        create_runner(runner)
    except (ImportError, AttributeError, ValueError) as error:
        raise errors.ConfigurationError(str(error)) from error


def streaming_arguments(runner: str, arguments: Sequence[str]) -> list[str]:
    """What to add to a job's options so that it streams, unless it is there.

    Raises:
      ConfigurationError: the runner cannot stream.
    """
    if kind(runner) in _BATCH_ONLY:
        raise errors.ConfigurationError(
            f"{runner} does not stream: name a runner that does, as --runner=FlinkRunner "
            "--flink_master=HOST:8081, or end at what is there now: --until-latest"
        )
    given = {word.partition("=")[0] for word in arguments}
    wanted = ["--streaming", *(_ON_FLINK if kind(runner) in _FLINK else ())]
    return [word for word in wanted if word.partition("=")[0] not in given]
