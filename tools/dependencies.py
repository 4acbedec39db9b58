"""dependencies - what setup.cfg asks for, one a line: `python3 tools/dependencies.py [EXTRA]`."""

import configparser
import sys
from pathlib import Path

config = configparser.ConfigParser()
config.read(Path(__file__).resolve().parent.parent / "setup.cfg")
section, option = ("options.extras_require", sys.argv[1]) if len(sys.argv) > 1 else ("options", "install_requires")
print("\n".join(config[section][option].split()))
