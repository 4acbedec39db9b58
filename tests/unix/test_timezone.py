"""unix.timezone: local time follows the environment of the command, not that of the process."""

import sys

import pytest

from tests.helpers import ROOT, environment, run

SCRIPT = """
import sys, time
sys.path.append(sys.argv[1])
from qmailpy.unix import timezone
timezone.follow({b"TZ": sys.argv[2].encode()} if sys.argv[2:] else {})
print(time.localtime(0)[:5])
"""


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("UTC0", "UTC0", "(1970, 1, 1, 0, 0)"),
        ("AAA-3", "AAA-3", "(1970, 1, 1, 3, 0)"),
        ("UTC0", "AAA-3", "(1970, 1, 1, 3, 0)"),
        (None, "AAA5", "(1969, 12, 31, 19, 0)"),
    ],
)
def test_the_zone_is_that_of_the_given_environment(before: str | None, after: str, expected: str) -> None:
    env = environment() if before is None else environment(TZ=before)
    result = run([sys.executable, "-ISc", SCRIPT, ROOT, after], env=env)
    assert result.stdout.decode().strip() == expected, result.stderr


def test_the_zone_is_the_systems_where_the_environment_has_none() -> None:
    systems = run([sys.executable, "-ISc", SCRIPT, ROOT])
    result = run([sys.executable, "-ISc", SCRIPT, ROOT], env=environment(TZ="AAA-13"))
    assert result.stdout == systems.stdout
