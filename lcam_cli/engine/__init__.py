"""The one engine that all commands share."""
