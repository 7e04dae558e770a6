"""What ``lcam demo`` runs on: generated images and a small classifier."""
