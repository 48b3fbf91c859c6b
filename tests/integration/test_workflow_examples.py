"""The examples of sagas, children, long lives and locks do what their texts say."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from tests.integration.stage import OVER, failure_of, result_of, stage_of
from workflow_worker.model.exceptions import Refused
from workflow_worker.model.record import ActionCompleted
from workflow_worker.model.run import RunStatus

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str, monkeypatch: pytest.MonkeyPatch, **variables: str) -> ModuleType:
    """A fresh copy of an example, made with these environment variables."""
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    specification = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, specification.name, module)
    specification.loader.exec_module(module)
    return module


def bookings(folder: Path, bank: str) -> list[str]:
    file = folder / f"{bank}.txt"
    return [line.rpartition(" ")[0] for line in file.read_text().splitlines()] if file.exists() else []


async def test_a_transfer_is_booked_on_both_sides_or_on_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bank = example("transfer", monkeypatch, BANKS=str(tmp_path))
    async with stage_of(bank.app) as stage:
        await stage.publish(bank.Ordered("t-1", "ann", "bob", 42))
        assert result_of(await stage.until("transfer:transfer-t-1"))
        assert (bookings(tmp_path, "source-bank"), bookings(tmp_path, "target-bank")) == (["ann -42"], ["bob 42"])
        await stage.publish(bank.Ordered("t-2", "ann", "nobody", 7))
        view = await stage.until("transfer:transfer-t-2")
        assert (view.status, failure_of(view).message) == (RunStatus.FAILED, "target-bank has no account of nobody")
        assert bookings(tmp_path, "source-bank") == ["ann -42", "ann -7", "ann 7"]
        assert bookings(tmp_path, "target-bank") == ["bob 42"]


async def test_words_are_counted_in_pieces_and_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    counting = example("wordcount", monkeypatch)
    text = "one two two three three three " * 50
    async with stage_of(counting.app) as stage:
        await stage.publish(counting.Received("t-1", text, words_a_piece=7))
        view = await stage.until("total:t-1", within_s=20)
        assert result_of(view) == dict(sorted(Counter(text.split()).items()))
        await stage.until_state("total:t-1", pieces=43, done=43)
        children = [run for run in (await stage.client.runs()).items if run.workflow == "count"]
        assert len(children) == 43


async def test_an_account_answers_and_begins_new_histories(monkeypatch: pytest.MonkeyPatch) -> None:
    accounts = example("account", monkeypatch)
    monkeypatch.setattr(accounts, "RECORDS_A_HISTORY", 6)
    async with stage_of(accounts.app) as stage:
        await stage.publish(accounts.Opened("a-1"))
        await stage.until("account:account-a-1", RunStatus.WAITING)
        handle = stage.client.handle("account", "account-a-1")
        for _ in range(20):
            await stage.publish(accounts.Deposited(10), subject="a-1")
        await stage.until_state("account:account-a-1", balance=200)
        assert len(await stage.history("account:account-a-1")) < 20
        assert await handle.update(accounts.Withdraw(50), timeout=5) == 150
        with pytest.raises(Refused, match="151 of 150 cents cannot be withdrawn"):
            await handle.update(accounts.Withdraw(151), timeout=5)
        await stage.publish(accounts.Closed(), subject="a-1")
        assert result_of(await stage.until("account:account-a-1", *OVER)) == 150


async def test_labels_are_printed_one_at_a_time_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printing = example("printer", monkeypatch, PRINTED=str(tmp_path / "paper"))
    async with stage_of(printing.app) as stage:
        for number in range(10):
            await stage.publish(printing.Wanted(f"l-{number}", "p-1", "Hello"))
        for number in range(10):
            await stage.until(f"print_label:label-l-{number}", RunStatus.COMPLETED)
        lines = (tmp_path / "paper").read_text().splitlines()
        assert lines == [f"p-1 {what}" for n in range(10) for what in (f"begins l-{n}", f"ends l-{n}: Hello")]
        records = await stage.history("print_label:label-l-3")
        assert [record.name for record in records if isinstance(record, ActionCompleted)] == ["begin_page", "end_page"]
