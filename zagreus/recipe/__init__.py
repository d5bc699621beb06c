"""Pre-training recipes: nanotron's YAML, read strictly, and what a recipe costs."""
