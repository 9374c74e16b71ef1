"""A sink that survives its worker: each process appends lines to a file of its own."""

import os
import pathlib

import apache_beam as beam


class Record(beam.DoFn):
    """Appends its elements, lines of text, when their bundle ends: at least once."""

    def __init__(self, folder):
        self._folder = str(folder)

    def start_bundle(self):
        self._lines = []

    def process(self, line):
        self._lines.append(f"{line}\n")

    def finish_bundle(self):
        with pathlib.Path(self._folder, f"{os.getpid()}.txt").open("a") as file:
            file.writelines(self._lines)


def recorded(folder):
    """Every line of every process."""
    return [line for file in folder.iterdir() for line in file.read_text().splitlines()]
