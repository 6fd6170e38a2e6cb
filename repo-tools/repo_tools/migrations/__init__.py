"""`repo-tools migrations`: what runs between two versions."""
