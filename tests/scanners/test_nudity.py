import math
import pickle

import numpy as np
import pytest
from PIL import Image
from scanned import ask, gradient

from beam_moderation import errors, models, scanners
from beam_moderation.scanners import nudity
from beam_moderation.scanners.boxes import Box


@pytest.fixture(scope="module")
def detector():
    pytest.importorskip("nudenet")
    scanner = scanners.by_name("nudity")
    scanner.load()
    return scanner


@pytest.fixture(scope="module")
def portrait():
    data = pytest.importorskip("skimage.data")
    return Image.fromarray(data.astronaut())


def test_frame_without_people_is_normal(detector):
    found, detail = ask(detector, gradient())
    assert found == {"porn": 0.0, "sexy": 0.0, "normal": 1.0}
    assert detail == {}


def test_portrait_is_normal_and_its_face_is_in_the_detail(detector, portrait):
    found, detail = ask(detector, portrait)
    assert found == {"porn": 0.0, "sexy": 0.0, "normal": 1.0}
    assert detail["classes"]["FACE_FEMALE"]["score"] > 0.7


@pytest.mark.parametrize("box", [None, (60, 0, 460, 300), (100, 40, 400, 500)])
def test_detections_are_those_of_nudenet_itself_on_rgb(detector, portrait, box):
    nudenet = pytest.importorskip("nudenet")
    frame = portrait.crop(box) if box else portrait
    # What NudeNet takes for BGR it hands to the model in the order that it came in.
    theirs = nudenet.NudeDetector().detect(np.asarray(frame))
    ours = ask(detector, frame)[1]["classes"]
    assert {seen["class"] for seen in theirs} == set(ours)
    for seen in theirs:
        left, top, width, height = seen["box"]
        corners = [(left, top), (left + width, top + height)]
        assert ours[seen["class"]]["score"] == pytest.approx(seen["score"], abs=0.1)
        assert ours[seen["class"]]["box"] == pytest.approx(
            Box.around(corners, *frame.size), abs=0.03
        )


def test_a_class_counts_as_what_it_is_mapped_to(portrait):
    pytest.importorskip("nudenet")
    strict = scanners.Nudity(classes={"FACE_FEMALE": "sexy"})
    strict.load()
    assert strict.labels == {"porn": frozenset({"normal", "sexy"})}
    found, detail = ask(strict, portrait)
    assert found["sexy"] == detail["classes"]["FACE_FEMALE"]["score"]
    assert math.isclose(found["normal"], 1 - found["sexy"])
    assert strict.provider != scanners.Nudity().provider


@pytest.mark.parametrize("classes", [{"KNEE": "porn"}, {"FACE_MALE": "block"}])
def test_unknown_class_or_label_is_refused(classes):
    pytest.importorskip("nudenet")
    with pytest.raises(errors.ConfigurationError, match="no class or label of NudeNet's"):
        scanners.Nudity(classes=classes)


def test_classes_are_those_of_the_model(detector):
    session = detector._network._session.inference
    names = session.get_modelmeta().custom_metadata_map["names"]
    assert names == str(dict(enumerate(nudity.CLASSES)))


def test_batches_give_what_single_frames_give(detector, portrait):
    batched = scanners.Nudity(runtime=models.Runtime(batch_size=4))
    batched.load()
    frames = [portrait, gradient(), portrait.rotate(90)]
    together = batched.judge([batched.prepare(frame) for frame in frames])
    for [found], frame in zip(together, frames, strict=True):
        assert dict(found.findings) == pytest.approx(ask(detector, frame)[0], abs=1e-4)


def test_scanner_can_be_pickled(detector, portrait):
    copy = pickle.loads(pickle.dumps(detector))
    copy.load()
    assert copy.provider == detector.provider
    assert ask(copy, portrait) == ask(detector, portrait)
