"""The scripts keep their contract: headers, sizes, includes, keys."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from tests.architecture.write_keys import PAGE, REWRITE, rendered
from workflow_worker.model.exceptions import ConfigurationError
from workflow_worker.store.redis.keys import KEYS, prefix_of
from workflow_worker.store.redis.scripts import CALLS, link, load_scripts

FOLDER = files("workflow_worker.store.redis") / "lua"
SOURCES = {entry.name.removesuffix(".lua"): entry.read_text("utf-8") for entry in FOLDER.iterdir()}
_KEY = re.compile(r"P \.\. '([^']*)'")
_DUE = re.compile(r"due\('(\w+)'")


def test_every_script_is_called_and_every_include_is_used() -> None:
    scripts = {name for name in SOURCES if not name.startswith("_")}
    used = {
        part
        for text in SOURCES.values()
        for line in re.findall(r"^-- include:(.*)$", text, re.M)
        for part in line.split()
    }
    assert scripts == set(CALLS)
    assert used == SOURCES.keys() - scripts


def test_headers_name_what_the_callers_pass() -> None:
    for name, script in load_scripts().items():
        assert script.args == CALLS[name]
        assert len(script.sha) == 40


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_a_file_is_short_and_says_what_it_does(name: str) -> None:
    lines = SOURCES[name].splitlines()
    assert len(lines) <= 140
    assert lines[0].startswith("-- ")
    assert lines[0][3].isupper()
    assert max(map(len, lines)) <= 120


def test_keys_are_those_of_the_table() -> None:
    used = {key for text in SOURCES.values() for key in _KEY.findall(text)}
    used |= {key for text in SOURCES.values() for key in _DUE.findall(text)}
    assert used - {key.name for key in KEYS} == set()
    assert {key.name for key in KEYS} - used == set()


def test_a_lying_header_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="header lines missing: returns"):
        link("x", lambda _: "-- Does.\n-- keys: prefix\n-- args: now\n-- include:\n")
    texts = {"x": "-- Does.\n-- keys: prefix\n-- args:\n-- include: _a _a\n-- returns: ok\n", "_a": "-- A.\n"}
    with pytest.raises(ConfigurationError, match="twice"):
        link("x", texts.__getitem__)


def test_arguments_are_bound_by_their_position() -> None:
    text = "-- Does.\n-- keys: prefix\n-- args: now ref ...\n-- include:\n-- returns: ok\nreturn ref\n"
    assert "local now, ref = ARGV[1], ARGV[2]\n" in link("x", lambda _: text).text


def test_all_keys_share_one_slot() -> None:
    assert prefix_of("shop") == "shop:{shop:0}:"


def test_the_page_of_keys_is_current() -> None:
    assert PAGE.read_text() == rendered(), f"run: {REWRITE}"
