"""One program, one file. A module's docstring is its manual page; `main(argv, env)` returns an exit code or
the next program (chain.Exec). No command imports another."""
