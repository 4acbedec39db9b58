"""backend - builds with setuptools, after rendering the manual pages: nothing generated is kept in the repository."""

import shutil
from pathlib import Path
from typing import Any

import manpages
from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403

ROOT = Path(__file__).resolve().parent.parent


def build_wheel(*arguments: Any, **settings: Any) -> str:
    """A wheel with share/man; never with what an earlier build left."""
    for left in "build", "man":
        shutil.rmtree(ROOT / left, ignore_errors=True)
    manpages.write(ROOT / "man")
    return str(build_meta.build_wheel(*arguments, **settings))
