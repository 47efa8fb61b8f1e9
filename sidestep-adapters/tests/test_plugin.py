"""The package's plugin loads, and what it says about its components is right."""

from sidestep_adapters.configs import LoraConfig, count_lora
from sidestep_core.testing.contracts import PluginContract


class TestAdaptersPlugin(PluginContract):
    plugin = "sidestep_adapters.plugin"


def test_a_lora_has_rank_rows_and_columns_for_every_feature():
    assert count_lora(LoraConfig(rank=8), 100, 20, None) == 8 * 120


def test_a_modules_own_rank_is_counted():
    assert count_lora(LoraConfig(rank=8), 100, 20, 3) == 3 * 120
