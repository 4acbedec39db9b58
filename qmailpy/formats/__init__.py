"""Bytes to values and back. Pure: no file, no socket, no clock, no environment. May import formats only."""
