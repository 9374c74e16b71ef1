import io

from outcomes import dead_letter, image, outcome, scene
from rich.console import Console

from beam_moderation import metrics, progress, tables


def line(written, run_id, total=10):
    watch = progress.Progress(Console(file=io.StringIO()), written, run_id, total)
    with watch:
        yield watch._line()
        watch._look()
        yield watch._line()


def test_only_what_this_run_committed_counts(tmp_path):
    written = tables.Tables(str(tmp_path))
    written.write(outcome("before", images=[image(run_id="other")]))
    lines = line(written, "mine")
    assert next(lines).startswith("0 / 10 references")
    written.write(outcome("b1", [scene(run_id="mine")], [image(run_id="mine")]))
    written.write(outcome("b2", dead_letters=[dead_letter(run_id="mine")]))
    written.write(outcome("b3", images=[image(run_id="other")]))
    shown = next(lines)
    assert shown.startswith("2 / 10 references")
    assert "1 dead letters" in shown
    assert "left" not in shown
    lines.close()


def test_the_time_left_is_shown_where_nothing_was_there_before(tmp_path):
    written = tables.Tables(str(tmp_path))
    lines = line(written, "mine")
    next(lines)
    written.write(outcome("b1", [scene(run_id="mine")], [image(run_id="mine")]))
    assert next(lines).endswith(" left")
    lines.close()


def test_summary_shows_scenes_dead_letters_and_what_was_there_already():
    summary = metrics.Summary(12, 9, {"image-broken": 3}, {("ad", "review"): 9}, 2, 18)
    printed = io.StringIO()
    progress.print_summary(Console(file=printed, width=100), summary, 5.0, "out/x")
    text = printed.getvalue()
    assert "12 references: 9 images judged, 3 dead letters · 2 were there already" in text
    assert "18 billed units" in text
    assert "2.0 images/s" in text
    assert "image-broken" in text
