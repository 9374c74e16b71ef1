import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_moderation import errors, policy, records
from beam_moderation.policy import Observation, Policy
from beam_moderation.records import Finding

RULES = Policy(
    {
        "scenes": {
            "porn": {
                "normal": "pass",
                "sexy": {"review": 0.5},
                "porn": {"review": 0.3, "block": 0.8},
            }
        }
    }
)


@pytest.mark.parametrize(
    ("label", "score", "suggestion"),
    [
        ("normal", 1.0, "pass"),
        ("sexy", 0.49, "pass"),
        ("sexy", 0.5, "review"),
        ("porn", 0.3, "review"),
        ("porn", 0.8, "block"),
    ],
)
def test_score_meets_threshold(label, score, suggestion):
    assert RULES.suggestion("porn", Finding(label, score)) == suggestion


@given(st.text(), st.text(), st.floats())
def test_what_the_policy_does_not_know_never_passes(scene, label, score):
    known = scene == "porn" and label in RULES.scenes["porn"] and 0 <= score <= 1
    assert known or RULES.suggestion(scene, Finding(label, score)) == "review"


@pytest.mark.parametrize("score", [math.nan, math.inf, -0.1, 1.1])
def test_a_score_out_of_range_goes_to_a_person_even_for_a_label_that_passes(score):
    assert RULES.suggestion("porn", Finding("normal", score)) == "review"


def test_the_worst_finding_decides_before_the_highest_score():
    found = [Observation(0, Finding("normal", 0.99)), Observation(7, Finding("porn", 0.31))]
    decision = RULES.decide("porn", found)
    assert (decision.finding.label, decision.frame, decision.suggestion) == ("porn", 7, "review")


def test_among_equally_bad_findings_the_highest_score_decides():
    found = [Observation(frame, Finding("porn", score)) for frame, score in [(0, 0.81), (1, 0.95)]]
    assert RULES.decide("porn", found).frame == 1


def test_a_scene_without_findings_has_no_decision():
    with pytest.raises(errors.JudgeError):
        RULES.decide("porn", [])


def test_best_scores_are_the_highest_of_each_label():
    found = [Observation(n, Finding("porn", score)) for n, score in enumerate([0.2, 0.9, 0.1])]
    assert policy.best_scores(found) == [records.Finding("porn", 0.9)]


def test_version_is_of_the_content_not_of_the_spelling(tmp_path):
    for name, text in {
        "a.yaml": "scenes:\n  porn:\n    porn: {review: 0.5}\n    normal: pass\n",
        "b.yaml": "# same\nscenes: {porn: {normal: pass, porn: {review: 0.50}}}\n",
        "c.yaml": "scenes: {porn: {normal: pass, porn: {review: 0.51}}}\n",
    }.items():
        (tmp_path / name).write_text(text)
    a, b, c = (Policy.from_yaml(str(tmp_path / f"{name}.yaml")).version for name in "abc")
    assert a == b != c


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scenes:\n  porn:\n    normal: pas\n", "p.yaml:3: scenes.porn.normal: expected `pass`"),
        ("scenes:\n  porn:\n    x: {review: 2}\n", "p.yaml:3: scenes.porn.x.review: "),
        (
            "scenes:\n  porn:\n    x: {review: .9, block: .1}\n",
            "p.yaml:3: scenes.porn.x: review (0.9)",
        ),
        ("scenes: {}\n", "p.yaml:1: scenes: "),
        ("scenes: [\n", "p.yaml:2: "),
        ("scenes: {porn: {x: {revew: 1}}}\nfoo: 1\n", "p.yaml:1: scenes.porn.x: expected `pass`"),
        ("scenes:\n  porn:\n    x: {review: }\n", "p.yaml:3: scenes.porn.x: review is a number"),
        ("scenes:\n  porn:\n    x: {block: true}\n", "block is a number from 0 to 1, not True"),
        ("scenes:\n  porn:\n    x: {block: '0.5'}\n", "block is a number"),
        ("scenes:\n  porn:\n    x: {always_pass: true}\n", "expected `pass`"),
        ("scenes:\n  porn:\n    x: pass\n    x: {block: 0}\n", "p.yaml:4: x stands here twice"),
        ("scenes: {porn: {x: pass}}\nfoo: 1\n", "p.yaml:2: foo: "),
        ("", "p.yaml:1: "),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_line(tmp_path, text, message):
    file = tmp_path / "p.yaml"
    file.write_text(text)
    with pytest.raises(errors.ConfigurationError) as caught:
        Policy.from_yaml(str(file))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line():
    with pytest.raises(errors.ConfigurationError, match="cannot read"):
        Policy.from_yaml("/nowhere/p.yaml")


def test_a_scene_that_nothing_judges_is_refused_with_a_hint():
    slip = Policy({"scenes": {"pron": {"normal": "pass"}}})
    with pytest.raises(errors.ConfigurationError, match="did you mean 'porn'"):
        slip.check_scenes(["ad", "porn"])


def test_the_default_policy_loads_and_every_scene_has_a_label_for_nothing_found():
    default = Policy.default()
    assert all(default.suggestion(s, Finding("normal", 1.0)) == "pass" for s in default.scenes)
