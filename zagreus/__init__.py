"""The library behind the scripts.

Data, tokenizer, model, training, post-training, evaluation, reporting.
"""

__version__ = "0.1.0"
