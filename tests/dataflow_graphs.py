"""Looks at a pipeline the way Dataflow gets it; run as a script, in an interpreter of its own.

`python dataflow_graphs.py options PIPELINE` prints what the pipeline asks, and
`python dataflow_graphs.py graph PIPELINE --runner=dataflow_graphs.Graph …` what it would submit, as
JSON. Nothing is submitted.
"""

import argparse
import json
import runpy
import sys

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, WorkerOptions
from apache_beam.runners.runner import PipelineResult, PipelineRunner, PipelineState
from apache_beam.transforms import environments
from google.protobuf import json_format


class Done(PipelineResult):
    def wait_until_finish(self, duration=None):
        return self.state


class Graph(PipelineRunner):
    """Turns a pipeline into what is sent to Dataflow, and back again; runs nothing."""

    def run_pipeline(self, pipeline, options):
        image = environments.DockerEnvironment.from_container_image(
            options.view_as(WorkerOptions).sdk_container_image,
            artifacts=environments.python_sdk_dependencies(options),
        )
        sent = pipeline.to_runner_api(default_environment=image)
        beam.Pipeline.from_runner_api(sent, PipelineRunner(), options)
        json.dump({"bytes": sent.ByteSize(), **json_format.MessageToDict(sent)}, sys.stdout)
        return Done(PipelineState.DONE)


class Asked(BaseException):
    """Ends a pipeline when it has said what it asks."""


def _options(path):
    """The options of a pipeline that are none of Beam's, however it parses them."""
    beams = argparse.ArgumentParser(add_help=False)
    for kind in PipelineOptions.__subclasses__():
        kind._add_argparse_args(beams)
    known = {"help", *(action.dest for action in beams._actions)}
    run_pipeline = runpy.run_path(path, run_name="pipeline")["run"]
    parse = argparse.ArgumentParser.parse_known_args

    def parse_known_args(parser, *arguments):
        asked = [action for action in parser._actions if action.dest not in known]
        if asked:
            raise Asked(asked)
        return parse(parser, *arguments)

    argparse.ArgumentParser.parse_known_args = parse_known_args
    try:
        run_pipeline([])
    except Asked as asked:
        (actions,) = asked.args
    for action in actions:
        yield {
            "name": action.dest,
            "required": action.required,
            "help": action.help,
            "choices": list(action.choices or ()),
        }


def main():
    command, path, *arguments = sys.argv[1:]
    if command == "options":
        json.dump(list(_options(path)), sys.stdout)
    else:
        sys.argv = [path, *arguments]
        runpy.run_path(path, run_name="__main__")


if __name__ == "__main__":
    main()
