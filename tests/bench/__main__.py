"""python -m tests.bench [--quick] [NAME...]: measure, beside the originals and Dovecot; doc/BENCHMARKS.md."""

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path

from tests.bench import table
from tests.bench.chains import chains
from tests.bench.home import Home, enter_namespace
from tests.bench.measures import MEASURES, Bench


def machine() -> str:
    """What kind of machine this is, in a line."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    model = models[0] if models else platform.machine()
    kernel, python = platform.release().partition("-")[0], platform.python_version()
    return f"{os.cpu_count()} x {model}, {memory:.0f} GB, Linux {kernel}, Python {python}"


def main() -> None:
    names = [measure.__name__ for measure in MEASURES]
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure, beside the originals.")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds, for a first look")
    parser.add_argument("name", nargs="*", help="what to measure, of " + ", ".join(names) + "; default: everything")
    wanted = parser.parse_args()
    for name in wanted.name:
        if name not in names:
            parser.error(f"no such measurement: {name}; there are {', '.join(names)}")
    system = enter_namespace()
    rounds, seconds = (3, 0.5) if wanted.quick else (7, 1.0)
    found, missing = chains(system)
    base = next((name for name in ("C", "Dovecot") if name in [chain.name for chain in found]), None)
    print(f"{time.strftime('%Y-%m-%d')}; {machine()}")
    print(f"{rounds} rounds of {seconds} s; ratios are to {base}; load before: {os.getloadavg()[0]:.1f}")
    for sentence in missing:
        print(sentence)
    with tempfile.TemporaryDirectory(prefix="bench.", ignore_cleanup_errors=True) as work:
        bench = Bench(Home(Path(work), system), found, base, rounds, seconds)
        table.head()
        for measure in MEASURES:
            if not wanted.name or measure.__name__ in wanted.name:
                measure(bench)
    print(f"load after: {os.getloadavg()[0]:.1f}, the benchmark's own included")


if __name__ == "__main__":
    main()
