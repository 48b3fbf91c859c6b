"""Map and reduce: one run splits a text, a child run counts the words of each piece, the counts are added up.

    workflow-worker dev examples/wordcount.py
    workflow-worker publish text.received --data '{"name": "t-1", "text": "one two two", "words_a_piece": 2}'
    workflow-worker runs list --workflow count

Children run on any worker, at most ``AT_ONCE`` of them at a time; ten thousand are no problem. A crash anywhere costs
nothing but the attempt that was under way.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

from workflow_worker import App, wf

app = App("wordcount")
AT_ONCE = 50


@app.event("text.received", subject="name")
@dataclass(frozen=True, slots=True)
class Received:
    """A text to count; a big one would be named here, and read in the action."""

    name: str
    text: str
    words_a_piece: int = 100


@app.action
async def count_words(words: list[str]) -> dict[str, int]:
    """The work itself; here it is not much."""
    return dict(Counter(word.lower().strip(".,;:!?") for word in words))


@app.workflow(version=1)
async def count(words: list[str]) -> dict[str, int]:
    """One piece. It has no event: only other workflows start it."""
    return await count_words(words)


@app.workflow(on=Received, id="{name}", version=1)
async def total(received: Received) -> dict[str, int]:
    """Split, fan out, gather, add."""
    words = received.text.split()
    size = received.words_a_piece
    pieces = [words[at : at + size] for at in range(0, len(words), size)]
    room = asyncio.Semaphore(AT_ONCE)
    done = 0

    async def piece(part: list[str]) -> dict[str, int]:
        nonlocal done
        async with room:
            counted = await count(part)
        done += 1
        wf.state(pieces=len(pieces), done=done)
        return counted

    added: Counter[str] = Counter()
    for counted in await asyncio.gather(*[piece(part) for part in pieces]):
        added.update(counted)
    return dict(sorted(added.items()))
