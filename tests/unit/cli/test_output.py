from __future__ import annotations

import json

import pytest

from workflow_worker.cli.output import Meter, complain, page, print_json, say, table


def test_a_table_is_aligned_and_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    table(("ID", "STATUS"), [("a" * 200, "failed"), ("b", "completed")])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [["ID", "STATUS"], ["a" * 200, "failed"], ["b", "completed"]]
    assert {line.index(word) for line, word in zip(lines, ("STATUS", "failed", "completed"), strict=True)} == {202}
    assert not any(line != line.rstrip() for line in lines)


def test_markup_and_escapes_of_strangers_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    table(("ID",), [("[red]x[/red]",)])
    assert "[red]x[/red]" in capsys.readouterr().out


def test_a_complaint_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    complain("first\n  second " + "x" * 300)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("workflow-worker: first second xxx")


def test_a_list_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    print_json(page([{"id": "ü"}], 7))
    assert json.loads(capsys.readouterr().out) == {"items": [{"id": "ü"}], "next": None, "total": 7}


def test_no_bar_is_drawn_where_nobody_sits_at_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    ticks = iter([0.0, 5.0, 10.0])
    with Meter("events", 10, clock=lambda: next(ticks)) as meter:
        meter.advance(3)
        meter.at(10)
    assert capsys.readouterr() == ("", "")


def test_a_stranger_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    table(("ID", "TYPE"), [("\x1b[2Jgone", "two\nlines")])
    say("\x1b]0;title\x07")
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert r"\x1b[2Jgone  two\nlines" in out
