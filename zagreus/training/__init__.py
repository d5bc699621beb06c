"""Pre-training: data order, learning rate, loss, optimizer step, checkpoints, the loop."""
