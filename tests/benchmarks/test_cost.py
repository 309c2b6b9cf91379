"""What a model costs at least, against figures that were counted elsewhere."""

from __future__ import annotations

import pytest

from fastvlm.benchmarks.cost import MachinePeak, encoder_macs, first_token_macs, measure_peak, prefill_macs
from fastvlm.benchmarks.shapes import SHAPES

MODEL = SHAPES["fastvlm-0.5b"]


@pytest.mark.parametrize(("size_px", "giga_macs"), [(256, 14.8), (512, 59.6), (768, 135), (1024, 243), (1536, 567)])
def test_the_encoder_costs_what_was_counted_by_a_profiler(size_px: int, giga_macs: float) -> None:
    found = encoder_macs(MODEL.vision, height_px=size_px, width_px=size_px) / 1e9
    assert found == pytest.approx(giga_macs, rel=0.01)


def test_the_prefill_costs_what_was_counted_by_a_profiler() -> None:
    assert 2 * prefill_macs(MODEL.decoder, num_tokens=286) / 1e9 == pytest.approx(208, rel=0.01)


def test_a_floor_is_the_work_over_the_peak() -> None:
    peak = MachinePeak(tera_ops_per_second={"bfloat16": 2.0}, memory_gb_per_second=25.0)
    macs = first_token_macs(MODEL, size_px=1024, num_text_tokens=30)
    assert peak.floor_ms(macs, precision="bfloat16") == pytest.approx(2 * macs / 2e12 * 1000)
    assert 300 < peak.floor_ms(macs, precision="bfloat16") < 400


def test_the_peak_of_this_machine_is_positive() -> None:
    peak = measure_peak(("float32",), num_threads=1, num_runs=1)
    assert 0.001 < peak.tera_ops_per_second["float32"] < 100
    assert 0.5 < peak.memory_gb_per_second < 5000
