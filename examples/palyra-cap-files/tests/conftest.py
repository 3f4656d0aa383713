"""The plugin, run as a node would: in a thread for speed, in a process as on a device."""

import pytest

from palyra_cap_files import plugin

DISTRIBUTION = "palyra-cap-files"
pytest_plugins = ["palyra.testing.capability"]


@pytest.fixture(scope="module", params=["thread", "process"])
def host(request, capability_host):
    """Runs the capability; the process needs this package to be installed."""
    return capability_host(plugin if request.param == "thread" else DISTRIBUTION)
