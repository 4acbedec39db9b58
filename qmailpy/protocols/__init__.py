"""Conversations without I/O: bytes in, requests out; replies in, bytes out. May import formats and itself."""
