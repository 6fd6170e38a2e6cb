"""`repo-tools key`: private keys as files."""
