"""`python -m bench [embedded|redis|blocks] [options]`: measure Toril beside its peers: jobs on its own file, jobs on
Redis, and what it offers beside jobs.

The first two run unless one is named. `python -m bench redis --help` lists the options.
"""

from __future__ import annotations

import sys
from importlib import import_module

_RUNS = {"embedded": "bench.embedded", "redis": "bench.redis.run"}
_NAMED = _RUNS | {"blocks": "bench.blocks.run"}


def main(arguments: list[str]) -> int:
    """Run one of them or both. The exit code is 1 when a measure ended without figures."""
    chosen = arguments[:1] if arguments[:1] and arguments[0] in _NAMED else list(_RUNS)
    rest = arguments[1:] if len(chosen) == 1 else arguments
    if len(chosen) > 1 and any(one.startswith("--only") for one in rest):
        sys.exit(f"--only: expected one of {', '.join(_RUNS)} before it, found none: python -m bench redis --only noop")
    # Each is imported when it runs: the peers of the one may be missing where only the other is wanted.
    return max([int(import_module(_NAMED[name]).main(rest)) for name in chosen])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
