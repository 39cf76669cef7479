"""The practice cluster and the demo that plays the main job on it."""
