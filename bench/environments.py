"""Throw-away environments for the peers: ``bench/.venvs/<name>``, made once for each list of pinned packages."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from bench.contestants import Contestant
from bench.peers.peer import Peer
from bench.peers.versions import VERSIONS, Packages

FOLDER = Path(__file__).parent / ".venvs"
_INSTALL_WITHIN_S = 240


class NotInstalled(Exception):
    """A peer could not be installed; the message is the last thing that the installer said."""


def prepared(peer: Peer) -> Contestant:
    """The peer in its environment, which is made when it is missing or meant for other versions.

    Raises:
        NotInstalled: The environment cannot be made, or the machine lacks a program.
    """
    packages = VERSIONS[peer.name]
    missing = [program for program in packages.programs if shutil.which(program) is None]
    if missing:
        raise NotInstalled(f"there is no program {missing[0]!r} on this machine")
    home = FOLDER / peer.name
    stamp = home / ".packages"
    wanted = "\n".join((*packages.python, *packages.node))
    if not (stamp.exists() and stamp.read_text() == wanted):
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        _install(home, packages)
        stamp.write_text(wanted)
    return peer.installed_in(home)


def _install(home: Path, packages: Packages) -> None:
    if packages.python:
        _run([sys.executable, "-m", "venv", str(home)])
        _run([str(home / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", *packages.python])
    if packages.node:
        _run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(home), *packages.node])


def _run(arguments: list[str]) -> None:
    try:
        subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=_INSTALL_WITHIN_S)
    except subprocess.CalledProcessError as error:
        said = str(error.stderr or error.stdout).strip().splitlines()
        # pip of Python 3.13 points at the place with lines of their own behind its message.
        message = next((line for line in said if line.startswith("ERROR")), said[-1] if said else str(error))
        raise NotInstalled(message) from error
    except (subprocess.TimeoutExpired, OSError) as error:
        raise NotInstalled(str(error)) from error
