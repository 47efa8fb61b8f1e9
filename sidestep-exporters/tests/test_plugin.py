"""The package's plugin loads."""

from sidestep_core.testing.contracts import PluginContract


class TestExportersPlugin(PluginContract):
    plugin = "sidestep_exporters.plugin"
