"""What the machines of a training can do, measured before it begins."""
