"""Many people looking at once: what `make load` does, and what it asserts of the server meanwhile."""
