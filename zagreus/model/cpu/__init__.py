"""The layers of `zagreus.model.llama` and the loss for a CPU, written by hand.

One thread a rank, no compiler.
"""
