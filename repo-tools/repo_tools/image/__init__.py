"""`repo-tools image`: what machines are made of."""
