"""What a command does, for the command line and for Python alike."""
