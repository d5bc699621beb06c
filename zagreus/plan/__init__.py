"""What a run needs before it runs: tokens, hours, bytes, money."""
