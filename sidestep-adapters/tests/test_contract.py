"""Every adapter type keeps the contract, in its main forms; files are read by the libraries they belong to."""

import pytest
from sidestep_adapters.configs import DoraConfig, LohaConfig, LokrConfig, LoraConfig, OftConfig
from sidestep_core.testing.contracts import AdapterContract, PluginContract


class TestPlugin(PluginContract):
    plugin = "sidestep_adapters.plugin"


class Contract(AdapterContract):
    plugin = "sidestep_adapters.plugin"

    @pytest.fixture(autouse=True)
    def _plain(self, plain):
        self.plain = plain

    def saved_deltas(self, folder):
        return self.plain.deltas(folder)


class TestLora(AdapterContract):
    plugin, name = "sidestep_adapters.plugin", "lora"
    config = LoraConfig(rank=4, alpha=12)


class TestPissa(Contract):
    name, config = "lora", LoraConfig(rank=4, alpha=6, init_weights="pissa")


class TestDora(Contract):
    name, config = "dora", DoraConfig(rank=4, alpha=12)


class TestLokr(Contract):
    name, config = "lokr", LokrConfig()


class TestLokrDecomposed(Contract):
    name = "lokr"
    config = LokrConfig(rank=2, alpha=3, decompose_both=True, weight_decompose=True, use_scalar=True)


class TestLoha(Contract):
    name, config = "loha", LohaConfig(rank=8, alpha=16)


class TestLohaNarrow(Contract):
    name, config = "loha", LohaConfig(rank=2, alpha=4, use_scalar=True)


class TestOft(Contract):
    name, config = "oft", OftConfig(block_size=16)
