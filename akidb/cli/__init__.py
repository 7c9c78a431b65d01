"""Entry points: arguments in, one call, exit code out."""
