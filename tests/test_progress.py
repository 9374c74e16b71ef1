import io
import re
import threading

import pytest
from outcomes import dead_letter, image, outcome, scene
from rich.console import Console

from beam_moderation import metrics, progress, records, tables


@pytest.fixture
def written(tmp_path):
    return tables.Tables(str(tmp_path))


def write(written, *data_ids, run_id="mine", file="f", dead=()):
    """A batch for each reference."""
    for data_id in data_ids:
        row = {"run_id": run_id, "source": f"{file}#{data_id}"}
        batch_id = records.stable_id(run_id, file, data_id)
        if data_id in dead:
            written.write(outcome(batch_id, dead_letters=[dead_letter(data_id, **row)]))
        else:
            written.write(outcome(batch_id, [scene(data_id, **row)], [image(data_id, **row)]))


def line(written, total=10, files=("f",)):
    watch = progress.Progress(Console(file=io.StringIO()), written, "mine", total, files)
    watch._look()
    return watch._line()


def test_what_was_not_begun_has_no_rate_and_no_time_left(written):
    assert line(written) == "0 / 10 references · 0.0 references/s · 0 dead letters"


def test_references_and_dead_letters_of_this_run_are_counted(written):
    write(written, "a", "b", "c", dead="b")
    assert line(written).startswith("3 / 10 references · ")
    assert " · 1 dead letters · " in line(written)
    assert line(written).endswith(" left")


def test_what_an_earlier_run_did_of_the_same_files_is_done(written):
    write(written, "a", "b", run_id="killed", dead="a")
    write(written, "x", run_id="killed", file="another")
    assert line(written, 4).startswith("2 / 4 references · 0.0 references/s · 1 dead letters")
    write(written, "c", "d")
    assert line(written, 4).startswith("4 / 4 references · ")
    assert line(written, 4).endswith("0:00 left")


def test_what_this_run_does_again_was_done_by_other_judges(written):
    write(written, *"abcd", run_id="other-policy")
    write(written, "b", run_id="killed")
    write(written, "a")
    assert line(written, 4).startswith("2 / 4 references · ")


def test_what_is_done_again_was_done_before(written):
    write(written, "a", "b", "c", run_id="killed", dead="ab")
    repeated = [scene("a", run_id="mine")], [image("a", run_id="mine")]
    written.write(outcome(f"{records.stable_id('killed', 'f', 'a')}.2", *repeated))
    assert line(written, 3).startswith("3 / 3 references · ")
    assert " · 1 dead letters · 0:00 left" in line(written, 3)


def test_the_signature_of_a_file_does_not_make_it_another(written):
    write(written, "a", run_id="killed", file="https://h/r.parquet")
    assert line(written, 4, ["https://h/r.parquet?sig=testsecret"]).startswith("1 / 4 ")


class Listened(io.StringIO):
    """Calls back when something is printed."""

    def __init__(self, hear):
        super().__init__()
        self.hear = hear

    def write(self, text):
        count = super().write(text)
        self.hear(self.getvalue())
        return count


@pytest.fixture
def shown(monkeypatch, written):
    """What a console shows until it shows `awaited`, while a batch is committed."""
    monkeypatch.setattr(progress, "_PERIOD_S", 0.01)
    monkeypatch.setattr(progress, "_PLAIN_PERIOD_S", 0.01)

    def show(awaited, live, store=written):
        seen = threading.Event()
        file = Listened(lambda text: re.search(awaited, text) and seen.set())
        console = Console(file=file, force_terminal=live, width=200)
        with progress.Progress(console, store, "mine", 10, ["f"]):
            write(written, "a")
            assert seen.wait(60)
        return file.getvalue()

    return show


def test_a_terminal_has_one_line_that_changes(shown):
    text = shown(r"1 / 10 references", live=True)
    assert "\x1b[" in text


def test_elsewhere_a_plain_line_is_printed_time_and_again(shown):
    lines = shown(r"(?s)\n1 / 10 references.*\n1 / 10 references.*\n", live=False).splitlines()
    assert all(re.fullmatch(r"\d+ / 10 references · [\d.]+ references/s · .*", t) for t in lines)


class Unlisted(tables.Tables):
    """Fails three times to list its batches."""

    failures = 3

    def batch_ids(self):
        self.failures -= 1
        if self.failures >= 0:
            raise RuntimeError("the store is away")
        return super().batch_ids()


@pytest.mark.parametrize("live", [True, False])
def test_a_listing_that_fails_is_tried_again(shown, tmp_path, live):
    assert "1 / 10 references" in shown(r"1 / 10 ", live=live, store=Unlisted(str(tmp_path)))


def test_looking_takes_a_small_share_of_the_time(written, monkeypatch):
    waits = []
    watch = progress.Progress(Console(file=io.StringIO()), written, "mine", 10)
    monkeypatch.setattr(watch, "_look", lambda: 7.0)
    monkeypatch.setattr(watch._stopped, "wait", lambda wait_s: waits.append(wait_s) or waits[1:])
    watch._run()
    assert waits == [progress._PLAIN_PERIOD_S, 70.0]


def test_summary_shows_scenes_dead_letters_and_what_was_there_already():
    summary = metrics.Summary(12, 9, {"image-broken": 3}, {("ad", "review"): 9}, 2, 18)
    printed = io.StringIO()
    progress.print_summary(Console(file=printed, width=100), summary, 5.0, "out/x")
    text = printed.getvalue()
    assert "12 references: 9 images judged, 3 dead letters · 2 were there already" in text
    assert "18 billed units" in text
    assert "2.0 references/s" in text
    assert "image-broken" in text
