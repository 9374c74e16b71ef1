import pickle

import pytest
from outcomes import dead_letter, image, outcome, scene

from beam_moderation import errors, records, resumption
from beam_moderation.tables import Tables

IDS = "abcd"
IMAGES, DEAD_LETTERS = records.ImageResult, records.DeadLetter


@pytest.fixture
def written(tmp_path):
    return Tables(str(tmp_path))


def batch(*ids):
    rows = [records.ImageReference(n, f"{n}.jpg", None, None, "{}", f"f#{n}") for n in ids or IDS]
    return records.ReferenceBatch(
        "b",
        records.to_arrow(rows, records.ImageReference),
        records.to_arrow([dead_letter("f#x", stage="read", source="f#x")], records.DeadLetter),
    )


def write(written, name="o", judged=(), dead=(), run_id="earlier"):
    """An outcome: references that were judged, and codes of those that were not by their ids."""
    letters = [
        dead_letter(data_id, code=code, retryable=code == "fetch-timeout", run_id=run_id)
        for data_id, code in dict(dead).items()
    ]
    scenes = [scene(data_id, run_id=run_id) for data_id in judged]
    images = [image(data_id, run_id=run_id) for data_id in judged]
    written.write(outcome(name, scenes, images, letters))


def split(written, *again, run_id="now"):
    return resumption.Resumption(written, again, run_id).split(batch(), "o")


def judged(outcomes):
    return [row.data_id for o in outcomes for row in records.from_arrow(o.images, IMAGES)]


def dead(outcomes):
    letters = [row for o in outcomes for row in records.from_arrow(o.dead_letters, DEAD_LETTERS)]
    return {row.data_id: row.code for row in letters}


def test_without_tables_all_is_to_be_done():
    outcomes, rest = resumption.Resumption(None).split(batch(), "o")
    assert (outcomes, rest.outcome_id, len(rest.batch)) == ([], "o", 5)


def test_a_batch_that_is_not_there_is_to_be_done(written):
    outcomes, rest = split(written, "fetch-not-found")
    assert (outcomes, rest.outcome_id, rest.batch.id) == ([], "o", "b")


def test_what_is_there_stands(written):
    write(written, judged="abc", dead={"d": "fetch-not-found"})
    outcomes, rest = split(written)
    assert rest is None
    assert (judged(outcomes), dead(outcomes)) == ([*"abc"], {"d": "fetch-not-found"})


def test_dead_letters_of_a_code_are_the_rest(written):
    write(written, judged="a", dead={"b": "fetch-not-found", "c": "image-broken", "d": "error"})
    outcomes, rest = split(written, "fetch-not-found", "image-broken")
    assert [reference.data_id for reference in rest.batch] == ["b", "c"]
    assert (rest.outcome_id, rest.batch.id) == ("o.2", "b.2")
    assert (judged(outcomes), dead(outcomes)) == (["a"], {"d": "error"})


def test_retryable_stands_for_all_codes_that_are(written):
    write(written, dead={"a": "fetch-timeout", "b": "fetch-not-found"})
    _, rest = split(written, resumption.RETRYABLE)
    assert [reference.data_id for reference in rest.batch] == ["a"]


def test_a_row_that_could_not_be_read_is_not_done_again(written):
    write(written, judged=IDS, dead={"f#x": "error"})
    outcomes, rest = split(written, "error")
    assert rest is None
    assert dead(outcomes) == {"f#x": "error"}


def test_what_was_done_again_stands_in_the_place_of_what_was_there(written):
    write(written, judged="a", dead={"b": "error", "c": "error"})
    write(written, "o.2", judged="b", dead={"c": "image-broken"})
    outcomes, rest = split(written)
    assert rest is None
    assert (judged(outcomes), dead(outcomes)) == (["a", "b"], {"c": "image-broken"})


def test_what_ends_in_a_dead_letter_again_is_done_a_third_time(written):
    write(written, judged="a", dead={"b": "error", "c": "error"})
    write(written, "o.2", judged="b", dead={"c": "error"})
    outcomes, rest = split(written, "error")
    assert rest.outcome_id == "o.3"
    assert [reference.data_id for reference in rest.batch] == ["c"]
    assert (judged(outcomes), dead(outcomes)) == (["a", "b"], {})


def test_dead_letters_of_two_codes_are_done_again_one_after_the_other(written):
    write(written, judged="a", dead={"b": "error", "c": "image-broken", "d": "fetch-timeout"})
    write(written, "o.2", judged="b")
    outcomes, rest = split(written, "image-broken")
    assert rest.outcome_id == "o.3"
    assert [reference.data_id for reference in rest.batch] == ["c"]
    assert (judged(outcomes), dead(outcomes)) == (["a", "b"], {"d": "fetch-timeout"})
    write(written, "o.3", judged="c")
    outcomes, rest = split(written)
    assert rest is None
    assert (judged(outcomes), dead(outcomes)) == (["a", "b", "c"], {"d": "fetch-timeout"})


def test_a_run_does_nothing_twice(written):
    write(written, dead={"a": "error"})
    write(written, "o.2", dead={"a": "error"}, run_id="now")
    outcomes, rest = split(written, "error")
    assert rest is None
    assert dead(outcomes) == {"a": "error"}


def test_an_unknown_code_is_the_users_mistake(written):
    with pytest.raises(errors.ConfigurationError, match=r"'nope'; there are .*image-broken"):
        resumption.Resumption(written, ["nope"])


def test_nothing_is_done_again_without_tables():
    with pytest.raises(errors.ConfigurationError):
        resumption.Resumption(None, ["error"])


def test_it_travels(written):
    write(written, judged=IDS)
    travelled = pickle.loads(pickle.dumps(resumption.Resumption(written, ["error"], "now")))
    assert judged(travelled.split(batch(), "o")[0]) == [*IDS]
