"""What may be done: gather, decide, apply. Speaks to the world only through the domain's ports."""
