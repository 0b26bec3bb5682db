"""Many students in one tensor program: their weights, their signs, one step of all."""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from neurofb.dynamics.curl_errors import LinearErrors, SampleErrors
from neurofb.dynamics.curl_training import CurlTraining
from neurofb.dynamics.flips import Signs
from neurofb.dynamics.student_teacher import StudentTeacher
from neurofb.dynamics.weight_norms import norms, rescale_

#: Runs are stepped in groups whose tensors take about this many bytes: a core's cache.
CACHE_BYTES = 3e6
_ORDER = 6  # stream of the order of samples; 0 to 5 belong to the problem


class CurlBatch:
    """Every choice of signs from every seed: run ``i * num_seeds + k`` has signs i and seed k.

    The network's weights are ``V * polarity`` (columns), and a step is
    ``V ← rescale(clip(V − η rows g columns))`` with the gradient g at the network's weights. Curl
    descent has polarity 1 and does not clip; `neurofb.dynamics.dale` uses both.

    Parameters
    ----------
    problem, training
        What is learned and how.
    signs
        Factors of the update of W1 and of W2, by condition.
    seeds
        Of teacher, start and data.
    errors
        Those of one condition (a run per seed).
    polarity
        By condition, the signs of the inputs' and of the hidden neurons' weights; None: as drawn.
    clip
        By condition, whether V stays at or above 0.
    """

    def __init__(
        self,
        problem: StudentTeacher,
        signs: Sequence[tuple[Signs, Signs]],
        training: CurlTraining,
        seeds: Sequence[int],
        errors: LinearErrors | SampleErrors,
        *,
        polarity: Sequence[tuple[np.ndarray, np.ndarray]] | None = None,
        clip: Sequence[bool] | None = None,
    ) -> None:
        like = errors.teacher if isinstance(errors, LinearErrors) else errors.train_inputs
        self.num_seeds, self.num_conditions = len(seeds), len(signs)
        seed_of_run = torch.arange(len(seeds), device=like.device).repeat(len(signs))

        def by_seed(arrays: Sequence[np.ndarray]) -> Tensor:
            return torch.as_tensor(np.stack(arrays)).to(like)[seed_of_run]

        def by_condition(arrays: Sequence[np.ndarray]) -> Tensor:
            tensor = torch.as_tensor(np.stack(arrays)).to(like)
            return tensor.repeat_interleave(len(seeds), 0)

        self.training = training
        self.errors = errors.keep(seed_of_run)
        self.seeds = np.array([seed for _ in signs for seed in seeds])
        students = [problem.student(seed) for seed in seeds]
        self.values = [by_seed([w[layer] for w in students]) for layer in (0, 1)]
        self.rows = [by_condition([s[layer].rows[:, None] for s in signs]) for layer in (0, 1)]
        self.columns = [by_condition([s[layer].columns[None] for s in signs]) for layer in (0, 1)]
        self.polarity = None
        #: Factors of the update of W1 and W2 of all runs, also of those that left.
        self.all_factors = [r * c for r, c in zip(self.rows, self.columns, strict=True)]
        if polarity is not None:
            self.polarity = [by_condition([p[k][None] for p in polarity]) for k in (0, 1)]
            self.values = [v.abs() for v in self.values]
            self.all_factors = [f * p for f, p in zip(self.all_factors, self.polarity, strict=True)]
        self.clip = None if clip is None else by_condition([np.array([[c]]) for c in clip]).bool()
        self.feedback = None
        if training.feedback == "direct":
            self.feedback = by_seed([problem.feedback(seed) for seed in seeds])
        self.norms = [norms(v, training.norm) for v in self.values]

    def weights(self) -> tuple[Tensor, Tensor]:
        """Return W1 (run, hidden, input) and W2 (run, output, hidden)."""
        if self.polarity is None:
            return self.values[0], self.values[1]
        return self.values[0] * self.polarity[0], self.values[1] * self.polarity[1]

    def losses(self) -> tuple[Tensor, Tensor]:
        """Return training and test loss (run)."""
        return self.errors.losses(*self.weights())

    def advance(self, first: int, last: int) -> None:
        """Do steps `first` to `last` − 1 of all runs; on a CPU, a few runs at a time."""
        num_runs = len(self.values[0])
        on_cpu = self.values[0].device.type == "cpu"
        size = max(1, int(CACHE_BYTES / self._bytes_per_run())) if on_cpu else num_runs
        for start in range(0, num_runs, size):
            part = self
            if size < num_runs:
                part = copy.copy(self)
                part.keep(slice(start, start + size))  # views: the part's steps are ours
            for number in range(first, last):
                part.step(number)

    def step(self, number: int) -> None:
        """Do one update, or one pass over the samples in batches."""
        size = self.training.batch_size
        if size is None or isinstance(self.errors, LinearErrors):
            self._update(self.errors, self.training.learning_rate)
            return
        num_samples = self.errors.train_inputs.shape[-1]
        orders = {
            seed: np.random.default_rng((seed, _ORDER, number)).permutation(num_samples)
            for seed in set(self.seeds.tolist())
        }
        order = torch.as_tensor(np.stack([orders[seed] for seed in self.seeds.tolist()]))
        for samples in order.to(self.values[0].device).split(size, dim=1):
            share = samples.shape[1] / num_samples
            self._update(self.errors.batch(samples), self.training.learning_rate * share)

    def keep(self, runs: Tensor | slice) -> None:
        """Drop all other runs; of a slice, everything is a view."""
        self.errors = self.errors.keep(runs)
        self.seeds = self.seeds[runs if isinstance(runs, slice) else runs.cpu().numpy()]
        self.values = [v[runs] for v in self.values]
        self.rows = [rows[runs] for rows in self.rows]
        self.columns = [columns[runs] for columns in self.columns]
        self.norms = [None if n is None else n[runs] for n in self.norms]
        self.feedback = None if self.feedback is None else self.feedback[runs]
        self.polarity = None if self.polarity is None else [p[runs] for p in self.polarity]
        self.clip = None if self.clip is None else self.clip[runs]

    def _bytes_per_run(self) -> int:
        """Return about how much memory a step of one run goes through."""
        _, num_hidden, num_inputs = self.values[0].shape
        numbers = 3 * num_hidden * num_inputs
        if isinstance(self.errors, SampleErrors):
            num_samples = self.errors.train_inputs.shape[-1]
            numbers += num_samples * (3 * num_hidden + num_inputs)
        elif self.errors.train_covariance.shape[-1] > 1:
            numbers += num_inputs**2
        return numbers * self.values[0].element_size()

    def _update(self, errors: LinearErrors | SampleErrors, rate: float | int) -> None:
        """Do one update with these errors."""
        left, right, readout = errors.gradients(*self.weights(), self.feedback)
        value = self.values[0]
        if right.shape[1] < left.shape[1]:  # signs go where there is less to multiply
            rows, columns = self.rows[0], self.columns[0]
            value.baddbmm_(left * rows, right * columns, alpha=-rate)
        else:
            value.addcmul_((left @ right).mul_(self.rows[0]), self.columns[0], value=-rate)
        self.values[1].addcmul_(readout * self.rows[1], self.columns[1], value=-rate)
        for value, kept in zip(self.values, self.norms, strict=True):
            if self.clip is not None:
                value.copy_(torch.where(self.clip, value.clamp_min(0), value))
            rescale_(value, kept)
