"""One file per step; a file that was released never changes."""
