"""`repo-tools release`: what is offered to machines."""
