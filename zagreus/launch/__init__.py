"""Processes that train together: torchrun, GPUs of a machine, environment variables."""
