"""Virtual domains as vpopmail has them on disk: which there are, and their accounts and aliases."""
