"""Recipes that return something else than a scan takes."""


def number(seed: int = 0):
    return seed
