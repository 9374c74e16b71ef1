import pydantic
import pytest

from beam_moderation import configuration, errors


class Anything(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("2026-99-99", "month must be in 1..12"),
        ("[1, 2026-02-30]", "day is out of range for month"),
        ("!!int x", "invalid literal"),
        ("!!bool x", "'x'"),
        ("{? [a] : 1}", "unhashable"),
    ],
)
def test_a_value_that_cannot_be_made_is_named_by_its_line(value, reason):
    with pytest.raises(errors.ConfigurationError, match=f"^p.yaml:2: .*{reason}"):
        configuration.parse_yaml(f"a: 1\nb: {value}\n", Anything, "p.yaml")
