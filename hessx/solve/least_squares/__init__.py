"""Explanations as least squares: second moments of perturbations, and systems with them."""
