"""The rules of the house, read from the sources: who may import whom, what only one file may do, and which lists of
commands must be in step. doc/README.md shows the rooms."""

import ast
import configparser
import os
import re
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qmailpy.formats import manpage
from qmailpy.registry import COMMANDS
from tests.helpers import BIN, ROOT, needs, run

PACKAGE = ROOT / "qmailpy"
FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {file.relative_to(PACKAGE).as_posix(): ast.parse(file.read_bytes(), str(file)) for file in FILES}
MODULES = {command.module: name for name, command in COMMANDS.items()}
DOCSTRINGS = {
    name: ast.get_docstring(TREES[f"commands/{module}.py"], clean=False) or "" for module, name in MODULES.items()
}

# A room, or a file that is a room of its own: what of the package it may import.
MAY_IMPORT = {
    "formats": {"formats"},
    "protocols": {"formats", "protocols"},
    "unix": {"strerr", "unix"},
    "supervision": {"formats", "supervision"},
    "mta": {"formats", "mta"},
    "stores": {"__version__", "formats", "stores", "strerr", "unix"},
    "loops": {"formats", "loops", "protocols", "strerr", "supervision", "unix"},
    "commands": {
        "chain",
        "formats",
        "loops",
        "mta",
        "protocols",
        "registry",
        "stores",
        "strerr",
        "supervision",
        "unix",
    },
    "chain.py": {"registry", "strerr", "unix"},
    "strerr.py": set(),
    "registry.py": set(),
    "__init__.py": set(),
}

# No I/O, no clock: all that these rooms have from outside.
PURE = ("formats/", "mta/", "protocols/", "supervision/", "registry.py")
PURE_MODULES = {"_collections_abc", "_heapq", "_md5", "binascii", "collections.abc", "errno", "re", "struct"}

