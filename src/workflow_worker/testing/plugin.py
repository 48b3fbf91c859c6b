"""The pytest plugin: a fixture ``env`` on the app that ``workflow_app`` names in pytest's configuration.

Loaded by its entry point in every run of pytest, also of tests that have nothing to do with workflows: it imports
nothing of the product before a fixture is used.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from workflow_worker.app.registry import App
    from workflow_worker.testing.env import TestEnv

_failed = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """``workflow_app`` in the configuration."""
    parser.addini("workflow_app", "App of the `env` fixture: package.module[:attribute] or path/file.py[:attribute]")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note whether a test has failed, for the end of its environment."""
    report = yield
    if report.failed:
        item.stash[_failed] = True
    return report


@pytest.fixture
def workflow_app(pytestconfig: pytest.Config) -> App:
    """The app under test; override it to return another."""
    from workflow_worker.service.loader import load_app  # noqa: PLC0415 - see the module's docstring

    name = str(pytestconfig.getini("workflow_app") or "")
    if not name:
        pytest.fail(
            "say which app is tested: workflow_app = shop.workflows:app in pytest's configuration, or a fixture"
            " workflow_app that returns it",
            pytrace=False,
        )
    return load_app(name, pytestconfig.rootpath).app


@pytest.fixture
def env(workflow_app: App, request: pytest.FixtureRequest) -> Iterator[TestEnv]:
    """A paranoid `TestEnv`, closed behind the test; behind one that failed it only goes: one error is enough."""
    from workflow_worker.testing.env import TestEnv  # noqa: PLC0415 - see the module's docstring

    made = TestEnv(workflow_app, paranoid=True)
    yield made
    if request.node.stash.get(_failed, False):
        made.discard()
    else:
        made.close()
