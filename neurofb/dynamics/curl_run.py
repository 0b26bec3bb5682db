"""The loop of curl descent: many runs in one tensor program; runs that are done leave it."""

from collections.abc import Callable

import torch
from torch import Tensor

from neurofb.dynamics.curl_batch import CurlBatch
from neurofb.dynamics.wandering import Wandering

#: A loss above this has diverged (outputs are of order one).
DIVERGED = 1e12
#: Losses below this are rounding: they count as this in the rise of the loss.
ROUNDING = 1e-28
#: Steps over which the weights are watched at the end of a run (or half the run, if shorter).
WANDERING_STEPS = 1000


class Course:
    """What happened to the runs: losses (run, record), weights at the end, the rest (run)."""

    def __init__(self, batch: CurlBatch, records: list[int]) -> None:
        """Start with nothing seen: NaN, and the weights of the start."""
        self.records = records
        self._columns = {step: column for column, step in enumerate(records)}
        self.hidden, self.readout = (w.clone() for w in batch.weights())
        nan = torch.full_like(self.hidden[:, 0, 0], torch.nan)
        self.train_loss = nan[:, None].repeat(1, len(records))
        self.test_loss = self.train_loss.clone()
        self.hit_step, self.stopped_at, self.diverged_at = nan.clone(), nan.clone(), nan.clone()
        self.final_loss, self.final_test_loss = nan.clone(), nan.clone()
        self.wandering = nan.clone()
        self.step_size_number = torch.zeros_like(nan)
        self.loss_rise = torch.ones_like(nan)
        self._lowest = torch.full_like(nan, torch.inf)
        self._solved_at_start = torch.zeros_like(nan, dtype=torch.bool)

    def look(
        self, event: int, runs: Tensor, train: Tensor, test: Tensor, target_loss: float | int
    ) -> None:
        """Take in the losses of these runs after `event` steps."""
        column = self._columns.get(event)
        if column is not None:
            self.train_loss[runs, column] = train
            self.test_loss[runs, column] = test
        solved = test < target_loss
        if event == 0:
            self._solved_at_start[runs] = solved
        # the rise of the loss counts up to the hit, where there is one on the way
        counts = self.hit_step[runs].isnan() | self._solved_at_start[runs]
        level = train.clamp_min(ROUNDING)
        lowest = torch.fmin(self._lowest[runs], level)
        rise = torch.where(counts, torch.fmax(self.loss_rise[runs], level / lowest), torch.nan)
        self._lowest[runs] = lowest
        self.loss_rise[runs] = torch.fmax(self.loss_rise[runs], rise)
        self.hit_step[runs] = torch.fmin(
            self.hit_step[runs], torch.where(solved, float(event), torch.nan)
        )

    def leave(
        self,
        event: int,
        runs: Tensor,
        losses: tuple[Tensor, Tensor],
        weights: tuple[Tensor, Tensor],
    ) -> None:
        """Take in the end of these runs; a loss that is kept from here on (NaN if it diverged)."""
        self.hidden[runs], self.readout[runs] = weights
        self.final_loss[runs], self.final_test_loss[runs] = losses
        late = torch.tensor(self.records, device=runs.device) > event
        for table, loss in zip((self.train_loss, self.test_loss), losses, strict=True):
            table[runs] = torch.where(late, loss[:, None], table[runs])


def follow(
    batch: CurlBatch,
    *,
    records: list[int],
    check_every: int,
    target_loss: float | int,
    stop_below: float | int | None,
    step_size_number: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> Course:
    """Run a batch to the last record, and write down what happens.

    Losses are looked at every `check_every` steps and at each record; what lies between is not
    seen (`hit_step` is exact to `check_every`). A run leaves the batch when its training loss falls
    below `stop_below` (it keeps that loss from there on) or when it diverges (NaN from there on).

    Parameters
    ----------
    batch
        The runs, at their start.
    records
        Steps at which losses are recorded, in order, from 0.
    check_every
        Steps between looks at the losses.
    target_loss
        Test loss that counts as solved.
    stop_below
        Training loss at which a run is done; None: never.
    step_size_number
        (runs, W1, W2) → a number for each; the largest over about ten of the records is kept.

    Raises
    ------
    ValueError
        If a run begins below `stop_below`.
    """
    course = Course(batch, records)
    alive = torch.arange(len(course.hit_step), device=course.hit_step.device)
    last = records[-1]
    window = last - min(WANDERING_STEPS, last // 2)
    measured = {*records[:: max(1, len(records) // 10)], last}
    wandering = Wandering(course.hidden)
    done = 0
    for event in sorted({*records, *range(0, last + 1, check_every)}):
        batch.advance(done, event)
        done = event
        train, test = batch.losses()
        diverged = ~((train <= DIVERGED) & (test <= DIVERGED))
        train, test = (torch.where(diverged, torch.nan, loss) for loss in (train, test))
        if event == 0:
            _check_start(train, stop_below)
        course.look(event, alive, train, test, target_loss)
        if event in measured:
            seen = step_size_number(alive, *batch.weights())
            course.step_size_number[alive] = torch.fmax(course.step_size_number[alive], seen)
        if event >= window:
            wandering.add(alive, batch.weights()[0])
        solved = torch.zeros_like(diverged) if stop_below is None else train < stop_below
        gone = diverged | solved
        if event < last and not bool(gone.any()):
            continue
        weights = batch.weights()
        course.leave(event, alive, (train, test), weights)
        course.diverged_at[alive[diverged]] = float(event)
        course.stopped_at[alive[solved]] = float(event)
        kept = (~gone).nonzero()[:, 0]
        if event == last or len(kept) == 0:
            break
        batch.keep(kept)
        alive = alive[kept]
    course.wandering = wandering.result()
    course.wandering[~course.stopped_at.isnan()] = 0.0
    course.wandering[~course.diverged_at.isnan()] = torch.nan
    return course


def _check_start(loss: Tensor, stop_below: float | int | None) -> None:
    """Refuse a run that would be done before it begins."""
    lowest = float(loss.min())
    if stop_below is not None and lowest < stop_below:
        raise ValueError(
            f"stop_below={stop_below:g} must lie below the loss at the start, {lowest:.3g}; "
            "lower it, or give None to run to the end"
        )
