"""Evaluation.

Data sets and their items, lm-eval tasks, scores with what stands beside them, baselines, samples.
"""
