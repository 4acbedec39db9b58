# make run    servers on 127.0.0.1 with an account and a few messages: POP3 on 1110 and 1995, SMTP on 1025, submission on 1587
# make test   everything the tests need, and the tests
# make bench  speed and memory beside Debian's programs; names choose: make bench NAMES="sessions memory"
# make man    the manual pages, in man/
# make home   a qmail home in QMAILHOME, /var/qmail unless set
# make clean  remove what the others made, but not var/home

.PHONY: run test bench man home clean peers
SHELL = /bin/sh
VENV = var/venv
PY = $(VENV)/bin/python3
QMAILHOME ?= /var/qmail

# Debian's own comes first: it is built with more optimizations than most others.
FIND_PYTHON = for p in /usr/bin/python3 python3 python3.13 python3.12 python3.11 python3.10; do \
	"$$p" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && break; p=; done; \
	test -n "$$p" || { echo 'qmailpy needs Python 3.10 or newer with the modules venv and ensurepip' \
	'(on Debian: apt-get install python3-venv)' >&2; exit 1; }

run: $(VENV)/installed
	@$(PY) tools/run.py

test: $(VENV)/tests-installed peers
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(PY) -m pytest -n 3 --dist worksteal

bench: $(VENV)/tests-installed peers
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(PY) -m tests.bench $(NAMES)

man:
	@rm -rf man; $(FIND_PYTHON); "$$p" tools/manpages.py man && echo "man -M $(CURDIR)/man tcpserver"

home:
	@$(FIND_PYTHON); "$$p" tools/home.py "$(QMAILHOME)"

$(VENV)/bin/python3:
	@$(FIND_PYTHON); mkdir -p var && "$$p" -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python3 setup.cfg
	($(PY) tools/dependencies.py; $(PY) tools/dependencies.py tls) | xargs $(PY) -m pip install -q
	touch $@

$(VENV)/tests-installed: $(VENV)/installed
	$(PY) tools/dependencies.py test | xargs $(PY) -m pip install -q
	touch $@

peers:
	@tools/peers.sh

clean:
	rm -rf $(VENV) var/peers man build .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +
