"""From findings to a suggestion: thresholds by scene and label, versioned by their content.

Pure: no Beam and no I/O beyond reading the policy's file.
"""

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Annotated, NamedTuple

import pydantic

from beam_moderation import configuration, errors, records

Score = Annotated[float, pydantic.Field(ge=0, le=1)]


class Threshold(pydantic.BaseModel):
    """Scores of at least `block` block, of at least `review` go to a person, lower ones pass.

    In a policy file the word `pass` in place of the numbers makes a label pass at any score.
    """

    model_config = pydantic.ConfigDict(frozen=True)

    review: Score | None = None
    block: Score | None = None
    always_pass: bool = False

    @pydantic.model_validator(mode="before")
    @classmethod
    def _written(cls, value: object) -> object:
        if value == "pass":
            return {"always_pass": True}
        if not isinstance(value, dict) or not value or not {*value} <= {"review", "block"}:
            raise ValueError("expected `pass`, or thresholds such as {review: 0.5, block: 0.9}")
        for name, score in value.items():
            if isinstance(score, bool) or not isinstance(score, (int, float)):
                raise ValueError(f"{name} is a number from 0 to 1, not {score!r}")
        return value

    @pydantic.model_validator(mode="after")
    def _in_order(self) -> "Threshold":
        if self.review is not None and self.block is not None and self.review > self.block:
            raise ValueError(f"review ({self.review}) must not be above block ({self.block})")
        return self

    def suggestion(self, score: float) -> str:
        """The suggestion for a score in [0, 1]."""
        if self.block is not None and score >= self.block:
            return "block"
        return "review" if self.review is not None and score >= self.review else "pass"


class _Document(pydantic.BaseModel):
    """A policy file as it is written."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    scenes: Annotated[dict[str, dict[str, Threshold]], pydantic.Field(min_length=1)]
    words: dict[str, list[str]] = {}
    override_vendors: bool = False


class Observation(NamedTuple):
    """A finding in one frame or tile."""

    frame: int
    finding: records.Finding


class Decision(NamedTuple):
    """The finding that decides a scene, the frame it is in, and the suggestion that follows."""

    finding: records.Finding
    frame: int
    suggestion: str


class Policy:
    """Thresholds by scene and label.

    What it does not know it never passes: a label or a scene without a rule, and a score that is
    not in [0, 1], go to `review`. Two policies with equal content have the same `version`.
    """

    def __init__(self, document: "Mapping[str, object] | _Document") -> None:
        self._document = configuration.validate(document, _Document, lambda _: "policy")
        self.version = _version(self._document)
        """The first 12 hexadecimal digits of the SHA-256 of the policy's content."""

    @classmethod
    def default(cls) -> "Policy":
        """The policy that is part of the package (`default_policy.yaml`)."""
        text = resources.files("beam_moderation").joinpath("default_policy.yaml").read_text()
        document = configuration.parse_yaml(text, _Document, "default_policy.yaml")
        return cls(document)

    @classmethod
    def from_yaml(cls, url: str) -> "Policy":
        """Reads a policy file, named by an fsspec URL.

        Raises:
          ConfigurationError: one line that names the line of the file and the mistake.
        """
        return cls(configuration.read_yaml(url, _Document))

    @property
    def words(self) -> Mapping[str, Sequence[str]]:
        """The words that the scanner of text looks for, by the label they give."""
        return self._document.words

    @property
    def override_vendors(self) -> bool:
        """Whether the thresholds replace the suggestions of vendors too."""
        return self._document.override_vendors

    @property
    def scenes(self) -> Mapping[str, Mapping[str, Threshold]]:
        """The rules, by scene and label."""
        return self._document.scenes

    def check_scenes(self, judged: Iterable[str]) -> None:
        """Refuses a scene that nothing judges: a slip of the pen would send all to review.

        Raises:
          ConfigurationError: the policy names a scene that is not in `judged`.
        """
        known = sorted(judged)
        for scene in self._document.scenes:
            if scene not in known:
                close = difflib.get_close_matches(scene, known, 1)
                hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}"
                raise errors.ConfigurationError(f"the policy has a scene '{scene}'; {hint}")

    def suggestion(self, scene: str, finding: records.Finding) -> str:
        """The suggestion for one finding."""
        rule = self._document.scenes.get(scene, {}).get(finding.label)
        if rule is None or not 0 <= finding.score <= 1:
            return "review"
        return rule.suggestion(finding.score)

    def decide(self, scene: str, observations: Sequence[Observation]) -> Decision:
        """The worst observation of a scene; among equally bad ones the highest score, the first.

        Raises:
          JudgeError: there is no observation, and what was not judged has no suggestion.
        """
        if not observations:
            raise errors.JudgeError(f"no finding in scene {scene}")
        decisions = [
            Decision(finding, frame, self.suggestion(scene, finding))
            for frame, finding in observations
        ]
        return max(decisions, key=_gravity)


def _version(document: _Document) -> str:
    content = json.dumps(document.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def _gravity(decision: Decision) -> tuple[int, float]:
    return records.SUGGESTIONS.index(decision.suggestion), decision.finding.score


def best_scores(observations: Sequence[Observation]) -> list[records.Finding]:
    """Every label with its highest score over all frames, in the order of first appearance."""
    best: dict[str, float] = {}
    for _, finding in observations:
        best[finding.label] = max(finding.score, best.get(finding.label, finding.score))
    return [records.Finding(label, score) for label, score in best.items()]
