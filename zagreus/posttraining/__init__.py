"""Post-training with Axolotl.

Recipes in its schema, its runs made repeatable, its result as a model folder.
"""
