"""Decisions of supervision: what becomes of a service, which lines go into which log. Pure: no process, no file, no
clock. May import formats and itself."""
