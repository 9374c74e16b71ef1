"""The operator's YAML files, checked against a pydantic model; errors name the line."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import fsspec
import pydantic
import yaml

from beam_moderation import errors

Model = TypeVar("Model", bound=pydantic.BaseModel)


def read_yaml(url: str, model: type[Model]) -> Model:
    """Reads the YAML file at an fsspec URL as a `model`.

    Raises:
      ConfigurationError: the file cannot be read, is no YAML, or does not fit the model.
    """
    try:
        with fsspec.open(url, encoding="utf-8", mode="rt") as file:
            text = file.read()
    except IsADirectoryError as error:
        raise errors.ConfigurationError(f"{url} is a folder; name a YAML file") from error
    except (OSError, ValueError, ImportError) as error:
        raise errors.ConfigurationError(f"cannot read {url}: {error}") from error
    return parse_yaml(text, model, url)


def parse_yaml(text: str, model: type[Model], name: str) -> Model:
    """Parses YAML text as a `model`; `name` is what error messages call the text.

    Raises:
      ConfigurationError: `name:line: what is wrong`.
    """
    try:
        root = yaml.compose(text, yaml.SafeLoader)
        value = yaml.load(text, _Loader)  # noqa: S506 - a safe one
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        problem = getattr(error, "problem", None) or "not YAML"
        raise errors.ConfigurationError(f"{name}:{line}: {problem}") from error
    for key in _repeated_keys(root):
        line = key.start_mark.line + 1
        raise errors.ConfigurationError(f"{name}:{line}: {key.value} stands here twice")
    return validate(value, model, lambda path: f"{name}:{_line(root, path)}")


class _Loader(yaml.SafeLoader):
    """Knows the line of a value that looks like a date or a number, and is none."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node."""
        try:
            return super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        except Exception as error:
            raise yaml.constructor.ConstructorError(
                None, None, str(error), node.start_mark
            ) from error


def validate(value: object, model: type[Model], place: Callable[[Sequence[Any]], str]) -> Model:
    """Checks a value against a model; `place` names where in it the path of an error is.

    Raises:
      ConfigurationError: `place: path: what is wrong`.
    """
    try:
        return model.model_validate(value)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = [place(first["loc"]), ".".join(str(part) for part in first["loc"])]
        message = first["msg"].removeprefix("Value error, ")
        raise errors.ConfigurationError(
            ": ".join(part for part in [*where, message] if part)
        ) from error


def _repeated_keys(node: yaml.Node | None) -> Iterator[yaml.Node]:
    """Keys that a mapping has already: YAML's last one would win without a word."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, child in node.value:
            if key.value in seen:
                yield key
            seen.add(key.value)
            yield from _repeated_keys(child)
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            yield from _repeated_keys(child)


def _line(node: yaml.Node | None, path: Sequence[Any]) -> int:
    """The line, counted from 1, of the deepest node on `path` that the text has."""
    line = node.start_mark.line + 1 if node else 1
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = [(key, child) for key, child in node.value if key.value == str(part)]
            if not found:
                return line
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line
