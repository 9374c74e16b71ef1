"""What `beam_moderation` exports can be imported from it, and nothing is imported in vain."""

import importlib
import inspect
import subprocess
import sys
import types

import pytest

import beam_moderation as bm


@pytest.mark.parametrize("name", bm.__all__)
def test_every_public_name_can_be_imported_and_lives_in_the_package(name):
    value = getattr(bm, name)
    home = value.__name__ if isinstance(value, types.ModuleType) else value.__module__
    assert home.startswith("beam_moderation.")


@pytest.mark.parametrize("name", bm.__all__)
def test_every_public_name_is_documented(name):
    assert inspect.getdoc(getattr(bm, name))


def test_public_names_are_sorted_and_listed_once():
    assert list(bm.__all__) == sorted(set(bm.__all__))


def test_a_star_import_gives_the_public_names_and_dir_shows_them():
    imported: dict[str, object] = {}
    exec("from beam_moderation import *", imported)
    assert imported.keys() - {"__builtins__"} == set(bm.__all__)
    assert set(bm.__all__) <= set(dir(bm))


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = bm.Nonsense


@pytest.mark.parametrize("module", ["models", "scanners", "vendors"])
def test_every_public_name_of_a_part_can_be_imported(module):
    part = importlib.import_module(f"beam_moderation.{module}")
    assert [name for name in part.__all__ if not hasattr(part, name)] == []


def test_importing_the_package_alone_imports_no_beam():
    program = "import sys, beam_moderation; sys.exit('apache_beam' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
