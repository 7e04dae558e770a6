"""What the user types: one file a command, none of which imports torch before it must."""
