"""Hold branch coverage to a floor that only rises: `coverage_floor.py check` and `coverage_floor.py raise`.

`check` fails below `.ci/coverage-floor`, and when that file has been lowered in this clone's history.
`raise` writes the number reached, rounded down to half a percent: the noise of one run must not fail the next.
"""

import json
import math
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FLOOR = ROOT / ".ci" / "coverage-floor"
STEP = 0.5


def reached() -> float:
    """Percent of lines and branches covered by the last run."""
    coverage = [sys.executable, "-m", "coverage"]
    if list(ROOT.glob(".coverage.*")):
        subprocess.run([*coverage, "combine", "--quiet"], cwd=ROOT, check=True)
    subprocess.run([*coverage, "report"], cwd=ROOT, check=True)
    report = subprocess.run([*coverage, "json", "-q", "-o", "-"], cwd=ROOT, check=True, capture_output=True, text=True)
    return float(json.loads(report.stdout)["totals"]["percent_covered"])


def committed_floor() -> float:
    """The highest floor in the history of this clone, 0 where there is no history."""
    log = ["git", "log", "--format=", "--unified=0", "--patch", "--", str(FLOOR.relative_to(ROOT))]
    try:
        patch = subprocess.run(log, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return 0.0
    written = [line[1:] for line in patch.splitlines() if line.startswith("+") and not line.startswith("+++")]
    return max(map(float, written), default=0.0)


def check(percent: float, floor: float) -> str | None:
    """Say what is wrong, or nothing."""
    highest = committed_floor()
    if floor < highest:
        return f".ci/coverage-floor may only rise: expected at least {highest}, found {floor}; write {highest} back"
    if percent < floor:
        return f"coverage: expected at least {floor} %, found {percent:.2f} %; test what the report above calls missing"
    return None


def main() -> int:
    """Run the command named on the command line; the exit code is 1 when the floor is not held."""
    command = sys.argv[1] if len(sys.argv) == 2 else ""
    if command not in {"check", "raise"}:
        print(f"expected `check` or `raise`, found {sys.argv[1:]}", file=sys.stderr)
        return 2
    percent, floor = reached(), float(FLOOR.read_text())
    if command == "raise":
        risen = max(floor, math.floor(percent / STEP) * STEP)
        FLOOR.write_text(f"{risen}\n")
        print(f"coverage floor: {floor} -> {risen}")
        return 0
    problem = check(percent, floor)
    print(
        problem or f"coverage {percent:.2f} % holds the floor of {floor} %", file=sys.stderr if problem else sys.stdout
    )
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
