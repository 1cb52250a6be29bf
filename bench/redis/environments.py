"""An environment for each library, made when it is first needed: their caps on redis-py exclude each other."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from bench.redis.peers import NODE, Peer

ROOT = Path(__file__).resolve().parents[2]
_VERSIONS = "import sys; from importlib.metadata import version; print(*(version(name) for name in sys.argv[1:]))"


class Environments:
    """Folders under `folder`, which git ignores."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    def prepare(self, peer: Peer, tell: Callable[[str], None]) -> None:
        """Install what the peer needs, unless that is there. Raises CalledProcessError with what the installer said."""
        if peer.is_ours:
            return
        place = self.place(peer)
        stamp = place / "installed.json"
        if stamp.exists() and json.loads(stamp.read_text(encoding="utf-8")) == list(peer.requirements):
            return
        tell(f"installing {' '.join(peer.requirements)}")
        place.mkdir(parents=True, exist_ok=True)
        if peer.library == NODE:
            (place / "package.json").write_text('{"private": true}\n', encoding="utf-8")
            _run(["npm", "install", "--silent", "--no-audit", "--no-fund", *peer.requirements], place)
        else:
            _run([sys.executable, "-m", "venv", str(place)], place)
            _run([*self._pip(peer), "install", "-qq", "--disable-pip-version-check", *peer.requirements], place)
        stamp.write_text(json.dumps(peer.requirements), encoding="utf-8")

    def place(self, peer: Peer) -> Path:
        """The folder of the peer's environment."""
        return self._folder / peer.library

    def command(self, peer: Peer, role: str, url: str, count: int, task: str) -> list[str]:
        """What runs one side of the peer."""
        words = [role, url, str(count), task]
        if peer.library == NODE:
            return ["node", str(Path(__file__).with_name("bullmq.mjs")), *words]
        return [self._python(peer), "-m", "bench.redis.child", peer.library, *words]

    def versions(self, peer: Peer) -> dict[str, str]:
        """The versions of what was installed for the peer."""
        if peer.is_ours:
            return {}
        if peer.library == NODE:
            found = json.loads((self.place(peer) / "node_modules/bullmq/package.json").read_text(encoding="utf-8"))
            node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
            return {"npm bullmq": f"{found['version']} on Node {node}"}
        names = [one.partition("[")[0] for one in peer.requirements]
        done = subprocess.run([self._python(peer), "-c", _VERSIONS, *names], capture_output=True, text=True, check=True)
        pairs = list(zip(names, done.stdout.split(), strict=True))
        rest = ", ".join(f"{name} {version}" for name, version in pairs[1:])
        return {pairs[0][0]: f"{pairs[0][1]} ({rest})" if rest else pairs[0][1]}

    def missing(self, peer: Peer) -> str | None:
        """Why the peer cannot take part on this machine, None when it can."""
        if peer.library == NODE and not (shutil.which("node") and shutil.which("npm")):
            return "expected node and npm on the PATH, found none. Do: make node"
        return None

    def _python(self, peer: Peer) -> str:
        return sys.executable if peer.is_ours else str(self.place(peer) / "bin" / "python")

    def _pip(self, peer: Peer) -> list[str]:
        return [self._python(peer), "-m", "pip"]


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
