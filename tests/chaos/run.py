"""One chaos run from its beginning to its verdict.

work under faults → quiet: no fault, everybody alive, the rest is published → rest: nothing left to do → look from
outside → check → retention over → look for leftovers
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos import gauge as gauges
from tests.chaos import measures, outsider
from tests.chaos.arena import CRASHED, PREFIX, Arena, Scale
from tests.chaos.faults import Ledger
from tests.chaos.measures import Repeats, Spread
from tests.chaos.nemesis import Nemesis
from tests.chaos.operating import NewPromises, Operator, resume_all
from tests.guarantees.service import eventually
from tests.support.checker import ENDED, Verdict, check, check_leftovers
from tests.support.checker_facts import Effects, Promise, Seen, read_effects, read_promises
from tests.support.proxy import Cut
from workflow_worker import Client
from workflow_worker.model.exceptions import WorkflowWorkerError
from workflow_worker.worker.limits import WorkerLimits

MAX_TAKEOVERS = WorkerLimits().max_takeovers
_SAMPLE = 12


@dataclass(frozen=True)
class Outcome:
    """Everything that a report is made of."""

    scale: Scale
    version: str
    verdict: Verdict
    events: int
    """Acknowledged, of the plan."""
    probes: int
    """And of the probe, whose effects are asked for like all others'."""
    runs: int
    kinds: Counter[str]
    faults: Counter[str]
    points: Counter[tuple[str, str]]
    cuts: Counter[tuple[str, Cut]]
    missed: Counter[str]
    letters: Counter[str]
    back: dict[str, Spread]
    """Consumption back, after faults that came alone."""
    back_in_storm: dict[str, Spread]
    """The same after faults that others came with, which is not promised."""
    takeover: dict[str, Spread]
    suspects: dict[str, Spread]
    """Take-overs of runs that were to be executed alone, after the same faults."""
    repeats: Repeats
    refused: int
    duplicates: int
    compared: int
    work_s: float
    rest_s: float
    cancels: int
    resumed: int

    @property
    def faults_in_all(self) -> int:
        """Injected by the nemesis, and at crash and pause points."""
        return self.faults.total() + self.points.total()


async def run(scale: Scale, folder: Path) -> Outcome:
    """Do it all; a server, services and producers of its own, gone at the end.

    Raises:
        AssertionError: Something does not start or end as it should; the message says where to look.
        FileExistsError: The folder holds something, perhaps another run's receipts.
    """
    with Arena(scale, folder) as arena:
        return await _Run(arena).run()


