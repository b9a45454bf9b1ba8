"""Scores of explanations."""

from hessx.score.taylor import perturbation_mse

__all__ = ["perturbation_mse"]
