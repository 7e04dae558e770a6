"""Where classifiers come from: a file a source, their weights, a registry."""