class _Run:
    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._scale = arena.scale
        self._nemesis = Nemesis(arena)
        self._operator = Operator(NewPromises(lambda: arena.receipts))

    async def run(self) -> Outcome:
        arena = self._arena
        version = str(await asyncio.to_thread(self._version))
        arena.arm(self._scale.armed)
        for site in arena.sites:
            site.start()
        for site in arena.sites:
            await eventually(site.healthy, 30, f"site {site.name} healthy, see {site.log}")
        began = time.monotonic()
        arena.start_producers()
        operator = asyncio.create_task(self._operator.cancel_endless_ones(arena.way_in.url))
        probe = asyncio.create_task(arena.probe.run())
        gauge = asyncio.create_task(gauges.watch(arena.redis.socket_path, arena.folder / "gauge.jsonl"))
        warden = asyncio.create_task(self._nemesis.guard())
        await self._nemesis.run(self._scale.seconds)
        await self._calm_down()  # what lasts twenty leases needs them undisturbed, while the rest is being published
        within_s = 60 + self._scale.seconds
        await eventually(self._all_published, within_s, f"all events published, see {arena.folder}/producer-*.log")
        work_s = time.monotonic() - began
        arena.probe.stop()
        warden.cancel()
        await asyncio.wait([warden, probe])
        began = time.monotonic()
        promises = read_promises(arena.receipts)
        async with Client.connect(arena.redis.socket_url) as client:
            await self._rest(client, promises)
            operator.cancel()
            gauge.cancel()
            await asyncio.wait([operator, gauge])
            rest_s = time.monotonic() - began
            names = [name for site in arena.sites for name in site.worker_names()]
            seen = await outsider.look(client, promises, names, self._unsure(promises))
        effects = await asyncio.to_thread(read_effects, arena.effects)
        sample = random.Random(self._scale.seed).sample(sorted(seen.runs), min(_SAMPLE, len(seen.runs)))
        compared = await asyncio.to_thread(outsider.compare_with_commands, arena.redis.socket_url, seen, sample)
        verdict = check(promises, effects, seen)
        leftovers = await self._retire(seen)
        verdict = Verdict((*verdict.findings, *leftovers), verdict.looked_at)
        return self._outcome(version, verdict, promises, effects, seen, compared, work_s, rest_s)

    def _version(self) -> str:
        admin = self._arena.admin()
        try:
            info: dict[str, Any] = admin.info("server")
            return str(info.get("valkey_version") or info["redis_version"])
        finally:
            admin.close()

    # ------------------------------------------------------------------------------------------------- under faults

    def _all_published(self) -> bool:
        codes = [lane.poll() for lane in self._arena.lanes]
        died = (None, 0, CRASHED, -signal.SIGKILL)  # the warden starts those that died of a fault anew
        bad = [lane.log for lane, code in zip(self._arena.lanes, codes, strict=True) if code not in died]
        assert not bad, f"a producer failed: {bad[0].read_text()[-2_000:]}"
        return all(code == 0 for code in codes)

    # ------------------------------------------------------------------------------------------------------- at rest

    async def _calm_down(self) -> None:
        """No fault any more: sites start anew, unarmed; the old workers drain first."""
        self._nemesis.release()
        for site in self._arena.sites:
            if site.alive:
                code = await asyncio.to_thread(site.stop)
                assert code == 0, f"site {site.name} drained with exit code {code}, see {site.log}"
            site.start(armed=False)
        for site in self._arena.sites:
            await eventually(site.healthy, 30, f"site {site.name} healthy after the faults, see {site.log}")

    async def _rest(self, client: Client, promises: Sequence[Promise]) -> None:
        """Wait until every run that was promised has ended; what has not by then is the checker's to name."""
        left = {ref for promise in promises for ref in promise.runs if promise.fate == "starts"}
        deadline = time.monotonic() + self._scale.rest_within_s
        while left and time.monotonic() < deadline:
            depth = await client.depth()
            if depth.suspended:
                await resume_all(client, self._arena.redis.socket_url)
            if depth.events < 100:
                left = await self._unended(client, left)
            await asyncio.sleep(0.3)

    async def _unended(self, client: Client, refs: set[str]) -> set[str]:
        left = set(refs)
        todo = iter(refs)

        async def ask() -> None:
            for misses, ref in enumerate(todo):
                try:
                    view = await client.run(ref)
                except WorkflowWorkerError:
                    continue
                if view.status.value in ENDED:
                    left.discard(ref)
                elif misses > 1_000:
                    return

        async with asyncio.TaskGroup() as group:
            for _ in range(30):
                group.create_task(ask())
        return left

    def _unsure(self, promises: Sequence[Promise]) -> int:
        acknowledged = {promise.n for promise in promises}
        tried = set[int]()
        for path in self._arena.receipts:
            with contextlib.suppress(FileNotFoundError):
                tried |= {int(word) for word in path.with_suffix(".tried").read_text().split()}
        return len(tried - acknowledged)

    async def _retire(self, seen: Seen) -> list[Any]:
        """Start the services with a tiny retention, and look whether anything of the ended runs is left."""
        for site in self._arena.sites:
            await asyncio.to_thread(site.stop)
            site.start(armed=False, RETENTION_RUNS="1")
        async with Client.connect(self._arena.redis.socket_url) as client:

            async def retired() -> bool:
                return (await client.runs()).total <= 1

            with contextlib.suppress(AssertionError):  # what is left then is among the leftovers
                await eventually(retired, 60, "retention leaves one run")
            kept = {run.ref for run in (await client.runs()).items}
        ended = {ref for ref, run in seen.runs.items() if run.status in ENDED} - kept
        admin = self._arena.admin()
        try:
            keys = [key.decode("utf-8", "backslashreplace") for key in admin.scan_iter(f"{PREFIX}*", 1_000)]
        finally:
            admin.close()
        return check_leftovers(keys, ended)

    # ------------------------------------------------------------------------------------------------------- figures

    def _outcome(
        self,
        version: str,
        verdict: Verdict,
        promises: Sequence[Promise],
        effects: Effects,
        seen: Seen,
        compared: int,
        work_s: float,
        rest_s: float,
    ) -> Outcome:
        ledger: Ledger = self._nemesis.ledger
        happened = ledger.happened
        points = measures.points_hit(effects.armed, self._deaths(), ledger.ours, ledger.paused)
        waited = {ref for ref, run in seen.runs.items() if run.resumed}
        for lane in self._arena.lanes:
            points.update(lane.died_at)
        worker, worker_suspects = measures.takeovers(
            effects.effects, happened, ["worker killed"], waited, MAX_TAKEOVERS
        )
        server, server_suspects = measures.takeovers(
            effects.effects, happened, ["server of a site killed"], waited, MAX_TAKEOVERS
        )
        return Outcome(
            scale=self._scale,
            version=version,
            verdict=verdict,
            events=sum(promise.kind != "probe" for promise in promises),
            probes=len(self._arena.probe.probed),
            runs=len(seen.runs),
            kinds=Counter(promise.kind for promise in promises),
            faults=ledger.counts(),
            points=points,
            cuts=self._arena.cut_scripts,
            missed=ledger.missed,
            letters=Counter(letter.reason.split(":")[0] for letter in seen.letters),
            back=measures.consumption_back(effects.effects, happened, self._arena.probe.probed, calm=True),
            back_in_storm=measures.consumption_back(effects.effects, happened, self._arena.probe.probed, calm=False),
            takeover={"one worker killed, its supervisor alive": worker, "a whole server killed": server},
            suspects={"one worker killed": worker_suspects, "a whole server killed": server_suspects},
            repeats=measures.repeats(effects.effects),
            refused=measures.refused(seen),
            duplicates=int(str(seen.audit.get("duplicate", 0))),
            compared=compared,
            work_s=work_s,
            rest_s=rest_s,
            cancels=self._operator.cancels,
            resumed=len(waited),
        )

    def _deaths(self) -> dict[int, int]:
        """Exit codes of the workers that died, from the services' logs."""
        found: dict[int, int] = {}
        for log in self._arena.folder.glob("service-*.log"):
            for line in log.read_text(errors="replace").splitlines():
                if "worker process died" in line:
                    with contextlib.suppress(json.JSONDecodeError, KeyError):
                        fields = json.loads(line)
                        found[int(fields["pid"])] = int(fields["code"])
        return found
