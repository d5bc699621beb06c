"""Chat rows for post-training, made from packages, from a hub data set, or from local files."""
