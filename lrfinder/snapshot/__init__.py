"""Take and restore everything that a training step may change."""
