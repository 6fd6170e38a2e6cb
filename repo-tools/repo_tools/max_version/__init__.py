"""`repo-tools max-version`: how far up machines may go."""
