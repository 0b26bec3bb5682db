"""neurofb."""
