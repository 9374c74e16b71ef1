"""Rows that people decided, and the markers of what became of telling them."""

import uuid

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from beam_moderation import decisions, durable_files, errors, vendors

DECISION = decisions.read_row({"uri": "https://img.example.com/0.jpg", "suggestion": "pass"})


def test_accounts_have_markers_of_their_own(tmp_path):
    accounts = [
        vendors.Alibaba(region="cn-shanghai"),
        vendors.Alibaba(region="cn-beijing"),
        vendors.Tencent("a-1", "ap-guangzhou"),
        vendors.Tencent("b-1", "ap-guangzhou"),
        vendors.Huawei("cn-north-4"),
    ]
    markers = [decisions.Markers(str(tmp_path), vendor) for vendor in accounts]
    assert [one.begin(DECISION) for one in markers] == [None] * 5
    assert [one.begin(DECISION) for one in markers] == ["unknown"] * 5


def test_markers_on_an_object_store_are_made_once():
    markers = decisions.Markers(f"memory://{uuid.uuid4().hex}", vendors.Alibaba())
    assert markers.begin(DECISION) is None
    markers.end(DECISION, decisions.TAKEN)
    assert markers.begin(DECISION) == "taken"
    markers.forget(DECISION)
    assert markers.begin(DECISION) is None


class Heedless(MemoryFileSystem):
    """An object store's filesystem that writes whatever `mode` says."""

    protocol = "heedless"

    def pipe_file(self, path, value, mode="overwrite", **options):
        super().pipe_file(path, value)


def test_a_filesystem_that_does_not_heed_create_replaces_no_marker():
    filesystem = Heedless()
    assert durable_files.create(filesystem, "/m/1", b"first")
    assert not durable_files.create(filesystem, "/m/1", b"second")
    assert filesystem.cat_file("/m/1") == b"first"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"state": "what"}', b"\xff"])
def test_of_a_damaged_marker_nothing_is_known(content):
    filesystem, folder = MemoryFileSystem(), uuid.uuid4().hex
    markers = decisions.Markers(f"memory://{folder}", vendors.Alibaba())
    markers.begin(DECISION)
    (path,) = filesystem.find(f"/{folder}")
    filesystem.pipe_file(path, content)
    assert markers.begin(DECISION) == "unknown"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "uri"),
        ({"uri": "", "suggestion": "pass"}, "uri"),
        ({"uri": "u"}, "suggestion"),
        ({"uri": "u", "suggestion": "delete"}, "suggestion"),
        ({"uri": "u", "suggestion": "pass", "scenes": 7}, "scenes"),
        ({"uri": 7, "suggestion": "pass"}, "uri"),
    ],
)
def test_a_row_that_is_no_decision_says_why(row, reason):
    with pytest.raises(errors.ReferenceInvalid, match=reason):
        decisions.read_row(row)


def test_a_number_may_be_a_decisions_id():
    ids = [
        decisions.read_row({"uri": "u", "suggestion": "pass", "decision_id": name}).id
        for name in (7, "7", 8)
    ]
    assert ids[0] == ids[1] != ids[2]


def test_the_label_of_a_row_is_the_vendors_as_in_the_table_scenes():
    human = decisions.read_row(
        {"uri": "u", "suggestion": "pass", "label": "Porn", "right_label": "Normal"}
    ).human
    assert (human.vendor_label, human.label) == ("Porn", "Normal")


def test_scenes_may_be_a_list_a_text_or_one():
    for more in ({"scenes": ["porn", "ad"]}, {"scenes": "porn, ad"}):
        human = decisions.read_row({"uri": "u", "suggestion": "block", **more}).human
        assert list(human.scenes) == ["porn", "ad"]
    assert list(
        decisions.read_row({"uri": "u", "suggestion": "block", "scene": "ad"}).human.scenes
    ) == ["ad"]
