"""Throw-away environments for the peers: ``bench/.venvs/<name>``, made once for each list of pinned packages."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from bench.contestants import Contestant
from bench.peers.registry import Peer

FOLDER = Path(__file__).parent / ".venvs"
_INSTALL_WITHIN_S = 240


class NotInstalled(Exception):
    """A peer could not be installed; the message is the last thing that pip said."""


def prepared(peer: Peer) -> Contestant:
    """The peer in its environment, which is made when it is missing or meant for other versions.

    Raises:
        NotInstalled: The environment cannot be made.
    """
    home = FOLDER / peer.name
    stamp = home / ".packages"
    wanted = "\n".join(peer.packages)
    if not (stamp.exists() and stamp.read_text() == wanted):
        shutil.rmtree(home, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(home)])
        _run([str(home / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", *peer.packages])
        stamp.write_text(wanted)
    return peer.installed_in(home / "bin")


def _run(arguments: list[str]) -> None:
    try:
        subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=_INSTALL_WITHIN_S)
    except subprocess.CalledProcessError as error:
        said = str(error.stderr or error.stdout).strip().splitlines()
        raise NotInstalled(said[-1] if said else str(error)) from error
    except (subprocess.TimeoutExpired, OSError) as error:
        raise NotInstalled(str(error)) from error
