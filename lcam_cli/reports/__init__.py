"""What is told about a run: results as data, as tables, and the gates they must pass."""
