"""`dev`: what is saved answers, a syntax error keeps what answered before."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.command import Place, wait_for

APP = """
from dataclasses import dataclass
from workflow_worker import App

app = App("talk")

@app.event("question", subject="id")
@dataclass(frozen=True)
class Question:
    id: str

@app.workflow(on=Question, id="{subject}")
async def answer(question: Question) -> str:
    return "ANSWER"
"""


def asked(place: Place, name: str) -> str | None:
    """What the code that runs now answers."""
    place.ask("publish", "question", "--subject", name, "--data", json.dumps({"id": name}))
    wait_for(lambda: place.run("runs", "show", name).code == 0, "the run exists")
    wait_for(lambda: place.ask("runs", "show", name)["status"] == "completed", "the run is done")
    return place.ask("runs", "show", name)["result"]


def test_a_save_changes_the_answer_and_a_syntax_error_does_not(tmp_path: Path) -> None:
    place = Place(tmp_path, {"LOG_FORMAT": "json"})
    file = tmp_path / "talk.py"
    file.write_text(APP.replace("ANSWER", "first"))
    with place.start("dev", "talk.py") as service:
        assert place.ask("health")["workerCount"] == 1
        assert asked(place, "q-1") == "first"
        file.write_text(APP.replace("ANSWER", "second"))
        service.until(
            lambda: service.log.read_text().count("Reloaded") + service.log.read_text().count("reloaded") > 0,
            10,
            "reloaded",
        )
        assert asked(place, "q-2") == "second"
        file.write_text(APP.replace("async def", "async deaf"))
        service.until(lambda: "SyntaxError" in service.log.read_text(), 10, "the error is shown")
        assert asked(place, "q-3") == "second"
        assert service.stop() == 0
