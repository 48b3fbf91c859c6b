"""Every safeguard that is broken is missed by somebody."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutation.mutations import MUTATIONS, STORE, WORLDS, Mutation
from tests.mutation.trial import ROOT, Copy, mutated

EACH = pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.name.replace(" ", "-"))


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """The tree of this test process to break and mend."""
    return Copy(tmp_path_factory.mktemp("copy"))


@EACH
def test_a_mutation_fits_the_code(mutation: Mutation) -> None:
    package = ROOT / "src" / "workflow_worker"
    texts = mutated(package, mutation)
    assert texts
    assert all(text != path.read_text("utf-8") for path, text in texts.items())


@EACH
def test_a_mutation_names_tests_that_are_there(mutation: Mutation) -> None:
    files = [ROOT / killer[0].partition("::")[0] for killer in mutation.killers]
    assert files
    assert all(file.exists() for file in files)


def test_names_are_unlike() -> None:
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS) >= 25


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_nobody_minds_the_original(copy: Copy) -> None:
    """Else a red test would say nothing."""
    killers = dict.fromkeys(killer for mutation in MUTATIONS for killer in mutation.killers)
    red = {killer: verdict.test for killer in killers if (verdict := copy.ask(killer)).killed}
    assert not red


@pytest.mark.chaos
@pytest.mark.timeout(900)
@EACH
def test_somebody_minds(mutation: Mutation, copy: Copy) -> None:
    assert copy.judge(mutation).killed, f"survived: {mutation.breaks}"


@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutation", STORE, ids=lambda each: each.name.replace(" ", "-"))
def test_the_simulation_alone_minds(mutation: Mutation, copy: Copy) -> None:
    assert copy.judge(mutation, (WORLDS,)).killed, f"survived: {mutation.breaks}"


def test_a_copy_is_whole_again_afterwards(tmp_path: Path) -> None:
    copy = Copy(tmp_path / "copy")
    mutation = MUTATIONS[0]
    path = copy.package / mutation.edits[0].file
    before = path.read_text("utf-8")
    with copy.living(mutation):
        assert path.read_text("utf-8") != before
    assert path.read_text("utf-8") == before
