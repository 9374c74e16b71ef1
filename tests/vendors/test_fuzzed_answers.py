"""Answers that were changed or damaged at random: whatever is read of them, no image passes."""

import json
import xml.etree.ElementTree as ET

import fuzzing
import pytest
from answering import CASES, ITEMS, SCENES, HuaweiV3, TencentScan, response
from hypothesis import example, given
from hypothesis import strategies as st

from beam_moderation import errors
from beam_moderation.vendors import protocol

EXAMPLES = 120
FUZZ_TESTS = 2 * len(CASES)
JUNK = [None, "", "x", "99", -1, 2, 1e300, True, [], {}, [None], {"": None}, [[1]], "\x00"]
"""Values that are nowhere a verdict, and of which none says `pass`."""

BLOCKED = {"porn": "block", "terrorism": "block"}


def mutated(tree, draw):
    """A JSON tree with one place, drawn at random, deleted, repeated or replaced by junk."""
    holder, key = tree, None
    while True:
        keys = range(len(holder)) if isinstance(holder, list) else [*holder]
        if not keys:
            return
        key = draw(st.sampled_from([*keys]))
        child = holder[key]
        if not isinstance(child, (dict, list)) or draw(st.integers(0, 2)) == 0:
            break
        holder = child
    change = draw(st.sampled_from(["delete", "repeat", "junk"]))
    if change == "delete":
        del holder[key]
    elif change == "repeat" and isinstance(holder, list):
        holder.append(holder[key])
    else:
        holder[key] = draw(st.sampled_from(JUNK))


def mutated_xml(body, draw):
    """An XML body with one element, drawn at random, deleted, repeated or replaced by junk."""
    root = ET.fromstring(body)
    parents = {child: parent for parent in root.iter() for child in parent}
    child = draw(st.sampled_from([*parents]))
    parent = parents[child]
    change = draw(st.sampled_from(["delete", "repeat", "text", "rename", "empty", "nest"]))
    if change == "delete":
        parent.remove(child)
    elif change == "repeat":
        parent.append(child)
    elif change == "rename":
        child.tag = draw(st.sampled_from(["X", "Code", "Result", "Score", "DataId", "PornInfo"]))
    elif change == "nest":
        parent.append(ET.fromstring("<Location><X>1</X></Location>"))
    else:
        for grandchild in [*child]:
            child.remove(grandchild)
        child.text = draw(st.sampled_from(["x", "99", "-1", "1e9", "NaN", " ", "é"]))
        child.text = "" if change == "empty" else child.text
    return ET.tostring(root)


def assert_verdicts_or_errors(case, body):
    """Reads an answer that blocks every image; whatever was changed, none of them may pass.

    A scene of v3 passes where its detail is missing, for so it is written; not so all of them.
    """
    try:
        answers = case.read(ITEMS, response(body))
    except errors.VendorError:
        return
    assert len(answers) == len(ITEMS)
    for answer in answers:
        if isinstance(answer, protocol.Judged):
            assert [verdict.scene for verdict in answer.verdicts] == [*SCENES]
            assert all(0 <= verdict.score <= 1 for verdict in answer.verdicts)
            passes = [verdict.suggestion for verdict in answer.verdicts].count("pass")
            assert passes < (len(SCENES) if isinstance(case, HuaweiV3) else 1)
            json.dumps([verdict.detail for verdict in answer.verdicts], allow_nan=False)
        else:
            assert isinstance(answer, (protocol.Pending, protocol.Failed))


@fuzzing.for_seconds
@pytest.mark.parametrize("case", CASES, ids=lambda case: type(case).__name__)
def test_changed_answer_never_passes_an_image(case):
    @fuzzing.fuzzing(EXAMPLES)
    @given(st.data())
    def check(data):
        body = case.body([case.entry(item, BLOCKED) for item in ITEMS])
        for _ in range(data.draw(st.integers(1, 2))):
            if isinstance(case, TencentScan):
                body = mutated_xml(body, data.draw)
            else:
                tree = json.loads(body)
                mutated(tree, data.draw)
                body = json.dumps(tree).encode()
        assert_verdicts_or_errors(case, body)

    fuzzing.repeated(check, FUZZ_TESTS)


@fuzzing.for_seconds
@pytest.mark.parametrize("case", CASES, ids=lambda case: type(case).__name__)
def test_answer_with_damaged_bytes_never_passes_an_image(case):
    body = case.body([case.entry(item, BLOCKED) for item in ITEMS])

    @fuzzing.fuzzing(EXAMPLES)
    @given(st.floats(0, 1), st.integers(0, 40), st.binary(max_size=8))
    @example(0.0, 0, b"\xef\xbb\xbf")
    def check(place, length, bytes_):
        start = int(place * len(body))
        assert_verdicts_or_errors(case, body[:start] + bytes_ + body[start + length :])

    fuzzing.repeated(check, FUZZ_TESTS)
