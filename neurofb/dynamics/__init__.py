"""Simulators of learning that are no training run of a torch network: batched over conditions."""

__all__: list[str] = []
