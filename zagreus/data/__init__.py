"""Text: packages of the registry, sources, tokenizers and token shards."""
