"""What ``lcam demo`` runs on: generated pictures and a small classifier."""
