"""Post-training with Axolotl: recipes in its schema, its runs made repeatable, its result as a model folder."""
