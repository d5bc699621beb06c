"""The configuration: read, checked against its schema and against the rest, at the start."""
