"""What the tools say that read the sources: see pyproject.toml for their settings."""

import sys

import pytest

from tests.helpers import ROOT, run


@pytest.mark.parametrize("arguments", [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]], ids=" ".join)
def test_the_sources_are_clean_for(arguments: list[str]) -> None:
    result = run([sys.executable, "-m", *arguments], cwd=ROOT, timeout=300)
    assert result.returncode == 0, (result.stdout + result.stderr).decode()