# Rooms whose modules keep nothing: a process may be several programs one after the other.
STATELESS = ("commands/", "formats/", "loops/", "mta/", "protocols/", "stores/", "supervision/")
CHANGING = {"add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "remove", "setdefault", "update"}

# Too heavy for a process per connection.
HEAVY = {"asyncio", "collections", "dataclasses", "enum", "logging", "re", "socket", "ssl", "subprocess", "typing"}

# Names that few files may use; a name ending in * stands for all that begin like it.
RESERVED = {
    "os.exec*": {"chain.py"},
    "os.posix_spawn*": {
        "chain.py",
        "commands/checkpassword_test.py",  # runs a checker as a stranger does, not as the next program
    },
    "os.spawn*": set(),
    "os.system": set(),
    "os.popen": set(),
    "os.environ*": {"chain.py"},
    "os.getenv*": set(),
    "os.putenv": {"unix/timezone.py"},
    "sys.argv": {"chain.py"},
    "sys.stdin": set(),
    "sys.stdout": set(),
    "sys.stderr": set(),
    "print": set(),
    "input": set(),
    "os.dup2": {"chain.py", "unix/fds.py"},
    "os.set_inheritable": {"chain.py", "unix/fds.py"},
    "__import__": {"chain.py"},
}

RESERVED_MODULES = {
    "_signal": {"unix/signals.py"},
    "signal": {"commands/checkpassword_test.py"},  # the names of signals, for people to read
    "logging": set(),
    "threading": set(),
    "atexit": set(),
    "subprocess": set(),
    "importlib": set(),
}

SECTIONS = [
    "NAME",
    "SYNOPSIS",
    "DESCRIPTION",
    "OPTIONS",
    "CONTROL FILES",
    "ENVIRONMENT",
    "EXIT STATUS",
    "SECURITY",
    "BUGS",
    "SEE ALSO",
]
NEEDED = {"NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "SEE ALSO"}

CHANGE = re.compile(r"    \d{8} (new|bug|code|doc|security): [^:]+: \S.*")


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and module of each import; of `from qmailpy import x`, qmailpy.x. Relative ones begin with a dot."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            names = [f"qmailpy.{alias.name}" for alias in node.names] if module == "qmailpy" else [module]
            yield from ((node.lineno, name) for name in names)


def uses(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of each os.x and sys.x, and of each name that stands alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("os", "sys"):
            yield node.lineno, f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.Name):
            yield node.lineno, node.id


def changes(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text wherever something changes what a name of the module stands for, as far as one can see."""
    assert isinstance(tree, ast.Module)
    own = {
        node.id
        for statement in tree.body
        if isinstance(statement, ast.Assign | ast.AnnAssign)
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    } | {statement.name for statement in tree.body if isinstance(statement, ast.ClassDef | ast.FunctionDef)}
    for node in ast.walk(tree):
        changed = node.func if isinstance(node, ast.Call) else node
        if isinstance(changed, ast.Attribute | ast.Subscript) and isinstance(changed.value, ast.Name):
            assigned = isinstance(changed.ctx, ast.Store | ast.Del)
            called = changed is not node and isinstance(changed, ast.Attribute) and changed.attr in CHANGING
            if changed.value.id in own and (assigned or called):
                yield changed.lineno, ast.unparse(node)
        elif isinstance(node, ast.Global):
            yield node.lineno, ast.unparse(node)


def offences(
    found: Callable[[ast.AST], Iterator[tuple[int, str]]],
    allowed: Callable[[str, str], bool],
    only: tuple[str, ...] = ("",),
) -> list[str]:
    """file:line: name, wherever something is found that the file may not have."""
    return [
        f"{file}:{line}: {name}"
        for file, tree in TREES.items()
        if file.startswith(only)
        for line, name in found(tree)
        if not allowed(file, name)
    ]


def reserved(name: str, table: dict[str, set[str]]) -> set[str] | None:
    """The files that may use name; None if all may."""
    for pattern, files in table.items():
        if name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1])):
            return files
    return None


def allowed_by(table: dict[str, set[str]]) -> Callable[[str, str], bool]:
    return lambda file, name: file in (reserved(name, table) or set()) or reserved(name, table) is None


def test_every_room_imports_only_what_it_may() -> None:
    def allowed(file: str, name: str) -> bool:
        if not name.startswith("qmailpy."):
            return True
        return name.split(".")[1] in MAY_IMPORT[file.split("/")[0]]

    assert offences(imports, allowed) == []


def test_imports_say_the_whole_name() -> None:
    """So that the other tests see them."""
    assert offences(imports, lambda file, name: not name.startswith(".") and name != "qmailpy") == []
    from_os = [
        f"{file}:{node.lineno}"
        for file, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in ("os", "sys")
    ]
    assert from_os == []


def test_pure_rooms_have_nothing_that_reads_or_writes_or_knows_the_time() -> None:
    def allowed(file: str, name: str) -> bool:
        return name in PURE_MODULES or name.startswith("qmailpy.")

    assert offences(imports, allowed, only=PURE) == []
    assert offences(uses, lambda file, name: name != "open", only=PURE) == []


def test_what_is_one_files_business_stays_there() -> None:
    assert offences(uses, allowed_by(RESERVED)) == []
    assert offences(imports, allowed_by(RESERVED_MODULES)) == []


def test_no_exception_is_left_over() -> None:
    used = {(file, name) for file, tree in TREES.items() for found in (uses, imports) for _, name in found(tree)}
    for pattern, files in {**RESERVED, **RESERVED_MODULES}.items():
        for file in files - {"chain.py", "unix/fds.py"}:
            assert any(where == file and reserved(name, {pattern: files}) for where, name in used), (pattern, file)


def test_modules_keep_nothing_between_two_runs_of_a_command() -> None:
    assert offences(changes, lambda file, name: False, only=STATELESS) == []


def test_a_process_per_connection_stays_small() -> None:
    preload = (
        "import sys; sys.path.append(sys.argv[1])\n"
        "from qmailpy import chain\n"
        "from qmailpy.commands import tcpserver\n"
        "chain._Toolkit.folder = sys.argv[1] + '/bin'\n"
        "chain._know_launchers()\n"
        "chain.preload([word.encode() for word in sys.argv[2:]], {b'PATH': chain._Toolkit.folder.encode()})\n"
        "print(*sys.modules)"
    )
    words = ["qmail-popup", "host", "checkpassword", "checkpassword-flatfile", "qmail-pop3d", "Maildir", "qmail-smtpd"]
    result = run([sys.executable, "-IS", "-c", preload, ROOT, *words])
    loaded = set(result.stdout.decode().split())
    assert {f"qmailpy.commands.{COMMANDS[word].module}" for word in words if word in COMMANDS} <= loaded, result.stderr
    assert loaded & HEAVY == set()


@pytest.mark.parametrize("file", [*FILES, *sorted((ROOT / "tools").glob("*.py"))], ids=lambda file: file.name)
def test_every_module_says_what_it_is(file: Path) -> None:
    assert ast.get_docstring(ast.parse(file.read_bytes())), file


def test_each_command_has_a_module_a_launcher_and_a_test() -> None:
    """And there are no others."""
    assert {file.stem for file in (PACKAGE / "commands").glob("*.py")} - {"__init__"} == set(MODULES)
    assert {file.name for file in BIN.iterdir() if not file.name.startswith(".")} == set(COMMANDS)
    tests = {file.stem for file in (ROOT / "tests" / "commands").glob("test_*.py")}
    assert tests == {f"test_{module}" for module in MODULES}


def test_commands_are_installed_in_the_order_of_the_registry() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert config["options"]["scripts"].split() == [f"bin/{name}" for name in COMMANDS]
    assert list(COMMANDS) == sorted(COMMANDS)


def test_launchers_are_all_alike() -> None:
    text = runpy.run_path(str(ROOT / "tools" / "launchers.py"))["text"]
    for name in COMMANDS:
        assert (BIN / name).read_text() == text(name), f"python3 tools/launchers.py writes bin/{name} again"
        assert os.access(BIN / name, os.X_OK)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_manual_page_has_its_sections_in_order(name: str) -> None:
    sections = [heading for heading, _ in manpage.sections(DOCSTRINGS[name])]
    assert [heading for heading in sections if heading in SECTIONS] == [each for each in SECTIONS if each in sections]
    assert set(sections) >= NEEDED
    assert sections[:3] == SECTIONS[:3]
    assert sections[-1] == SECTIONS[-1]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_manual_page_says_the_name_of_the_command(name: str) -> None:
    sections = dict(manpage.sections(DOCSTRINGS[name]))
    assert sections["NAME"][0].startswith(f"{name} - ")
    forms = [line for line in sections["SYNOPSIS"] if line and not line.startswith(" ")]
    assert forms
    assert all(form.split()[0] == name for form in forms)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_manual_page_refers_to_pages_by_their_section(name: str) -> None:
    for other, section in re.findall(r"([\w.@-]+)\((\d)\)", DOCSTRINGS[name]):
        assert other not in COMMANDS or COMMANDS[other].section == int(section), other


def constants(name: str) -> dict[str, bytes]:
    """PROGRAM and USAGE of a command, if it has them."""
    return {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in TREES[f"commands/{COMMANDS[name].module}.py"].body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id in ("PROGRAM", "USAGE")
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_calls_itself_by_its_name(name: str) -> None:
    found = constants(name)
    assert found.get("PROGRAM", name.encode()) == name.encode()
    start = b"-ERR usage: popup" if name == "qmail-popup" else name.encode()  # it speaks POP3 from the first byte on
    assert (found.get("USAGE", start) + b" ").startswith(start + b" ")


def letters_and_words(form: str) -> tuple[set[str], int]:
    """The options of a usage line or synopsis, and how many other words it asks for."""
    optional = re.findall(r"\[ *-(\w+)", form)
    needed = re.sub(r"\[[^][]*\](?:\.\.\.)?", "", form.partition(" ")[2])
    return set("".join(optional)), len(needed.split())


@pytest.mark.parametrize("name", [name for name in COMMANDS if "USAGE" in constants(name)])
def test_usage_and_synopsis_agree(name: str) -> None:
    """The usage lines are the originals': no option of theirs is missing in SYNOPSIS, which may have more."""
    usage = constants(name)["USAGE"].decode().removeprefix("-ERR usage: ").rstrip()
    letters, words = letters_and_words(usage)
    more, same_words = letters_and_words(" ".join(dict(manpage.sections(DOCSTRINGS[name]))["SYNOPSIS"]))
    if name == "rblsmtpd":
        letters.remove("R")  # there is none, as BUGS says
    assert (letters - more, words) == (set(), same_words)


def test_the_manual_pages_are_clean_and_fit_a_terminal(tmp_path: Path) -> None:
    assert run([sys.executable, ROOT / "tools" / "manpages.py", tmp_path]).stderr == b""
    pages = sorted(tmp_path.rglob("*.[1-9]"))
    assert len(pages) == len(COMMANDS)
    lint = run([needs("mandoc"), "-T", "lint", "-W", "warning", *pages])
    assert (lint.returncode, lint.stdout) == (0, b"")
    shown = run([needs("groff"), "-man", "-ww", "-Tutf8", "-rLL=80n", "-P-cbou", *pages])
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert [line for line in shown.stdout.decode().splitlines() if len(line) > 80] == []


SERVICES = [*sorted((ROOT / "service").glob("*/run")), *sorted((ROOT / "service").glob("*/log/run"))]


def programs(script: str) -> Iterator[str]:
    """The program behind each exec, and at the beginning of each line that continues one."""
    continued = False
    for line in script.splitlines():
        words = line.split()
        if continued or (words[:1] == ["exec"] and not words[1][0].isdigit()):
            yield words[0 if continued else 1]
            continued = line.endswith("\\")


@pytest.mark.parametrize("file", SERVICES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_service_is_one_chain_of_known_programs(file: Path) -> None:
    script = file.read_text()
    found = list(programs(script))
    assert os.access(file, os.X_OK)
    assert len(script.splitlines()) <= 10
    assert found
    assert set(found) <= COMMANDS.keys()


def test_each_change_is_a_line_with_day_kind_and_command() -> None:
    lines = [line for line in (ROOT / "CHANGES.md").read_text().splitlines() if line.startswith((" ", "2"))]
    assert lines
    assert [line for line in lines if not CHANGE.fullmatch(line)] == []
    days = [line.split()[0] for line in lines]
    assert days == sorted(days, reverse=True)  # the newest first
