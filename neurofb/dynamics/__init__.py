"""Simulators of learning that are no training run of a torch network: batched over conditions."""

from neurofb.dynamics.balanced_network import simulate_balanced
from neurofb.dynamics.balanced_settings import BalancedNetwork
from neurofb.dynamics.balanced_statistics import balanced_statistics
from neurofb.dynamics.curl_descent import curl_descent
from neurofb.dynamics.curl_tangent import CurlMap
from neurofb.dynamics.curl_training import CurlTraining
from neurofb.dynamics.dale import Dale, dale_descent
from neurofb.dynamics.flips import Flips
from neurofb.dynamics.linear_network import simulate_linear
from neurofb.dynamics.linear_rules import RULES, LinearRule
from neurofb.dynamics.linear_settings import LinearCondition, LinearTraining, authors_protocol
from neurofb.dynamics.linear_start import LinearStart, initial_weights
from neurofb.dynamics.linear_task import LinearTask, random_task, task_from_data
from neurofb.dynamics.student_teacher import StudentTeacher

__all__ = [
    "RULES",
    "BalancedNetwork",
    "CurlMap",
    "CurlTraining",
    "Dale",
    "Flips",
    "LinearCondition",
    "LinearRule",
    "LinearStart",
    "LinearTask",
    "LinearTraining",
    "StudentTeacher",
    "authors_protocol",
    "balanced_statistics",
    "curl_descent",
    "dale_descent",
    "initial_weights",
    "random_task",
    "simulate_balanced",
    "simulate_linear",
    "task_from_data",
]
