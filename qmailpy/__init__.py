"""qmail's toolchain as small cooperating programs. doc/ says how the rooms fit together."""

__version__ = "0.1.0"
