"""One run by several processes: who does what, and how they know of each other."""
