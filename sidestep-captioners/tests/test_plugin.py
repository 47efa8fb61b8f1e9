"""The package's plugin loads."""

from sidestep_core.testing.contracts import PluginContract


class TestCaptionersPlugin(PluginContract):
    plugin = "sidestep_captioners.plugin"
