"""table - values of several candidates that took turns, as rows of medians and of ratios to one of them.

The machine is never quiet. What disturbs it disturbs the neighbours in a round alike, so each round gives one
ratio, and the ratio shown is the median of those, not the ratio of the medians.
"""

import statistics
from collections.abc import Callable

from tests.bench.load import Trouble

HEAD = ("measured", "candidate", "median", "ratio", "lowest, highest", "CPU per session")
WIDTHS = (44, 22, 16, 6, 15, 17)

Turn = Callable[[], float]


def row(cells: tuple[str, ...]) -> None:
    print("| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True)) + " |", flush=True)


def head() -> None:
    row(HEAD)
    row(tuple("-" * width for width in WIDTHS))


def alternate(turns: dict[str, Turn], rounds: int) -> dict[str, list[float]]:
    """A B C A B C ...: the values of each. Who gets into trouble is named and left out."""
    values: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name in list(values):
            try:
                values[name].append(turns[name]())
            except (OSError, Trouble) as e:
                print(f"{name} is left out: {e}", flush=True)
                del values[name]
    return values


def show(
    measured: str, unit: str, values: dict[str, list[float]], base: str | None, costs: dict[str, str] | None = None
) -> None:
    """One row for each candidate; ratios are to base, if that is among them."""
    for name, own in values.items():
        ratio = span = ""
        if base in values and base != name:
            ratios = [a / b for a, b in zip(own, values[base], strict=True)]
            ratio = f"{statistics.median(ratios):.2f}"
            span = f"{min(ratios):.2f}, {max(ratios):.2f}" if len(ratios) > 1 else ""
        median = statistics.median(own)
        shown = f"{median:.0f}" if median >= 100 else f"{median:.3g}"
        row((measured, name, f"{shown} {unit}", ratio, span, (costs or {}).get(name, "")))
