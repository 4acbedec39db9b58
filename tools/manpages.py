"""manpages - the manual pages of all commands, rendered from their docstrings: `python3 tools/manpages.py DIR`
writes DIR/man1/argv0.1 and so on. The modules are read, not imported."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import qmailpy  # noqa: E402
from qmailpy.formats import manpage  # noqa: E402
from qmailpy.registry import COMMANDS  # noqa: E402


def docstring(module: str) -> str:
    """The docstring of a command's module; SystemExit says which has none."""
    file = ROOT / "qmailpy" / "commands" / f"{module}.py"
    return ast.get_docstring(ast.parse(file.read_bytes()), clean=False) or sys.exit(f"{file}: no docstring")


def date() -> str:
    """The day of the newest entry of CHANGES.md, as 2026-11-23."""
    days = re.findall(r"^ *(\d{4})(\d\d)(\d\d) ", (ROOT / "CHANGES.md").read_text(), re.MULTILINE)
    return "-".join(max(days))


def pages() -> Iterator[tuple[str, str]]:
    """Each page's path below the man folder, and its roff."""
    day, source = date(), f"qmailpy {qmailpy.__version__}"
    for name, command in COMMANDS.items():
        text = manpage.render(docstring(command.module), name, command.section, day, source)
        yield f"man{command.section}/{name}.{command.section}", text


def write(folder: Path) -> None:
    """Write all pages into folder, beside what is there."""
    for path, text in pages():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
