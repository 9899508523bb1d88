"""What a progress bar needs to know of a merge before it begins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from merging.adapter import Adapter
from merging.calibration.cost import merge_cost
from merging.calibration.row_sets import row_sets
from merging.request import MergeRequest, Source


def test_sets_are_named_in_a_user_s_words(random_adapter: Callable[..., Adapter]) -> None:
    adapters = (random_adapter(seed, marks=("q_proj",)) for seed in (1, 2, 3))
    triggers = ("sks cat", "qfj dog", "")
    sources = tuple(Source(one, trigger=word) for one, word in zip(adapters, triggers, strict=True))
    request = MergeRequest(sources[:2], samples=4)
    assert [each.subject for each in row_sets(request)] == [
        "sks cat",
        "qfj dog",
        "qfj dog and sks cat together",
        "everything else",
    ]
    nameless = replace(sources[2].adapter, trigger="")
    lines = ("a picture",)
    last = replace(sources[2], adapter=nameless, prompts=lines)
    (_, own) = row_sets(MergeRequest((sources[0], last), samples=4, teacher="single"))
    assert own.subject == nameless.name


def test_more_work_costs_more(random_adapter: Callable[..., Adapter]) -> None:
    sources = tuple(
        Source(random_adapter(seed, marks=("q_proj",)), trigger=f"thing {seed}") for seed in (1, 2)
    )
    request = MergeRequest(sources, samples=10)
    cheaper = (
        replace(request, method="tsv"),
        replace(request, samples=5),
        replace(request, teacher="single"),
        replace(request, method="regmean"),
    )
    for other in cheaper:
        assert merge_cost(other) < merge_cost(request) < merge_cost(replace(request, rounds=3))


def test_a_refinement_counts_its_paintings_and_its_steps(
    random_adapter: Callable[..., Adapter],
) -> None:
    sources = tuple(
        Source(random_adapter(seed, marks=("q_proj",)), trigger=f"thing {seed}") for seed in (1, 2)
    )
    plain = MergeRequest(sources, method="tsv")
    costs = [merge_cost(replace(plain, refine=steps)) for steps in (0, 1, 101)]
    painted, trained = costs[1] - costs[0], costs[2] - costs[1]
    assert painted > 2 * 64 * 2 * 2 * 15, "64 pictures of each order, each painted twice"
    assert trained > 100 * 3 * 32, "32 rows there and back"
    alone = replace(plain, refine=100, sources=sources[:1])
    assert merge_cost(alone) == costs[0], "one LoRA is its own merge"
