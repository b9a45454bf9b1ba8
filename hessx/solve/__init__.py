"""Small dense solves on accumulated moments."""
