import subprocess
import sys

import pytest

from beam_moderation import errors, scanners
from beam_moderation.scanners import packages
from beam_moderation.scanners.boxes import Box


def test_an_unknown_scanner_is_refused():
    with pytest.raises(errors.ConfigurationError, match="there are nudity, qrcode, text"):
        scanners.by_name("faces")


def test_no_scanner_package_is_imported_before_it_is_needed():
    code = (
        "import sys, beam_moderation.scanners;"
        "print({'zxingcpp', 'rapidocr', 'cv2', 'nudenet'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    "call",
    [
        lambda: packages.version("no-such-package", "qrcode"),
        lambda: packages.load("no_such_package", "no-such-package", "qrcode"),
        lambda: packages.file("no-such-package", "qrcode", "*.onnx"),
    ],
)
def test_a_missing_package_is_one_line_that_names_the_extra(call):
    with pytest.raises(errors.ConfigurationError) as caught:
        call()
    assert str(caught.value) == (
        "no-such-package is not installed: pip install 'beam-moderation[qrcode]'"
    )


def test_another_version_than_where_the_job_was_built_is_refused():
    found = packages.version("pillow", "none")
    packages.require_version("pillow", "none", found)
    with pytest.raises(errors.ConfigurationError, match=f"pillow is {found} here and 1.0"):
        packages.require_version("pillow", "none", "1.0")


def test_boxes_are_fractions_of_the_frame_and_stay_in_it():
    assert Box.around([(10, 20), (50, 5)], 100, 40) == Box(0.1, 0.125, 0.5, 0.5)
    assert Box.around([(-3, -1), (500, 500)], 100, 40) == Box(0, 0, 1, 1)
