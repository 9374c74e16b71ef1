"""Text, read with rapidocr (Apache-2.0) and the PP-OCR models in its wheel: scene `ad`."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from beam_moderation import errors, judges, records
from beam_moderation.models.once import Once
from beam_moderation.preparations import TEXT_MIN_SIDE, Page, Scan
from beam_moderation.scanners import contacts, packages
from beam_moderation.scanners.boxes import Box

SCENE = "ad"
MAX_LINES = 50
MAX_LENGTH = 200
"""How many lines and matches, and how many characters of each, `detail` holds."""


class Line(NamedTuple):
    """A line of recognised text."""

    text: str
    confidence: float
    box: Box


class Text:
    """Reads the text in a frame and looks for what advertisements hold.

    Labels: `contact` (telephone number, e-mail address, id of a messenger), `link` (web address),
    one for each list of `words`, and `normal` where nothing of that was found. A score is the
    confidence of the surest line in which the label was found.

    `detail` has `lines` (text, confidence, box as fractions of the frame) and `matches` (label,
    kind, text), both cut to a bounded length.

    With `max_side` 736 a megapixel costs about 0.7 CPU seconds, and letters of 16 pixels in it
    are read; 960 costs 1.2 seconds; 1280 1.7 seconds and reads letters of 12 pixels.

    Args:
      words: what else to look for: words by the label that they give.
      max_side: to which the longer side of a frame is scaled down, in pixels.

    Raises:
      ConfigurationError: the extra `text` is not installed, or a label has no words.
    """

    def __init__(
        self, words: Mapping[str, Iterable[str]] | None = None, max_side: int = 736
    ) -> None:
        listed = {label: sorted(some) for label, some in (words or {}).items()}
        for label, some in listed.items():
            if not some or not all(word.strip() for word in some):
                raise errors.ConfigurationError(f"the words of label '{label}' are empty")
        self._version = packages.version("rapidocr", "text")
        options = judges.fingerprint(listed, max_side)
        self.provider = f"rapidocr@{self._version}+{options}"
        found = {contacts.CONTACT, contacts.LINK, *listed}
        self.labels: Mapping[str, frozenset[str]] = {SCENE: frozenset({"normal", *found})}
        self.sufficient_size: tuple[int, int] | None = (max_side, max_side)
        self.max_batch = 1
        self.prepare: judges.Preparation = Scan(max_side)
        self._max_side = max_side
        self._words = contacts.Words(listed)
        self._engine: Any = None

    def load(self) -> None:
        """Loads the models; every copy in the process shares them.

        Raises:
          ConfigurationError: rapidocr is missing here, or another than where the job was built.
        """
        if self._engine is None:
            packages.require_version("rapidocr", "text", self._version)
            self._engine = _engines.get(self._max_side, lambda: _engine(self._max_side))

    def __getstate__(self) -> Mapping[str, Any]:
        return {**self.__dict__, "_engine": None}

    def judge(self, prepared: Sequence[Page]) -> Sequence[Sequence[judges.SceneFindings]]:
        """For each frame what its text holds.

        Args:
          prepared: what `prepare` made.

        Raises:
          Exception: rapidocr fails.
        """
        return [[self.findings(self.read(page))] for page in prepared]

    def read(self, page: Page) -> Sequence[Line]:
        """The lines of text on a page, from top to bottom."""
        assert self._engine is not None, "load() first"
        result = self._engine(page.pixels)
        if result.txts is None:
            return []
        return [
            Line(text, float(confidence), Box.around(corners, page.width, page.height))
            for text, confidence, corners in zip(
                result.txts, result.scores, result.boxes, strict=True
            )
        ]

    def findings(self, lines: Sequence[Line]) -> judges.SceneFindings:
        """What lines of text hold."""
        scores: dict[str, float] = {}
        matches = []
        for line in lines:
            for match in [*contacts.contacts(line.text), *self._words.matches(line.text)]:
                scores[match.label] = max(line.confidence, scores.get(match.label, 0.0))
                matches.append(match._replace(text=match.text[:MAX_LENGTH])._asdict())
        cut = [line._replace(text=line.text[:MAX_LENGTH])._asdict() for line in lines[:MAX_LINES]]
        findings = [records.Finding(*item) for item in (scores or {"normal": 1.0}).items()]
        detail = {"lines": cut, "matches": matches[:MAX_LINES]} if lines else {}
        return judges.SceneFindings(SCENE, findings, detail)


_engines: Once[Any] = Once()


def _engine(max_side: int) -> Any:
    """An engine with the wheel's own models, one thread, and nothing to download or to say.

    `use_dilation` off, as in PaddleOCR: switched on it melts neighbouring lines into one that is
    not readable, and the text is lost (28-pixel letters on a panel, seen with rapidocr 3.10).
    """
    models = {
        f"{part.capitalize()}.model_path": str(
            packages.file("rapidocr", "text", f"rapidocr/models/*_{part}_*.onnx")
        )
        for part in ("det", "cls", "rec")
    }
    packages.load("cv2", "rapidocr", "text").setNumThreads(1)
    rapidocr = packages.load("rapidocr", "rapidocr", "text")
    engine = rapidocr.RapidOCR(
        params={
            **models,
            "Global.log_level": "critical",
            "Global.use_preprocess_img": False,
            "Global.use_vertical_padding": False,
            "Det.limit_type": "max",
            "Det.limit_side_len": max_side,
            "Det.use_dilation": False,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )
    logging.getLogger("RapidOCR").setLevel(logging.CRITICAL)
    _load_every_model(engine)
    return engine


def _load_every_model(engine: Any) -> None:
    """Runs each model once: the engine loads them only when they are needed."""
    blank = np.zeros((TEXT_MIN_SIDE, TEXT_MIN_SIDE * 4, 3), np.uint8)
    engine(blank, use_det=True, use_cls=False, use_rec=False)
    engine(blank, use_det=False, use_cls=True, use_rec=True)
    engine(blank, use_det=True, use_cls=True, use_rec=True)
