"""The layers of `zagreus.model.llama` and the loss for a CPU, written by hand: one thread a rank, no compiler."""
