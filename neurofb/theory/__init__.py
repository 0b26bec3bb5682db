"""Curves without simulation: what mathematics says that a simulation should give."""

__all__: list[str] = []
