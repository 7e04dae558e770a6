"""Weights of networks: reading files of strangers, finding what fits, saying why nothing does."""
