"""The command `stream`."""

import dataclasses
from typing import Annotated, Literal

import apache_beam as beam
import typer
from rich.console import Console

from beam_moderation import (
    avro,
    errors,
    kafka,
    kafka_partitions,
    kafka_secrets,
    messages,
    progress,
    runs,
    sinks,
    tables,
)
from beam_moderation.cli import jobs, options, streaming
from beam_moderation.cli.moderation import Moderation

_WINDOW = "60s"


@dataclasses.dataclass(frozen=True)
class Client:
    """How Kafka is reached."""

    brokers: Annotated[str, typer.Option(metavar="HOST:PORT,…", help="Brokers of Kafka.")]
    kafka_option: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=VALUE",
            help="Setting of librdkafka, as security.protocol=SASL_SSL. Repeatable.",
        ),
    ] = dataclasses.field(default_factory=list)
    kafka_config: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="YAML of more such settings, secrets too, that each worker can read; or set "
            f"{kafka_secrets.variable('sasl.password')} and the like.",
        ),
    ] = None

    def config(self) -> dict[str, str]:
        """The settings that may travel.

        Raises:
          ConfigurationError: one is no setting, or is a secret.
        """
        config = dict(map(_setting, self.kafka_option))
        return config | {"bootstrap.servers": self.brokers}

    def secrets(self) -> kafka_secrets.KafkaSecrets:
        """Where the other settings are."""
        return kafka_secrets.KafkaSecrets(self.kafka_config)


def _setting(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise errors.ConfigurationError(f"a setting is given as name=value, not '{text}'")
    if kafka_secrets.is_secret(name):
        raise errors.ConfigurationError(
            f"{name} does not belong on a command line: put it into a file, --kafka-config FILE, "
            f"or set {kafka_secrets.variable(name)}"
        )
    return name, value


@dataclasses.dataclass(frozen=True)
class Format:
    """How a message is read, and where the parts of a reference are in it."""

    uri_field: Annotated[
        str, typer.Option(help="Field of the URIs; @key and @header.NAME will do too.")
    ] = messages.FIELDS.uri
    id_field: Annotated[
        str, typer.Option(help="Field of the ids; a message without has its place as its id.")
    ] = messages.FIELDS.data_id
    time_field: Annotated[
        str, typer.Option(help="Field of the event times; else a message's own time counts.")
    ] = messages.FIELDS.time
    content_field: Annotated[str, typer.Option(help="Field of images inline, in base64.")] = (
        messages.FIELDS.content
    )
    carry_field: Annotated[
        list[str], typer.Option(help="Field to carry into the table images. Repeatable.")
    ] = dataclasses.field(default_factory=list)
    avro_registry: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Messages are Avro; the registry of their schemas."),
    ] = None

    def decoder(self) -> messages.Decoder:
        """What makes fields of a message.

        Raises:
          ConfigurationError: the extra for Avro is missing, or the registry does not answer.
        """
        if self.avro_registry is None:
            return messages.decode_json
        decoder = avro.AvroDecoder(self.avro_registry)
        decoder.check()
        return decoder

    def fields(self) -> messages.Fields:
        """The names as the source wants them."""
        return messages.Fields(
            self.id_field,
            self.uri_field,
            self.time_field,
            self.content_field,
            tuple(self.carry_field),
        )


def stream(
    context: typer.Context,
    client: Client,
    topic: Annotated[str, typer.Option(help="Topic of references.")],
    form: Format,
    out: options.Out,
    moderation: Moderation,
    to_topic: Annotated[
        str | None, typer.Option(help="Topic that gets a message for each reference, too.")
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="Consumer group whose offsets show how far the job is.")
    ] = None,
    start: Annotated[
        Literal["earliest", "latest", "committed"],
        typer.Option(help="Where a job begins that has no savepoint."),
    ] = "earliest",
    window: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="Event time whose rows share files, as 60s, 5m or 1h.",
            show_default=_WINDOW,
        ),
    ] = None,
    shards: Annotated[int, typer.Option(min=1, help="Sets of files a window.")] = 1,
    until_latest: Annotated[
        bool, typer.Option("--until-latest", help="End at what is the latest message now.")
    ] = False,
    batch_size: Annotated[
        int, typer.Option(min=1, help="References a batch at most, the unit of retry.")
    ] = kafka_partitions.Subscription.max_messages,
) -> None:
    """Moderates the images that messages of a Kafka topic refer to, as they come.

    With --until-latest it is a backfill: run it again to go on where it stopped.
    """
    if until_latest and window:
        raise errors.ConfigurationError("--window is for streams, and --until-latest makes none")
    seconds = None if until_latest else options.parse_duration(window or _WINDOW)
    beam_options = options.make_beam_options(
        context.args, options.names(context), streams=not until_latest
    )
    config, secrets, decoder = client.config(), client.secrets(), form.decoder()
    subscription = kafka_partitions.Subscription(
        topic,
        config | ({"group.id": group} if group else {}),
        start,
        until_latest,
        max_messages=batch_size,
        secrets=secrets,
    )
    partitions = kafka_partitions.list_partitions(subscription)
    if to_topic:
        kafka_partitions.check_topic(subscription, to_topic)
    written, run_id = tables.Tables(out), runs.new_run_id()
    written.create()
    judge = moderation.transform(written, run_id, resumes=until_latest, secrets=secrets)
    read = kafka.ReadReferencesFromKafka(
        subscription,
        decoder=decoder,
        fields=form.fields(),
        partitions=partitions,
        run_id=run_id,
    )

    def wire(pipeline: beam.Pipeline) -> None:
        outcomes = pipeline | read | judge
        _ = outcomes | sinks.WriteParquet(written, window=seconds, shards=shards)
        if to_topic:
            _ = outcomes | sinks.WriteOutcomesToKafka(to_topic, config, secrets=secrets)

    if not until_latest:
        streaming.run(wire, beam_options, f"{topic} at {client.brokers}", out)
        return
    total = sum(partition.stop - partition.start for partition in partitions)
    jobs.run(
        wire, beam_options, progress.Progress(Console(stderr=True), written, run_id, total), out
    )
    if subscription.commits:
        kafka_partitions.commit_stops(subscription, partitions)
