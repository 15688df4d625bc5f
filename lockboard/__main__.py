"""`python -m lockboard` is the `lockboard` command."""

from lockboard.cli import main

main()
