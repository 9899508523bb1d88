"""Calibration samples against DDIM by hand, on the embedded base."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from diffusers import DDIMScheduler

from merging.adapter import Adapter
from merging.calibration.plan import Sweep
from merging.calibration.row_sets import row_sets
from merging.diffusion import calibration_samples as sampling
from merging.diffusion.base import Base
from merging.diffusion.calibrate import activations
from merging.diffusion.tokens import text_ids
from merging.engine import merge
from merging.errors import Cancelled
from merging.linalg.delta import ScaledDeltas
from merging.request import MergeRequest, Source
from merging.runtime.progress import never, silent
from merging.runtime.seeds import seed_for
from tests.conftest import SINGLE


@pytest.mark.slow
def test_every_sample_lies_on_its_own_loras_trajectory(
    base: Base, random_adapter: Callable[..., Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In batches of five, and nothing is drawn beyond the step that is kept."""
    monkeypatch.setattr(sampling, "POSITIONS_PER_BATCH", 5 * 16 * 16)
    pair = random_adapter(1), random_adapter(2)
    sets = row_sets(MergeRequest(tuple(map(Source, pair)), samples=12, **SINGLE))
    deltas = tuple(dict(ScaledDeltas(one.layers, 1.0)) for one in pair)
    sweep = Sweep(deltas, (), {}, sets, merged_inputs=True)
    drawn: list[int] = []
    unet = base.pipeline.unet
    watch = unet.register_forward_hook(lambda _unet, inputs, _output: drawn.append(len(inputs[0])))
    samples = sampling.draw_samples(base, sweep, True, silent, never)
    watch.remove()
    wanted = [*range(10), 0, 1]
    assert sum(drawn) == 2 * sum(wanted)
    generator = torch.Generator().manual_seed(seed_for(0, "noise", "random-1"))
    latents = torch.randn(12, 8, 16, 16, generator=generator)
    scheduler = DDIMScheduler.from_config(base.pipeline.scheduler.config)
    scheduler.set_timesteps(10)
    with torch.no_grad(), base.changed(deltas[0]):
        states = base.pipeline.text_encoder(text_ids(base, sets[0].prompts))[0]
        for step, time in enumerate(scheduler.timesteps):
            for place in (place for place, each in enumerate(wanted) if each == step):
                assert samples[place].timestep == time and samples[place].row_set == 0
                torch.testing.assert_close(samples[place].latent, latents[place])
            noise = unet(latents, time, encoder_hidden_states=states).sample
            latents = scheduler.step(noise, time, latents).prev_sample


def test_a_stop_takes_effect_while_a_picture_is_sampled(
    base: Base, random_adapter: Callable[..., Adapter]
) -> None:
    """At every layer: one step of SD 1.5 takes a CPU many seconds."""
    begun: list[bool] = []
    ended: list[bool] = []
    layers = base.layers["unet.conv_in"], base.layers["unet.conv_out"]
    watches = [
        layer.register_forward_hook(lambda *_, seen=seen: seen.append(True))
        for layer, seen in zip(layers, (begun, ended), strict=True)
    ]
    with pytest.raises(Cancelled):
        request = MergeRequest((Source(random_adapter(1)),), samples=2, **SINGLE)
        merge(request, activations(base), stop=lambda: bool(begun))
    for watch in watches:
        watch.remove()
    assert len(begun) == 1 and not ended
    assert not any(layer._forward_pre_hooks for layer in base.layers.values())
