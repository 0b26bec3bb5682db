"""Simulators of learning that are no training run of a torch network: batched over conditions."""

from neurofb.dynamics.linear_network import simulate_linear
from neurofb.dynamics.linear_rules import RULES, LinearRule
from neurofb.dynamics.linear_settings import LinearCondition, LinearTraining, authors_protocol
from neurofb.dynamics.linear_start import LinearStart, initial_weights
from neurofb.dynamics.linear_task import LinearTask, random_task, task_from_data

__all__ = [
    "RULES",
    "LinearCondition",
    "LinearRule",
    "LinearStart",
    "LinearTask",
    "LinearTraining",
    "authors_protocol",
    "initial_weights",
    "random_task",
    "simulate_linear",
    "task_from_data",
]
