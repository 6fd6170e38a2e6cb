"""`repo-tools root`: who may sign what, and the ceremony that changes it."""
