"""The Llama that is trained here, and its form in transformers."""
