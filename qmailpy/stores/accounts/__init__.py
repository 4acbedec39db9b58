"""Where accounts and their password hashes live: one module per kind of database."""
