"""libraries - third-party packages under `python -IS`, whose path ends with the standard library."""

import sys


def enable() -> None:
    """Make what is installed in this Python's site-packages importable, a virtual environment's or the system's.

    Costs as much as a whole start of the interpreter, so it stands directly before the import of something
    heavy. The user's own site-packages stay out: python -I rules them out.
    """
    if "site" not in sys.modules:
        import site

        site.main()
