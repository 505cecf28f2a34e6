"""Decides: the mathematics of bandits and of stopping. No Django, no Redis, no clock, no
environment enter this package.

Errors: everything that an argument can be wrong about raises ValueError with what was expected.
"""
