"""Kept answers: what is written is read back, and never half a file."""

import json
import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pytest

from beam_moderation import errors, records
from beam_moderation.vendors import Alibaba, Huawei, KeptAnswers, Outcome, Tencent, protocol
from beam_moderation.vendors.kept import RecentAnswers, item_key, options_key

VERDICT = protocol.Verdict(
    "porn", "porn", 0.99, "block", "sub", [records.Finding("porn", 0.99)], {"frames": [{"rate": 9}]}
)
JUDGED = Outcome(protocol.Judged([VERDICT], "t", "r", 2), 1, 0.5, 1715243415.25)
PENDING = Outcome(protocol.Pending("img$a@b", "r"), 2, 0.5, 1715243415.25)


def kept_in(folder, vendor=None):
    return KeptAnswers(str(folder), vendor or Alibaba())


def failed(error):
    return Outcome(protocol.Failed(error, "t", None, "porn"), 3, 0.1, 1.0)


def test_outcomes_are_read_back_as_they_were(tmp_path):
    outcomes = {"a": JUDGED, "b": PENDING}
    kept_in(tmp_path).write("batch", outcomes)
    assert kept_in(tmp_path).read("batch") == outcomes


@pytest.mark.parametrize(
    "error",
    [
        errors.VendorRefusedInput("no such image (404)", vendor_code="404"),
        errors.VendorThrottled("slow down", vendor_code="588", retry_after_s=3.0),
        errors.VendorTaskGone("gone"),
    ],
    ids=lambda error: error.code,
)
def test_failure_is_read_back_with_its_class_code_and_message(tmp_path, error):
    kept_in(tmp_path).write("batch", {"a": failed(error)})
    answer = kept_in(tmp_path).read("batch")["a"].answer
    assert type(answer.error) is type(error)
    assert (str(answer.error), answer.error.vendor_code) == (str(error), error.vendor_code)
    assert (answer.scene, answer.task_id) == ("porn", "t")


@pytest.mark.parametrize("first", ["final", "pending"])
def test_final_outcome_hides_the_pending_one_whichever_is_read_first(tmp_path, first):
    written = [{"a": JUDGED, "b": JUDGED}, {"a": PENDING}]
    for outcomes in written if first == "final" else reversed(written):
        kept_in(tmp_path).write("batch", outcomes)
    assert kept_in(tmp_path).read("batch") == {"a": JUDGED, "b": JUDGED}


def test_what_came_after_a_folder_was_read_is_read_too(tmp_path):
    kept = kept_in(tmp_path)
    for key in "ab":
        kept_in(tmp_path).write("batch", {key: JUDGED})
        assert kept.read("batch").pop(key) == JUDGED
    assert kept.read("batch").keys() == {"a", "b"}


def test_few_folders_are_remembered(tmp_path):
    kept = kept_in(tmp_path)
    for number in range(kept.MAX_FOLDERS + 2):
        kept.read(f"batch{number}")
    assert len(kept._recent) == kept.MAX_FOLDERS


def test_file_that_was_not_finished_is_not_read(tmp_path):
    kept = kept_in(tmp_path)
    kept.write("batch", {"a": JUDGED})
    (file,) = tmp_path.rglob("*.json")
    file.with_suffix(".json.part").write_bytes(b'{"a": {"jud')
    assert kept.read("batch") == {"a": JUDGED}


def test_file_that_is_not_ours_is_reported_by_name_and_not_paid_over(tmp_path):
    kept = kept_in(tmp_path)
    kept.write("batch", {"a": JUDGED})
    (file,) = tmp_path.rglob("*.json")
    for content in (b"", b"{", b'{"a": {}}', b"[]", b'{"a": {"failed": {"code": "x"}}}'):
        file.write_bytes(content)
        with pytest.raises(errors.ConfigurationError, match=file.name):
            kept.read("batch")


def test_files_are_json_that_people_can_read(tmp_path):
    kept_in(tmp_path).write("batch", {"a": JUDGED})
    (file,) = tmp_path.rglob("*.json")
    assert json.loads(file.read_text())["a"]["judged"]["verdicts"][0]["label"] == "porn"
    assert file.parent.name == "batch"
    assert file.parent.parent.name.startswith("alibaba-2018-05-09-")


def test_object_stores_are_written_without_a_temporary_file():
    kept = KeptAnswers("memory://kept-answers", Alibaba())
    kept.write("batch", {"a": JUDGED})
    assert kept.read("batch") == {"a": JUDGED}
    assert [name[-5:] for name in fsspec.filesystem("memory").find("/kept-answers")] == [".json"]


def test_an_answer_is_on_the_disk_before_it_is_acted_on(tmp_path, monkeypatch):
    synced = []
    sync = os.fsync

    def noted(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    kept_in(tmp_path).write("batch", {"a": JUDGED})
    (file,) = tmp_path.rglob("*.json")
    assert synced[0].startswith(str(file))
    assert str(file.parent) in synced[1:]


def test_an_answer_that_is_written_twice_at_once_is_whole(tmp_path):
    kept = kept_in(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: kept.write("batch", {"a": JUDGED}), range(64)))
    assert kept.read("batch") == {"a": JUDGED}
    assert [path.suffix for path in tmp_path.rglob("*") if path.is_file()] == [".json"]


def test_recent_answers_are_remembered_and_old_ones_make_room():
    recent = RecentAnswers()
    recent.write("first", {"a": PENDING})
    recent.write("first", {"a": JUDGED, "b": JUDGED})
    assert recent.read("first") == {"a": JUDGED, "b": JUDGED}
    for number in range(recent.MAX_BATCHES):
        recent.write(str(number), {"a": JUDGED})
    assert recent.read("first") == {}
    assert recent.read("0") == {"a": JUDGED}


@pytest.mark.parametrize("batch_id", ["", "..", "a/b", "a b", "x" * 201])
def test_batch_whose_id_is_no_folder_is_refused(tmp_path, batch_id):
    with pytest.raises(ValueError, match="folder"):
        kept_in(tmp_path).read(batch_id)


def test_url_without_a_filesystem_is_a_mistake_of_the_operator():
    with pytest.raises(errors.ConfigurationError, match="nosuch"):
        KeptAnswers("nosuch://x", Alibaba())


def test_key_of_an_item_depends_on_all_that_is_asked():
    items = [
        protocol.Item("a"),
        protocol.Item("a", url="https://x.example"),
        protocol.Item("a", object_key="https://x.example"),
        protocol.Item("a", content=b"x"),
        protocol.Item("a", content=b"y"),
        protocol.Item("b", content=b"y"),
    ]
    assert len({item_key(item) for item in items}) == len(items)


def test_key_of_the_options_depends_on_those_that_change_a_verdict():
    keys = {
        options_key(vendor)
        for vendor in (
            Alibaba(),
            Alibaba(scenes=("ad",)),
            Alibaba(biz_type="b"),
            Alibaba(extras={"k": "v"}),
            Tencent("b-1", "ap-guangzhou"),
            Huawei("cn-north-4"),
        )
    }
    assert len(keys) == 6
    same = Alibaba(max_items=50, endpoint="http://127.0.0.1:1", first_look_s=1.0)
    assert options_key(same) == options_key(Alibaba())
    assert options_key(pickle.loads(pickle.dumps(Alibaba()))) == options_key(Alibaba())
