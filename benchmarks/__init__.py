"""What docs/performance.md states, measured: `make bench`."""
