"""`check` finds every line of the bad sample, says what to write instead, and nothing in the good ones."""

from __future__ import annotations

import asyncio
import os
import random
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from examples import account, approval, orders, printer, transfer, webhooks, wordcount

from tests.unit.app import bad, shop
from workflow_worker import App, wf
from workflow_worker.app.check import check


def test_every_bad_line_is_found_and_no_other() -> None:
    source = Path(bad.__file__).read_text().splitlines()
    marked = re.compile(r"# (clock|random|environment|io|blocking|thread|await|attempt|order|loop|types)$")
    expected = {(number, found.group(1)) for number, line in enumerate(source, 1) if (found := marked.search(line))}
    findings = check(bad.app)
    assert {(finding.line, finding.code) for finding in findings} == expected
    assert {finding.path for finding in findings} == {bad.__file__}


def test_a_finding_names_place_reason_and_replacement() -> None:
    texts = [str(finding) for finding in check(bad.app)]
    reason = "time.time reads the machine's clock, so a replay sees another time; instead: wf.now() or wf.time()"
    assert any(text.endswith(f"[clock] bad: {reason}") for text in texts)
    assert any("parameter 'value'" in text for text in texts)
    assert all("; instead: " in text and re.search(r"\.py:\d+: ", text) for text in texts)


def test_good_apps_have_no_findings() -> None:
    examples = (orders, approval, webhooks, account, printer, transfer, wordcount)
    for app in (shop.app, *(each.app for each in examples)):
        assert check(app) == []


app = App("good")


@app.event("x")
@dataclass
class Begun:
    """An event whose fields are named like modules."""

    time: str
    items: set[str]


class Clock:
    """Not the module's."""

    def time(self) -> float:
        return wf.time()


def nothing_called(time: Clock) -> float:
    """A parameter hides the module."""
    return time.time()


@app.workflow(on=Begun)
async def careful(begun: Begun) -> Any:
    """Near misses: all of this is fine."""
    random = wf.random()  # hides the module
    open = str  # hides the builtin
    print(begun.time, open(begun), random.random(), nothing_called(Clock()))
    for item in sorted({"a", "b"}):
        print(item, os.path.join("a", "b"), item in {"a"}, len({1}))
    try:
        await asyncio.sleep(0.1)
    except httpx.HTTPError:
        raise httpx.InvalidURL("x") from None
    clocks = [Clock()]
    return [time.time() for time in clocks], begun.items


def test_names_that_only_look_forbidden_are_left_alone() -> None:
    assert check(app) == []
    assert [random.Random(1).random(), time.time()]


def test_code_without_source_is_left_alone() -> None:
    made = App("made")
    namespace: dict[str, Any] = {}
    exec("async def flow():\n    import time\n    time.time()", namespace)
    made.workflow()(namespace["flow"])
    assert check(made) == []
