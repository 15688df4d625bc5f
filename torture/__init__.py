"""Kills Lockboard in the middle of actions and holds what is left against what it promises: `make
torture`.
"""
