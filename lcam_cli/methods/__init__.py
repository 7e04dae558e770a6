"""A file a family of methods, all with one signature."""
