"""Decisions of the mail transport: who may relay, which recipients there are, when to try again. Pure: no process, no
file, no clock. May import formats and itself."""
