"""Learning the attention: losses, recipes, loop."""
