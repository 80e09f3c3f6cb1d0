"""What a schedule does at a step is found without a look at its other lines; a look at all of them finds the same."""

import random

from qcore.automation.apply import _Plan
from qcore.config import check_schedule


def test_a_plan_agrees_with_a_look_at_every_line() -> None:
    draw = random.Random(4)
    for total in (1, 60, 137):
        lines = [f"{draw.randrange(140)}: clip_norm = {draw.random():.3f}" for _ in range(60)]
        lines += [f"{draw.randrange(101)}%: beta1 = 0.5, beta2 = 0.6" for _ in range(20)]
        for _ in range(40):
            start = draw.randrange(130)
            lines.append(f"{start} .. {start + draw.randrange(1, 40)}: clip_norm = 0.1 -> {draw.random() + 0.1:.3f}")
        lines += ["20% .. 25%: eos_weight = 0 -> 1", "90 .. 10%: eos_weight = 0 -> 1"]
        draw.shuffle(lines)
        schedule, plan = check_schedule(lines), _Plan(lines, total, "phase_lm")
        for step in [*range(145), *(draw.randrange(145) for _ in range(50))]:
            assert list(plan.points(step)) == [point for point in schedule.changes if point.step(total) == step]
            under_way = [ramp for ramp in schedule.ramps if ramp.span(total)[0] <= step <= ramp.span(total)[1]]
            assert [ramp for *_, ramp in plan.ramps(step)] == under_way
