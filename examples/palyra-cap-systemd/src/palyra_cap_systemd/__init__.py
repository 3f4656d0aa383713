"""``systemd.unit_status``: the state of a systemd unit of a device."""
