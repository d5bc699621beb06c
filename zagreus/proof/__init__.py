"""Proof of a finished run: its bytes checked, compared with another run, and made again.

Needs the standard library only: a run can be checked on a machine that has nothing else.
"""
