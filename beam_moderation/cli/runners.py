"""What a runner must be told to stream, and the options that only Flink's job server knows."""

from collections.abc import Sequence

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
    "--max_bundle_time_mills=500",
    "--finish_bundle_before_checkpointing",
)
"""Why each of them: docs/adr/0005-kafka-source.md."""

_FLINK = ("flinkrunner", "portablerunner")
_BATCH_ONLY = (
    "fnapirunner",
    "directrunner",
    "switchingdirectrunner",
    "bundlebaseddirectrunner",
    "interactiverunner",
    "sparkrunner",
)


def streaming_arguments(runner: str, arguments: Sequence[str]) -> list[str]:
    """What to add to a job's options so that it streams, unless it is there.

    Raises:
      ConfigurationError: the runner cannot stream.
    """
    kind = runner.rpartition(".")[2].lower()
    if kind in _BATCH_ONLY:
        raise errors.ConfigurationError(
            f"{runner} does not stream: name a runner that does, as --runner=FlinkRunner "
            "--flink_master=HOST:8081, or end at what is there now: --until-latest"
        )
    given = {word.partition("=")[0] for word in arguments}
    wanted = ["--streaming", *(_ON_FLINK if kind in _FLINK else ())]
    return [word for word in wanted if word.partition("=")[0] not in given]
