"""Scaling laws: the fit of loss(N, D) to small trainings, and what it predicts."""
