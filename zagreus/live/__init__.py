"""A run while it is made: its events, its training logs, and the page that shows both.

Needs the standard library only. Nothing here writes into a run but `events`, which the run itself
uses.
"""
