"""Engines meet descriptors: conversations on 0 and 1, accept and fork, copying. May import protocols, unix
and strerr (and what those are made of: formats); never stores or commands."""
