from tests.helpers import BIN, run

SCRIPT = (
    "import sys; sys.path.insert(0, sys.argv[1])\n"
    "from qmailpy.unix import libraries\n"
    "try:\n"
    "    import passlib; print('early')\n"
    "except ImportError:\n"
    "    libraries.enable(); libraries.enable()\n"
    "    import passlib; print('late')\n"
)


def test_packages_of_this_python_become_importable() -> None:
    result = run(["python3", "-IS", "-c", SCRIPT, str(BIN.parent)])
    assert (result.stdout, result.stderr) == (b"late\n", b"")
